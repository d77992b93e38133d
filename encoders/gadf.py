"""The Gramian angular difference field, with the values themselves on its empty diagonal.

Wang & Oates 2015: with ``x_i = cos(phi_i)`` the image is

.. math:: G_{ij} = \\sin(\\phi_i - \\phi_j) = \\sqrt{1 - x_i^2} x_j - x_i \\sqrt{1 - x_j^2}.

Adding the same to all angles changes nothing, so the field alone cannot be inverted; its diagonal is
always 0. Here it carries ``x_i``, which tells what all angles have in common.
"""

from __future__ import annotations

import numpy as np
import torch

from netgen.encoders.gasf import MAX_ANGLE


class GadfEncoder:
    """GADF images of scaled series (see `netgen.encoders.base.Encoder`)."""

    name = "gadf"
    exact_to = 2**16
    mirror = -1

    def columns(self, bins: int) -> int:
        """As many as rows."""
        return bins

    def repeats(self, bins: int) -> int:
        """A row and a column."""
        return 2 * bins

    def encode(self, scaled: np.ndarray) -> np.ndarray:
        """Images of scaled series, by pyts; (flows, channels, bins) to float32 (flows, channels, bins, bins)."""
        from pyts.image import GramianAngularField  # brings numba, which sampling does not need

        flows, channels, bins = scaled.shape
        if not flows:
            return np.zeros((0, channels, bins, bins), dtype=np.float32)
        field = GramianAngularField(image_size=1.0, sample_range=None, method="difference")
        images = field.transform(scaled.reshape(flows * channels, bins)).astype(np.float32)
        images[:, range(bins), range(bins)] = scaled.reshape(-1, bins)
        whole: np.ndarray = images.reshape(flows, channels, bins, bins)
        return whole

    def encode_tensor(self, scaled: torch.Tensor) -> torch.Tensor:
        """The same images on the device of `scaled`, (..., bins) to (..., bins, bins)."""
        sine = (1 - scaled.square()).clamp_min(0).sqrt()
        field = sine.unsqueeze(-1) * scaled.unsqueeze(-2) - scaled.unsqueeze(-1) * sine.unsqueeze(-2)
        field.diagonal(dim1=-2, dim2=-1).copy_(scaled)
        return field

    def decode(self, images: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Series of images (..., bins, bins), and how far the images are from those of the series.

        The mean over row i of ``phi_i - phi_j`` is ``phi_i`` less what all have in common, which the diagonal gives.
        Differences are less than a quarter turn, so the arc sine is one-to-one.
        """
        given = torch.as_tensor(images).double()
        bins = given.shape[-1]
        diagonal = given.diagonal(dim1=-2, dim2=-1).clamp(0.25, 1)
        difference = ((given - given.mT) / 2).clamp(-1, 1).asin()
        relative = difference.sum(-1) / bins
        # near 1 the arc cosine magnifies float32's last digit by 1 / sin: each counts by its certainty
        rough = relative + diagonal.acos().mean(-1, keepdim=True)
        weight = rough.sin().square() + 1e-9
        common = (weight * (diagonal.acos() - relative)).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
        angle = relative + common
        scaled = angle.clamp(0, MAX_ANGLE).cos()
        residual = (self.encode_tensor(scaled) - given).square().mean((-2, -1)).sqrt()
        return scaled.numpy(), residual.numpy()
