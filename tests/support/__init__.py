"""Helpers shared by tests: generated captures, independent oracles, and other programs."""
