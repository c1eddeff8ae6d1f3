"""Starts and watches ranks with torchrun, or joins ranks that another launcher started. No torch."""
