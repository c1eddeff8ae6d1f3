"""A report as one web page: a single file that loads nothing, and that a browser opens without a network."""
