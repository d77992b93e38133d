"""The interface of every encoder, so that the model need not know which one it has."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch


class Encoder(Protocol):
    """Turns scaled series into images, one per channel, and images back into series.

    Attributes
    ----------
    name : str
        Its name in model files and on the command line.
    symmetry : int
        1: images are symmetric; -1: antisymmetric but for the diagonal; 0: neither.
    """

    name: str
    symmetry: int

    def columns(self, bins: int) -> int:
        """Return the columns of the image of a series; its rows are the bins."""

    def pixels_per_value(self, bins: int) -> int:
        """Return how many pixels show each value: the more, the more noise it takes to hide it."""

    def encode(self, scaled: np.ndarray) -> np.ndarray:
        """Turn series (flows, channels, bins) into images, float32 (flows, channels, bins, columns)."""

    def encode_tensor(self, scaled: torch.Tensor) -> torch.Tensor:
        """Turn series (..., bins) into the same images (..., bins, columns), on their device."""

    def decode(self, images: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return series float64 (..., bins) in [0.25, 1] whose images are near, and the rms distance left (...)."""
