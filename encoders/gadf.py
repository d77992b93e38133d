r"""Gramian angular difference fields, with the values themselves on the empty diagonal.

Wang & Oates 2015: with ``x_i = cos(phi_i)`` the image is

.. math:: G_{ij} = \sin(\phi_i - \phi_j) = \sqrt{1 - x_i^2} x_j - x_i \sqrt{1 - x_j^2}.

A constant added to all angles changes no pixel, so the field alone cannot be inverted. Its diagonal is
always 0; here it holds ``x_i``, which gives that constant.
"""

from __future__ import annotations

import numpy as np
import torch

from netgen.encoders.gasf import MAX_ANGLE
from netgen.encoders.gramian import GramianEncoder, gramian_field


class GadfEncoder(GramianEncoder):
    """GADF images of scaled series (see `netgen.encoders.base.Encoder`)."""

    name = "gadf"
    symmetry = -1

    def encode(self, scaled: np.ndarray) -> np.ndarray:
        """Return the images of series in [-1, 1], (flows, channels, bins) to float32 (flows, channels, bins, bins)."""
        images = gramian_field(scaled, "difference").astype(np.float32)
        diagonal = range(scaled.shape[-1])
        images[..., diagonal, diagonal] = scaled
        return images

    def encode_tensor(self, scaled: torch.Tensor) -> torch.Tensor:
        """Return the same images on the device of `scaled`, (..., bins) to (..., bins, bins)."""
        sine = (1 - scaled.square()).clamp_min(0).sqrt()
        field = sine.unsqueeze(-1) * scaled.unsqueeze(-2) - scaled.unsqueeze(-1) * sine.unsqueeze(-2)
        field.diagonal(dim1=-2, dim2=-1).copy_(scaled)
        return field

    def decode(self, images: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return series of images (..., bins, bins), and the rms distance of the images from theirs.

        The mean over row i of ``phi_i - phi_j`` is ``phi_i`` less a constant, which the diagonal gives.
        Differences are less than a quarter turn, so the arc sine is one-to-one.
        """
        images = torch.as_tensor(images).double()
        bins = images.shape[-1]
        diagonal = images.diagonal(dim1=-2, dim2=-1).clamp(0.25, 1)
        difference = ((images - images.mT) / 2).clamp(-1, 1).asin()
        relative = difference.sum(-1) / bins
        # near 1 the arc cosine magnifies float32's last digit by 1 / sin: weight by precision
        rough = relative + diagonal.acos().mean(-1, keepdim=True)
        weight = rough.sin().square() + 1e-9
        common = (weight * (diagonal.acos() - relative)).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
        scaled = (relative + common).clamp(0, MAX_ANGLE).cos()
        residual = (self.encode_tensor(scaled) - images).square().mean((-2, -1)).sqrt()
        return scaled.numpy(), residual.numpy()
