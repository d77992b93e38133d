"""Capture files to columns of records."""
