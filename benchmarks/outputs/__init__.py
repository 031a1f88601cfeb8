"""A report of bench as a CSV file, and as a table for a README."""
