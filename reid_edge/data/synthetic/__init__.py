"""The built-in data set: drawn pedestrians, seen by several cameras."""
