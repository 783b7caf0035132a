"""Floor 0: bytes to rows and back, by content type."""
