"""Two reports of bench, row by row: what changed, how sure that is, and which rules it breaks."""
