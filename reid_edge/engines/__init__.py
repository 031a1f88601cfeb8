"""Engines: what runs a model file. One contract (`base`), a backend a file."""
