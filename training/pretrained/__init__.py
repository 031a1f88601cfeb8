"""Public weights that a training may start from: a table, a download that is checked, and a cache."""
