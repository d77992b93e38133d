"""Series into images, and images back into series. Knows numbers only: no capture, no model."""
