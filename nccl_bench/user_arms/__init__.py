"""User arms: find the communicator that the user brings, load it, and fit its signatures to our protocol."""
