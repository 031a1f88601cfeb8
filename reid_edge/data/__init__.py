"""Data sets and images: which crops there are, their persons and cameras, and how pixels are read."""
