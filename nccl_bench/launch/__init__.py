"""Starts and watches ranks, or joins ranks that another launcher started. Only the agent imports torch."""
