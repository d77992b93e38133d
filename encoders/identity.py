"""No image at all: the series, as an image of one column. What imaging is measured against."""

from __future__ import annotations

import numpy as np
import torch

from netgen.encoders.log_scale import IDLE


class IdentityEncoder:
    """Scaled series as they are (see `netgen.encoders.base.Encoder`)."""

    name = "series"
    exact_to = 2**16
    mirror = 0

    def columns(self, bins: int) -> int:
        """One."""
        return 1

    def repeats(self, bins: int) -> int:
        """One."""
        return 1

    def encode(self, scaled: np.ndarray) -> np.ndarray:
        """The series with an axis more, float32 (flows, channels, bins, 1)."""
        return np.asarray(scaled, np.float32)[..., None]

    def encode_tensor(self, scaled: torch.Tensor) -> torch.Tensor:
        """The same, (..., bins) to (..., bins, 1)."""
        return scaled.unsqueeze(-1)

    def decode(self, images: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values, cut to [0.25, 1], and how much was cut."""
        given = torch.as_tensor(images).double().squeeze(-1)
        scaled = given.clamp(IDLE, 1)
        return scaled.numpy(), (scaled - given).square().mean(-1).sqrt().numpy()
