"""Train a diffusion model on images with stratum numbers, and sample from it. Knows neither bytes nor class names."""
