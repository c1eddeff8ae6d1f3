"""User arms: this package finds the user's communicator, loads it, and fits its signatures to our protocol."""
