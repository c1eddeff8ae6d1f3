"""Starts ranks with torchrun and watches them, or joins ranks that another launcher started. Nothing imports torch."""
