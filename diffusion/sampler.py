"""Samplers: free functions of a denoiser, a start and noise levels."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Inverse golden ratio; the fractional parts of its multiples are evenly spread.
INV_PHI = (math.sqrt(5) - 1) / 2


def karras_sigmas(steps: int, sigma_max: float, sigma_min: float, rho: float = 7.0) -> Tensor:
    """Return noise levels from `sigma_max` to `sigma_min`, then 0 (EDM, eq. 5); shape (steps + 1,)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    return torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)]).float()


def sample_dpmpp_2m(
    denoise: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigmas: Tensor,
    *,
    callback: Callable[[int], None] | None = None,
) -> Tensor:
    """Solve the probability-flow ODE with second-order steps of one evaluation each.

    DPM-Solver++(2M), Lu et al., arXiv 2211.01095, algorithm 2, with alpha = 1, so that lambda = -log sigma: the clean
    image is extrapolated from the last step. ``denoise(x, sigma)`` takes `x` (batch, channels, bins, columns), at first
    noise of standard deviation ``sigmas[0]``, and sigma (batch,). `sigmas` (steps + 1,) decrease to 0. `callback` gets
    the number of steps done.
    """
    previous, previous_h = x, 0.0
    for step, (sigma, next_sigma) in enumerate(itertools.pairwise(sigmas.tolist())):
        clean = denoise(x, torch.full((len(x),), sigma, dtype=x.dtype, device=x.device))
        h = math.log(sigma / next_sigma) if next_sigma else 0.0
        # the last step, to sigma 0, ends on the clean image itself
        target = clean + h / (2 * previous_h) * (clean - previous) if step and next_sigma else clean
        x = target + next_sigma / sigma * (x - target)
        previous, previous_h = clean, h
        if callback:
            callback(step + 1)
    return x


def sample_seed(seed: int, stratum: int, index: int) -> int:
    """Return one seed per sample, so that sample 17 of a stratum is the same whatever is sampled beside it."""
    state = (seed & (2**64 - 1)) * 0x9E3779B97F4A7C15 + stratum * 0xBF58476D1CE4E5B9 + index * 0x94D049BB133111EB
    state &= 2**64 - 1
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the finaliser of splitmix64
        state = ((state ^ (state >> shift)) * factor) & (2**64 - 1)
    return (state ^ (state >> 31)) >> 1


def pack_blocks(samples: Sequence[tuple[int, int]], block_size: int) -> list[list[int | None]]:
    """Arrange samples, (stratum, index) each, in blocks of equal size: rows of `samples`, None for an empty slot.

    The slot of a sample in its block depends on the sample alone, so that a matrix product sums its numbers in the same
    order whatever is sampled beside it. Strata begin at different slots, so that a few samples of each of many strata
    fill blocks.
    """
    slots: list[list[int]] = [[] for _ in range(block_size)]
    for row, (stratum, index) in enumerate(samples):
        slots[(index + int(stratum * INV_PHI * block_size)) % block_size].append(row)
    return [list(block) for block in itertools.zip_longest(*slots)]


@torch.no_grad()
def sample_block(
    denoise: Callable[..., Tensor],
    noise: Callable[[int, int], Tensor],
    members: Sequence[tuple[int, int] | None],
    sigmas: Tensor,
    *,
    device: torch.device,
    cond: Callable[[int, int], Tensor] | None = None,
) -> Tensor:
    """Sample the images of one block, (members that are not None, channels, bins, columns), on the CPU.

    A slot of None is empty, and computed all the same. ``denoise(x, sigma, stratum=..., cond=...)`` returns the clean
    image; ``noise(stratum, index)`` unit noise (channels, bins, columns); ``cond(stratum, index)`` further input of the
    network.
    """
    filler = next(filter(None, members))
    filled = [member or filler for member in members]
    start = torch.stack([noise(*member) for member in filled]).to(device) * sigmas[0].to(device)
    strata = torch.tensor([stratum for stratum, _ in filled], device=device)
    conds = None if cond is None else torch.stack([cond(*member) for member in filled]).to(device)
    images = sample_dpmpp_2m(functools.partial(denoise, stratum=strata, cond=conds), start, sigmas.to(device)).cpu()
    return images[[member is not None for member in members]]
