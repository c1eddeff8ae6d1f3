"""An arm at work: a communicator and how its calls are ordered."""
