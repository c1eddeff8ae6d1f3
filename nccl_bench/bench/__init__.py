"""Measuring: one rank's part of a run, from its buffers and its check to its timings and its record."""
