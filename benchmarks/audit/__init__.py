"""A run of bench that a stranger can check: its rules, the hashes of what it measured, and the check itself."""
