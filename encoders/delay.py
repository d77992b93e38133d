"""Delay embedding: row i of the image is the series from bin i on.

Takens 1981; as images for diffusion models, Naiman et al., "Utilizing Image Transforms and Diffusion Models for
Generative Modeling of Short and Long Time Series" (ImagenTime), NeurIPS 2024. No value is transformed, so
the image is linear in the series and its inverse is a mean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from netgen.encoders.base import Encoder
from netgen.encoders.log_scale import IDLE

WINDOW = 16


class DelayEncoder(Encoder):
    """Delay embeddings of scaled series (see `netgen.encoders.base.Encoder`), idle after the last bin."""

    name = "delay"
    symmetry = 0

    def columns(self, bins: int) -> int:
        """Return the window, or all bins if there are fewer; each value is in that many rows."""
        return min(WINDOW, bins)

    def encode_tensor(self, scaled: torch.Tensor) -> torch.Tensor:
        """Turn (..., bins) into (..., bins, window), on the device of `scaled`."""
        window = self.columns(scaled.shape[-1])
        return functional.pad(scaled, (0, window - 1), value=IDLE).unfold(-1, window, 1).contiguous()

    def decode(self, images: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the series whose images are nearest: each value is the mean of its pixels."""
        images = torch.as_tensor(images).double()
        *shape, bins, window = images.shape
        flat = images.reshape(-1, bins, window)
        total, count = flat.new_zeros(len(flat), bins + window - 1), flat.new_zeros(bins + window - 1)
        for delay in range(window):
            total[:, delay : delay + bins] += flat[:, :, delay]
            count[delay : delay + bins] += 1
        scaled = (total / count)[:, :bins].clamp(IDLE, 1)
        residual = (self.encode_tensor(scaled) - flat).square().mean((-2, -1)).sqrt()
        return scaled.reshape(*shape, bins).numpy(), residual.reshape(shape).numpy()
