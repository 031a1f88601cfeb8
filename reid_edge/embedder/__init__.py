"""Crops in, embeddings out: what most programs use."""
