"""Another project's embedder in: its ONNX file read, wrapped as one of reid-edge's, and held to the original."""
