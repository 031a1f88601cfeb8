"""A real browser for pages, and reports to make pages of."""
