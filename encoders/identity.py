"""No image: the series itself, as an image of one column. The baseline of the other encoders."""

from __future__ import annotations

import numpy as np
import torch

from netgen.encoders.base import Encoder
from netgen.encoders.log_scale import IDLE


class IdentityEncoder(Encoder):
    """Scaled series as they are (see `netgen.encoders.base.Encoder`)."""

    name = "series"
    symmetry = 0

    def columns(self, bins: int) -> int:  # noqa: ARG002 - of the interface
        """Return 1."""
        return 1

    def encode_tensor(self, scaled: torch.Tensor) -> torch.Tensor:
        """Add an axis to the series: (..., bins, 1)."""
        return scaled.unsqueeze(-1)

    def decode(self, images: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Clip the values to [0.25, 1]; the distance is how much was clipped."""
        values = torch.as_tensor(images).double().squeeze(-1)
        scaled = values.clamp(IDLE, 1)
        return scaled.numpy(), (scaled - values).square().mean(-1).sqrt().numpy()
