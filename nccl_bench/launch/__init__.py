"""Starting the ranks: torchrun under this process's watch, or joining ranks that somebody else started. No torch."""
