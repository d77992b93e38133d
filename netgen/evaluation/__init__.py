"""Two tables of flows in, figures out. Knows nothing of how either was made."""
