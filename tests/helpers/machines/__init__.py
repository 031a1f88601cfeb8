"""Machines that are not here: their files and the output of their commands, replayed whole."""
