"""What a step is made of: optimisers, precision, and when losses are read."""
