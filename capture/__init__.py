"""Captures in, a table of labelled flows out. The ground floor: every other room may import it."""
