"""Architectures, and the weights that they are built from."""
