"""Turn the numbers a network sampled into whole packets and bytes."""
