"""Starting ranks with torchrun and watching them, or joining ranks that another launcher started. No torch."""
