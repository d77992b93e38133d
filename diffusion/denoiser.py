"""From a network to a denoiser: noise levels, preconditioning, the training loss.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (EDM), with one
change: the network predicts the clean image itself, without a skip connection (Li & He, arXiv
2511.13720). The Gramian fields of series of N values form an N-dimensional surface in N*N pixels; a
network that must also carry the noise through never reaches it.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Scale of the training images."""

    mean: float  # mean pixel
    sigma_data: float  # standard deviation of the pixels

    @classmethod
    def of(cls, images: Tensor) -> Statistics:
        """Measure images, with numpy, whose sums do not depend on the number of threads."""
        pixels = images.cpu().numpy()
        mean = float(pixels.mean(dtype=np.float64))
        return cls(mean, max(float(np.square(pixels - mean).mean(dtype=np.float64)) ** 0.5, 1e-3))


@dataclasses.dataclass(frozen=True)
class NoiseConfig:
    """Noise levels of training and of sampling.

    In a Gramian field about 2N pixels show each value of the series, so the level that hides a series
    is far above the one that hides a photograph.
    """

    mean: float = 0.7  # log sigma ~ N(mean, std^2) in training
    std: float = 1.5
    sigma_max: float = 300.0  # noise level at which sampling begins
    sigma_min: float = 0.1  # noise level at which it ends
    sampling_steps: int = 10  # by default; each is one evaluation of the network

    @classmethod
    def of(cls, pixels_per_value: int) -> NoiseConfig:
        """Return levels for images in which `pixels_per_value` pixels show each value; the defaults are for 256.

        The mean of n pixels has noise of ``sigma / sqrt(n)``.
        """
        factor = math.sqrt(pixels_per_value / 256)
        base = cls()
        return dataclasses.replace(
            base,
            mean=base.mean + math.log(factor),
            sigma_max=base.sigma_max * factor,
            sigma_min=base.sigma_min * factor,
        )

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Sample noise levels to train on, shape (n,)."""
        return torch.exp(torch.randn(n, generator=generator) * self.std + self.mean)


def image_noise(shape: tuple[int, ...], generator: torch.Generator, symmetry: int) -> Tensor:
    """Sample Gaussian noise (..., rows, columns), of unit variance off the diagonal, with the symmetry of the images.

    No other noise would reach a network whose output has that symmetry. 1: symmetric; -1: antisymmetric with a free
    diagonal of unit variance; 0: neither.
    """
    noise = torch.randn(shape, generator=generator)
    if symmetry == 0:
        return noise
    symmetric = (noise + symmetry * noise.mT) * math.sqrt(0.5)
    if symmetry < 0:
        symmetric.diagonal(dim1=-2, dim2=-1).copy_(noise.diagonal(dim1=-2, dim2=-1))
    return symmetric


class Denoiser(nn.Module):
    """The expected clean image: ``D(x; sigma) = mean + sigma_data F(c_in (x - mean); c_noise)``.

    ``F(image, noise_level, stratum, cond)`` is `network`; the stratum `no_stratum` stands for "any".
    """

    def __init__(self, network: nn.Module, statistics: Statistics, no_stratum: int) -> None:
        super().__init__()
        self.network = network
        self.statistics = statistics
        self.no_stratum = no_stratum

    def forward(self, image: Tensor, sigma: Tensor, stratum: Tensor, cond: Tensor | None = None) -> Tensor:
        """Denoise ``image`` (batch, channels, bins, columns), given ``sigma`` and ``stratum`` (batch,).

        ``cond`` (batch, features) holds augmentations and flow features, see `netgen.diffusion.network`.
        """
        mean, sigma_data = self.statistics.mean, self.statistics.sigma_data
        c_in = (sigma.square() + sigma_data**2).rsqrt()  # EDM, table 1
        out: Tensor = self.network((image - mean) * c_in[:, None, None, None], sigma.log() / 4, stratum, cond)
        return out * sigma_data + mean

    def guided(
        self, image: Tensor, sigma: Tensor, stratum: Tensor, guidance: float, cond: Tensor | None = None
    ) -> Tensor:
        """Denoise with classifier-free guidance: ``D_any + w (D_stratum - D_any)``; 1 is no guidance."""
        if guidance == 1.0:
            return self(image, sigma, stratum, cond)
        unconditional = self(image, sigma, torch.full_like(stratum, self.no_stratum), cond)
        return torch.lerp(unconditional, self(image, sigma, stratum, cond), guidance)


def denoising_error(
    denoiser: Denoiser, image: Tensor, noise: Tensor, sigma: Tensor, stratum: Tensor, cond: Tensor | None = None
) -> Tensor:
    """Return the mean squared error of each clean image over the variance of the images, shape (batch,)."""
    clean = denoiser(torch.addcmul(image, noise, sigma[:, None, None, None]), sigma, stratum, cond)
    return (clean - image).square().mean((1, 2, 3)) / denoiser.statistics.sigma_data**2


class LevelWeights:
    """Loss weights under which every noise level counts alike: one over the recent error at that level.

    Without them high levels, where only the mean can be learnt, make up the whole loss, and the last digits of a
    series, which are learnt at low levels, are never fitted. Karras et al. 2024 (EDM2, eq. 14) learn these weights; a
    running mean in bins of log sigma does as well. `mean_error` (LEVELS,) is 0 at levels without any error yet.
    """

    LEVELS = 40
    MIN_LOG_SIGMA = -4.0
    MAX_LOG_SIGMA = 6.0
    DECAY = 0.98

    def __init__(self, mean_error: Tensor | None = None) -> None:
        self.mean_error = torch.zeros(self.LEVELS) if mean_error is None else mean_error

    def __call__(self, sigma: Tensor, error: Tensor) -> Tensor:
        """Update the mean errors with ``error`` (batch,), then return the weight of each."""
        position = (sigma.log() - self.MIN_LOG_SIGMA) / (self.MAX_LOG_SIGMA - self.MIN_LOG_SIGMA)
        level = (position * self.LEVELS).long().clamp(0, self.LEVELS - 1).cpu()
        count = torch.bincount(level, minlength=self.LEVELS)
        total = torch.bincount(level, weights=error.detach().float().cpu(), minlength=self.LEVELS)
        mean = total.float() / count.clamp_min(1)
        decay = torch.where(self.mean_error > 0, self.DECAY, 0.0)
        self.mean_error = torch.where(count > 0, self.mean_error * decay + mean * (1 - decay), self.mean_error)
        return (1 / self.mean_error[level].clamp_min(1e-9)).to(error.device)
