"""Turn scaled series into images, and images back into series. Knows arrays only: neither captures nor models."""
