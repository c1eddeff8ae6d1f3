"""What other people wrote, and what nobody else may read: safe reading of files, and secrets. No torch."""
