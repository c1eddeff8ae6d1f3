"""A communicator that the user brings: find it, load it, fit its signatures."""
