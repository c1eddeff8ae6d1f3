"""The user's settings: options, TOML files, thresholds, sizes and user arms. No torch."""
