"""What an audit found: the findings of each rank, joined over all ranks, and the suppressions. No torch."""
