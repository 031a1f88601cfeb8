"""Execution providers of ONNX Runtime: what each is told, and those that are packages of their own."""
