"""The trained model: its file, its strata, and sampling from it."""
