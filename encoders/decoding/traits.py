"""What a flow is like as a whole: how long it is, and in how many bins it is busy.

Noise alone becomes too few flows of the rare kinds, such as those that go on when the others of their class have ended.
So a network is told of each flow that it learns from what it is like, and of each that it draws what a real flow of its
condition is like: in each turn of as many flows as there are real ones, each of these comes once.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import torch
from torch import Tensor

from netgen.encoders.log_scale import IDLE

#: Numbers that say what a flow is like: its last busy bin, and how many are busy.
TRAITS = 2

#: Spread of what they are told apart by: so near to each other flows are alike.
BLUR = 0.04

#: Real flows of a condition whose traits are kept, at most.
MOST = 128

_TURN, _BLUR = 11, 12  # streams of random numbers


def traits_of(scaled: Tensor) -> Tensor:
    """What scaled series are like; (flows, 4, bins) into (flows, TRAITS), from -1 to 1, evenly by logarithms."""
    busy = (scaled[:, 2:] > IDLE).any(1)
    bins = busy.shape[1]
    place = torch.arange(1, bins + 1, device=scaled.device)
    counts = torch.stack([(busy * place).amax(1), busy.sum(1)], dim=1)
    return 2 * torch.log1p(counts.to(scaled.dtype)) / math.log1p(bins) - 1


def blurred(traits: Tensor, generator: torch.Generator) -> Tensor:
    """As the network is told of them; `generator` on the CPU."""
    return traits + BLUR * torch.randn(traits.shape, generator=generator).to(traits)


@dataclasses.dataclass(frozen=True, eq=False)
class Traits:
    """What real flows are like.

    Parameters
    ----------
    real : ndarray of float32, shape (conditions, most, TRAITS)
        In order, as of `traits_of`, or near to that; NaN: no more of this condition.
    """

    real: np.ndarray

    @classmethod
    def none(cls) -> Traits:
        """Of a network that is told nothing."""
        return cls(np.zeros((0, 0, TRAITS), np.float32))

    @classmethod
    def learn(cls, scaled: Tensor, labels: np.ndarray, conditions: int, *, exact: bool = True) -> Traits:
        """Of scaled series (flows, 4, bins) of conditions of these numbers; of many flows, those that stand for all.

        Where they are not to be `exact`, no flow's own numbers are kept, but the nearest of marks 2 `BLUR` apart.
        """
        found = traits_of(scaled).cpu().numpy().astype(np.float32).clip(-1, 1)  # but for rounding they are so
        real = np.full((conditions, min(MOST, np.bincount(labels).max()), TRAITS), np.nan, np.float32)
        for label in range(conditions):
            mine = found[labels == label]
            mine = mine[np.lexsort(mine.T)]
            kept = np.linspace(0, len(mine) - 1, min(MOST, len(mine))).round().astype(int)
            real[label, : len(kept)] = mine[kept]
        if not exact:
            real = (np.round(real / (2 * BLUR)) * np.float32(2 * BLUR)).clip(-1, 1)
        return cls(real)

    def told(self, label: int, index: int, *, seed: int) -> np.ndarray:
        """What flow `index` of a condition is to be like, float32 (TRAITS,)."""
        many = np.count_nonzero(~np.isnan(self.real[label, :, 0]))
        turn, place = divmod(index, many)
        which = _order(seed % 2**64, label, turn, many)[place]
        blur = np.random.default_rng([seed % 2**64, label, index, _BLUR]).normal(0, BLUR, TRAITS)
        return (self.real[label, which] + blur).astype(np.float32)

    def check(self, conditions: int) -> None:
        """See whether it fits a model of so many conditions.

        Raises
        ------
        ValueError
            If it does not.
        """
        known = ~np.isnan(self.real)
        shape, kind = self.real.shape, self.real.dtype
        fits = len(shape) == 3 and shape[::2] == (conditions, TRAITS) and shape[1] > 0 and kind == np.float32
        # those of a condition stand side by side, from the first on
        whole = fits and known[:, 0].all() and (known == known[..., :1]).all() and (known[:, 1:] <= known[:, :-1]).all()
        if not whole or not (np.abs(self.real[known]) <= 1).all():
            raise ValueError("what its flows are like does not fit it")


@functools.lru_cache(maxsize=256)
def _order(seed: int, label: int, turn: int, many: int) -> np.ndarray:
    """In which order real flows come in a turn."""
    return np.random.default_rng([seed, label, turn, _TURN]).permutation(many)
