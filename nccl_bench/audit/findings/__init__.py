"""The findings of an audit, of each rank and of all ranks together, and the suppressions. No torch."""
