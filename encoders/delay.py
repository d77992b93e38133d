"""Delay embedding: row i of the image is what happens from bin i on.

Takens 1981; as images for diffusion models, Naiman et al., "Utilizing Image Transforms and Diffusion Models for
Generative Modeling of Short and Long Time Series" (ImagenTime), NeurIPS 2024. No value is transformed, so
the image is linear in the series and its inverse is a mean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from netgen.encoders.log_scale import IDLE

WINDOW = 16


class DelayEncoder:
    """Delay embeddings of scaled series (see `netgen.encoders.base.Encoder`); after the last bin comes nothing."""

    name = "delay"
    exact_to = 2**16
    mirror = 0

    def columns(self, bins: int) -> int:
        """The window, or all bins where there are fewer."""
        return min(WINDOW, bins)

    def repeats(self, bins: int) -> int:
        """One pixel in each of so many rows."""
        return min(WINDOW, bins)

    def encode(self, scaled: np.ndarray) -> np.ndarray:
        """Images, float32 (flows, channels, bins, window)."""
        images: np.ndarray = self.encode_tensor(torch.from_numpy(np.asarray(scaled, np.float64))).float().numpy()
        return images

    def encode_tensor(self, scaled: torch.Tensor) -> torch.Tensor:
        """The same images on the device of `scaled`, (..., bins) to (..., bins, window)."""
        window = self.columns(scaled.shape[-1])
        return functional.pad(scaled, (0, window - 1), value=IDLE).unfold(-1, window, 1).contiguous()

    def decode(self, images: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The series whose images are nearest: each value the mean of the pixels in which it stands."""
        given = torch.as_tensor(images).double()
        *shape, bins, window = given.shape
        flat = given.reshape(-1, bins, window)
        total, count = flat.new_zeros(len(flat), bins + window - 1), flat.new_zeros(bins + window - 1)
        for ahead in range(window):
            total[:, ahead : ahead + bins] += flat[:, :, ahead]
            count[ahead : ahead + bins] += 1
        scaled = (total / count)[:, :bins].clamp(IDLE, 1)
        residual = (self.encode_tensor(scaled) - flat).square().mean((-2, -1)).sqrt()
        return scaled.reshape(*shape, bins).numpy(), residual.reshape(shape).numpy()
