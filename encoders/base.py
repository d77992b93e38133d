"""What every encoder promises, so that the model need not know which one it has."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch


class Encoder(Protocol):
    """Turns scaled series into images, one a channel, and images back into series.

    Attributes
    ----------
    name : str
        What models and the command line call it.
    exact_to : int
        Decoding an encoded series gives back the same integers up to this one; larger ones may come back
        off by what float32 pixels leave of them.
    mirror : int
        What an image is to its transpose: 1 its like, -1 its opposite (but for the diagonal), 0 neither.
    """

    name: str
    exact_to: int
    mirror: int

    def columns(self, bins: int) -> int:
        """Columns of the image of a series of so many bins; it has as many rows as there are bins."""

    def repeats(self, bins: int) -> int:
        """Pixels in which each number of a series stands: so much more noise hides it."""

    def encode(self, scaled: np.ndarray) -> np.ndarray:
        """Images, float32 (flows, channels, bins, columns), of series (flows, channels, bins)."""

    def encode_tensor(self, scaled: torch.Tensor) -> torch.Tensor:
        """The same (..., bins, columns), on the device of `scaled` (..., bins): for batches of a training."""

    def decode(self, images: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Series float64 (..., bins) in [0.25, 1] whose images lie near, and the distance left (...), rms."""
