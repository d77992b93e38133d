r"""Gramian angular summation fields, and their inverse by least squares.

Wang & Oates 2015; equation 1 of the NetDiffus paper. A scaled value is a cosine,
``x_i = cos(phi_i)``, and the image is

.. math:: G_{ij} = \cos(\phi_i + \phi_j) = x_i x_j - \sqrt{1 - x_i^2} \sqrt{1 - x_j^2}.

The fields of series of N values form an N-dimensional surface in N*N pixels. A sampled image lies
near that surface; the inverse takes the nearest point on it, using every pixel, where the diagonal
alone (``G_ii = 2 x_i^2 - 1``) would use N of them.
"""

from __future__ import annotations

import numpy as np
import torch

from netgen.encoders.gramian import GramianEncoder, gramian_field
from netgen.encoders.log_scale import IDLE

GAUSS_NEWTON_STEPS = 6  # Gauss-Newton converges quadratically from the diagonal; 4 reach float64 on exact fields
MAX_ANGLE = float(np.arccos(IDLE))


class GasfEncoder(GramianEncoder):
    """GASF images of scaled series (see `netgen.encoders.base.Encoder`)."""

    name = "gasf"
    symmetry = 1

    def encode(self, scaled: np.ndarray) -> np.ndarray:
        """Return the images of series in [-1, 1], (flows, channels, bins) to float32 (flows, channels, bins, bins)."""
        return gramian_field(scaled, "summation").astype(np.float32)

    def encode_tensor(self, scaled: torch.Tensor) -> torch.Tensor:
        """Return the same images on the device of `scaled`, (..., bins) to (..., bins, bins)."""
        sine = (1 - scaled.square()).clamp_min(0).sqrt()
        return scaled.unsqueeze(-1) * scaled.unsqueeze(-2) - sine.unsqueeze(-1) * sine.unsqueeze(-2)

    def decode(self, images: torch.Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the scaled series whose fields are nearest to the images, and the rms distance of the two.

        Least squares over all pixels by Gauss-Newton in the angles. With ``S = sin(phi_i + phi_j)`` the normal matrix
        is ``diag(sum_j S_ij^2) + S*S``, and ``S*S = (1 - cos 2phi_i cos 2phi_j + sin 2phi_i sin 2phi_j) / 2`` has rank
        3, so each step costs O(N^2), not O(N^3).
        """
        field = torch.as_tensor(images)
        field = (field + field.mT).double() / 2
        shape, bins = field.shape[:-2], field.shape[-1]
        field = field.reshape(-1, bins, bins)
        diagonal = field.diagonal(dim1=-2, dim2=-1)
        angle = ((diagonal + 1) / 2).clamp(IDLE**2, 1).sqrt().acos()
        for _ in range(GAUSS_NEWTON_STEPS):
            angle = (angle + _gauss_newton(field, angle)).clamp(0, MAX_ANGLE)
        scaled = angle.cos()
        residual = (self.encode_tensor(scaled) - field).square().mean((-2, -1)).sqrt()
        return scaled.reshape(*shape, bins).numpy(), residual.reshape(shape).numpy()


def _gauss_newton(field: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Return one step of ``(D + S*S) d = (S * (cos(phi_i + phi_j) - G)) 1``, by Woodbury's identity.

    No N x N matrix is formed but the field itself: the right side is
    ``sum_j sin(2phi_i + 2phi_j) / 2 - (sin phi_i (G cos phi)_i + cos phi_i (G sin phi)_i)``.
    """
    c, s = angle.cos(), angle.sin()
    c2, s2, q = (2 * angle).cos(), (2 * angle).sin(), s.square()
    projected = field @ torch.stack([c, s], dim=-1)
    right = (s2 * c2.sum(-1, keepdim=True) + c2 * s2.sum(-1, keepdim=True)) / 2
    right = right - s * projected[..., 0] - c * projected[..., 1]
    # S*S = U M U^T with the columns 1, q = sin^2 phi, sin 2phi; with cos 2phi = 1 - 2 q instead
    # of q, two columns would be equal if all angles were 0, and the system singular
    u = torch.stack([torch.ones_like(angle), q, s2], dim=-1)
    mix = u.new_tensor([[0, 1, 0], [1, -2, 0], [0, 0, 0.5]])
    weight = (u * (u.sum(-2, keepdim=True) @ mix)).sum(-1).clamp_min(1e-9)
    inner = torch.linalg.inv(mix) + u.mT @ (u / weight.unsqueeze(-1))
    scaled_right = right / weight
    middle = torch.linalg.solve(inner, u.mT @ scaled_right.unsqueeze(-1))
    return scaled_right - (u / weight.unsqueeze(-1) @ middle).squeeze(-1)
