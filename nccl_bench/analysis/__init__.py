"""What the records say: one row per case, arm and timing, and what went wrong. Numbers in, numbers out."""
