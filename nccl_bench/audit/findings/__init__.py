"""The findings of an audit: those of each rank, the same joined over all ranks, and the suppressions. No torch."""
