"""ONNX graphs: read and written, and exact or FP16 rewrites of them."""
