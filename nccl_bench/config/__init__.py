"""What the user asks for: options, TOML files, limits, sizes and user arms. No torch."""
