"""Runs on a GPU side by side: a lane is one CUDA stream with its contexts, buffers and graphs."""
