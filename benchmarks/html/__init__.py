"""Pages of what was measured: one self-contained HTML file of small parts, readable without network and scripts."""
