"""Samplers: free functions of a denoiser, a start and noise levels."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, less whole numbers, lie evenly


def karras_sigmas(steps: int, highest: float, lowest: float, rho: float = 7.0) -> Tensor:
    """Noise levels from `highest` to `lowest`, then 0 (EDM, eq. 5); shape (steps + 1,)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = (highest ** (1 / rho) + ramp * (lowest ** (1 / rho) - highest ** (1 / rho))) ** rho
    return torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)]).float()


def sample_dpmpp_2m(
    denoise: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigmas: Tensor,
    *,
    callback: Callable[[int], None] | None = None,
) -> Tensor:
    """Second-order steps along the probability-flow ODE, each of one evaluation.

    DPM-Solver++(2M), Lu et al., arXiv 2211.01095, algorithm 2, for noise that is added and not mixed
    (alpha = 1, so that lambda = -log sigma): the clean image is taken to go on as it did over the last step.

    Parameters
    ----------
    denoise : callable
        ``(x, sigma) -> clean``, with ``x`` (batch, channels, bins, bins) and ``sigma`` (batch,).
    x : Tensor
        Noise of standard deviation ``sigmas[0]``.
    sigmas : Tensor, shape (steps + 1,)
        Falling, the last one 0.
    callback : callable, optional
        Told the number of each step done.

    Returns
    -------
    Tensor, shape of `x`
    """
    before, last = x, 0.0
    for step, (sigma, following) in enumerate(itertools.pairwise(sigmas.tolist())):
        clean = denoise(x, torch.full((len(x),), sigma, dtype=x.dtype, device=x.device))
        width = math.log(sigma / following) if following else 0.0
        # over the last step, to sigma 0, the clean image of now is all there is to go by
        ahead = clean + width / (2 * last) * (clean - before) if step and following else clean
        x = ahead + following / sigma * (x - ahead)
        before, last = clean, width
        if callback:
            callback(step + 1)
    return x


def sample_seed(seed: int, label: int, index: int) -> int:
    """One seed a sample, so that flow 17 of a class is the same whatever else is drawn."""
    state = (seed & (2**64 - 1)) * 0x9E3779B97F4A7C15 + label * 0xBF58476D1CE4E5B9 + index * 0x94D049BB133111EB
    state &= 2**64 - 1
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the finaliser of splitmix64
        state = ((state ^ (state >> shift)) * factor) & (2**64 - 1)
    return (state ^ (state >> 31)) >> 1


def pack_blocks(samples: Sequence[tuple[int, int]], block: int) -> list[list[int | None]]:
    """Samples put together in blocks of equal size.

    A sample has its place in a block whatever else is drawn: a matrix product then sums its numbers in the same order.
    Classes begin at different places, so that a few samples of each of many classes fill blocks.

    Parameters
    ----------
    samples : sequence of (label, index)
    block : int

    Returns
    -------
    list of list of int or None
        Which sample lies at each place of each block; None: none.
    """
    places: list[list[int]] = [[] for _ in range(block)]
    for number, (label, index) in enumerate(samples):
        places[(index + int(label * GOLDEN * block)) % block].append(number)
    return [list(row) for row in itertools.zip_longest(*places)]


@torch.no_grad()
def draw(
    denoise: Callable[..., Tensor],
    noise: Callable[[int, int], Tensor],
    members: Sequence[tuple[int, int] | None],
    sigmas: Tensor,
    *,
    device: torch.device,
    told: Callable[[int, int], Tensor] | None = None,
) -> Tensor:
    """Images of one block.

    Parameters
    ----------
    denoise : callable
        ``(x, sigma, label=label, how=how) -> clean``.
    noise : callable
        ``(label, index) -> Tensor`` of unit noise, shape (channels, bins, bins).
    members : sequence of (label, index) or None
        What to draw at each place; None: nothing, but the place is there.
    told : callable, optional
        ``(label, index) -> Tensor``: what the network is told of it beside the label, see `netgen.diffusion.network`.

    Returns
    -------
    Tensor, shape (members that are not None, channels, bins, bins)
        On the CPU, in their order.
    """
    some = next(filter(None, members))
    filled = [member or some for member in members]
    start = torch.stack([noise(*member) for member in filled]).to(device) * sigmas[0].to(device)
    labels = torch.tensor([label for label, _ in filled], device=device)
    how = None if told is None else torch.stack([told(*member) for member in filled]).to(device)
    done = sample_dpmpp_2m(functools.partial(denoise, label=labels, how=how), start, sigmas.to(device)).cpu()
    return done[[member is not None for member in members]]
