"""The interface of every encoder, so that the model need not know which one it has."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch


class Encoder(ABC):
    """Turns scaled series into images, one per channel, and images back into series."""

    name: str  # in model files and on the command line
    symmetry: int  # 1: images are symmetric; -1: antisymmetric but for the diagonal; 0: neither

    @abstractmethod
    def columns(self, bins: int) -> int:
        """Return the columns of the image of a series; its rows are the bins."""

    def pixels_per_value(self, bins: int) -> int:
        """Return how many pixels show each value: the more, the more noise it takes to hide it."""
        return self.columns(bins)

    def encode(self, scaled: np.ndarray) -> np.ndarray:
        """Turn series (flows, channels, bins) into images, float32 (flows, channels, bins, columns)."""
        return self.encode_tensor(torch.from_numpy(np.asarray(scaled, np.float64))).float().numpy()

    @abstractmethod
    def encode_tensor(self, scaled: torch.Tensor) -> torch.Tensor:
        """Turn series (..., bins) into the same images (..., bins, columns), on their device."""

    @abstractmethod
    def decode(self, images: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return series float64 (..., bins) in [0.25, 1] whose images are near, and the rms distance left (...)."""
