"""Helpers that several tests share: fakes, synthetic runs, and the programs that integration tests start."""
