"""Floor 0: the words everybody uses. No input or output beyond the configuration."""
