"""The gates: whether a file still gives what its model gave."""
