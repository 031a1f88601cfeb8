"""The machine that a program runs on: its files and commands, and what their text says."""
