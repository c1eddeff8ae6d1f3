"""Helpers of the tests: stand-ins, synthetic runs, and programs that the integration tests start."""
