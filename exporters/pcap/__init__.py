"""Write flows as packets of a capture file."""
