"""Readers of what other tools wrote."""
