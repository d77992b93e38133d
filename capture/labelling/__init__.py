"""Classes for flows."""
