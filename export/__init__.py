"""Export: ONNX files in FP32 and FP16, and the gate that proves them. Installed as reid_edge.export."""
