"""Add synthetic flows to classes that have few."""
