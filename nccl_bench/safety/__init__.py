"""Safe reading of files that other people wrote, and the handling of secrets. No torch."""
