"""What a run does: its cases, their memory and time, and which arms share processes. No torch."""
