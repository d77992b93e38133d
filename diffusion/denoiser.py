"""From a network to a denoiser: noise levels, preconditioning, the training loss.

Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models" (EDM), with one
change: the network predicts the clean image itself, with no skip connection (Li & He, arXiv
2511.13720). A field is a surface of N dimensions in N*N pixels; a network that must also carry the
noise through never lands on it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What the network's input and output are measured against.

    Parameters
    ----------
    centre : float
        Mean pixel of the training images.
    spread : float
        Root mean square of the pixels about it: sigma_data.
    """

    centre: float
    spread: float

    @classmethod
    def of(cls, images: Tensor) -> Statistics:
        """Of some training images; by numpy, whose sums do not depend on the number of threads."""
        pixels = images.cpu().numpy()
        centre = float(pixels.mean(dtype=np.float64))
        return cls(centre, max(float(np.square(pixels - centre).mean(dtype=np.float64)) ** 0.5, 1e-3))

    def to_json(self) -> dict[str, float]:
        """As JSON types."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class NoiseConfig:
    """Noise levels of training and of sampling.

    In a Gramian field every number of the series stands in about 2N pixels, so a level that hides a series lies far
    above the one that hides a photograph.

    Parameters
    ----------
    mean, std : float
        log sigma ~ N(mean, std^2) in training.
    highest, lowest : float
        Sigmas at which sampling begins and ends.
    steps : int
        Steps of sampling, unless asked otherwise; each is one evaluation of the network.
    """

    mean: float = 0.7
    std: float = 1.5
    highest: float = 300.0
    lowest: float = 0.1
    steps: int = 10

    @classmethod
    def of(cls, pixels: int) -> NoiseConfig:
        """Levels for images in which each number stands in so many pixels; the defaults are for 256.

        Where each stands in n pixels, the mean of these has ``sigma / sqrt(n)`` of noise.
        """
        more = math.sqrt(pixels / 256)
        plain = cls()
        return cls(plain.mean + math.log(more), plain.std, plain.highest * more, plain.lowest * more, plain.steps)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return dataclasses.asdict(self)

    def draw(self, number: int, generator: torch.Generator) -> Tensor:
        """Sigmas to train on, shape (number,)."""
        return torch.exp(torch.randn(number, generator=generator) * self.std + self.mean)


def image_noise(shape: tuple[int, ...], generator: torch.Generator, mirror: int) -> Tensor:
    """Gaussian noise of unit variance off the diagonal, to its transpose what images are to theirs.

    Only that part of noise would reach a network whose output is so.

    Parameters
    ----------
    shape : tuple of int
        (..., rows, columns).
    generator : Generator
    mirror : int
        1: equal to its transpose; -1: opposite to it, but for the diagonal, which is of unit variance; 0: any.
    """
    noise = torch.randn(shape, generator=generator)
    if mirror == 0:
        return noise
    mirrored = (noise + mirror * noise.mT) * math.sqrt(0.5)
    if mirror < 0:
        mirrored.diagonal(dim1=-2, dim2=-1).copy_(noise.diagonal(dim1=-2, dim2=-1))
    return mirrored


class Denoiser(nn.Module):
    """``D(x; sigma) = centre + spread F(c_in (x - centre); c_noise)``: the expected clean image.

    Parameters
    ----------
    network : Module
        ``F(image, noise, label, how)``.
    statistics : Statistics
        Centre and spread of the training images.
    unlabelled : int
        The label that stands for "no class".
    """

    def __init__(self, network: nn.Module, statistics: Statistics, unlabelled: int) -> None:
        super().__init__()
        self.network = network
        self.statistics = statistics
        self.unlabelled = unlabelled

    def forward(self, image: Tensor, sigma: Tensor, label: Tensor, how: Tensor | None = None) -> Tensor:
        """Clean images; ``image`` (batch, channels, bins, columns), ``sigma`` and ``label`` (batch,).

        ``how`` says how they were changed and what they are like, see `netgen.diffusion.network`.
        """
        centre, spread = self.statistics.centre, self.statistics.spread
        c_in = (sigma.square() + spread**2).rsqrt()  # EDM, table 1
        out: Tensor = self.network((image - centre) * c_in[:, None, None, None], sigma.log() / 4, label, how)
        return out * spread + centre

    def guided(self, image: Tensor, sigma: Tensor, label: Tensor, guidance: float, how: Tensor | None = None) -> Tensor:
        """Classifier-free guidance: ``D_none + w (D_class - D_none)``; at 1 the plain denoiser."""
        if guidance == 1.0:
            return self(image, sigma, label, how)
        none = self(image, sigma, torch.full_like(label, self.unlabelled), how)
        return torch.lerp(none, self(image, sigma, label, how), guidance)


def errors(
    denoiser: Denoiser, image: Tensor, noise: Tensor, sigma: Tensor, label: Tensor, how: Tensor | None = None
) -> Tensor:
    """Mean squared error of the clean image in units of its spread, shape (batch,)."""
    clean = denoiser(torch.addcmul(image, noise, sigma[:, None, None, None]), sigma, label, how)
    return (clean - image).square().mean((1, 2, 3)) / denoiser.statistics.spread**2


class LevelWeights:
    """Weights that make every noise level count alike: one over the error seen there lately.

    Left alone, the loss is all at high levels, where nothing can be learnt but the mean, and the
    last digits of a series, which are learnt at low levels, are never fitted. Karras et al. 2024
    (EDM2, eq. 14) learn these weights; a running mean in bins of log sigma does as well.

    Parameters
    ----------
    table : Tensor, shape (LEVELS,), optional
        Mean error of each level; 0 where none was seen yet.
    """

    LEVELS = 40
    LOWEST, HIGHEST = -4.0, 6.0  # log sigma
    MEMORY = 0.98

    def __init__(self, table: Tensor | None = None) -> None:
        self.table = torch.zeros(self.LEVELS) if table is None else table

    def __call__(self, sigma: Tensor, error: Tensor) -> Tensor:
        """Weights for errors of shape (batch,), after these errors were noted."""
        share = (sigma.log() - self.LOWEST) / (self.HIGHEST - self.LOWEST)
        level = (share * self.LEVELS).long().clamp(0, self.LEVELS - 1).cpu()
        seen = error.detach().float().cpu()
        count = torch.bincount(level, minlength=self.LEVELS)
        mean = torch.bincount(level, weights=seen, minlength=self.LEVELS).float() / count.clamp_min(1)
        memory = torch.where(self.table > 0, self.MEMORY, 0.0)
        self.table = torch.where(count > 0, self.table * memory + mean * (1 - memory), self.table)
        return (1 / self.table[level].clamp_min(1e-9)).to(error.device)
