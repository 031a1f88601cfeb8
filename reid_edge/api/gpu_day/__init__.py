"""One command for a day with a GPU: all that waits for one, in under ten minutes, into one JSON file."""
