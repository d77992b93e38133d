"""Checks a capture for what netgen promises of its own: order, checksums, whole connections, the truth beside it."""
