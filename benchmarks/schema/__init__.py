"""The published JSON Schema of ``bench.json``, for programs that read it."""
