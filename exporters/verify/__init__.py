"""Check a capture for everything that netgen guarantees of its own captures."""
