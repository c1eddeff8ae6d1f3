"""The subject of the benchmark: communicators. Each communicator has its own rule for the stream of a collective."""
