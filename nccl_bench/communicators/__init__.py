"""The subject of the benchmark: communicators. Each has its own rule for the stream that a collective runs on."""
