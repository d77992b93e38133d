"""Packets to flows, and flows to the rows of a table."""
