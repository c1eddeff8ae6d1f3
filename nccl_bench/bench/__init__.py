"""The measurement of a run on one rank: its buffers, the check of results, its timings and its record."""
