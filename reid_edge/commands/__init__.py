"""The commands by theme: options, one call, a table. Each imports its room in its body, so that help stays quick."""
