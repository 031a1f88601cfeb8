"""Execution providers of ONNX Runtime: the options of each, and those that are packages of their own."""
