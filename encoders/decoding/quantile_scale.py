"""A scale on which values that occur again and again are wide steps, and all others lie between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

#: Values that a scale remembers, as quantiles, beside the smallest.
STEPS = 512

#: How much of the scale is the share of values that are smaller; the rest is the value itself.
RANKED = 0.5

#: Of so many values in a row, a frequent one is one at least.
_ONE_IN = 128


def quantiles(values: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """What a scale remembers of some values, float64 (steps + 1,); each of them is one that occurred."""
    return np.quantile(values, np.linspace(0, 1, steps + 1), method="inverted_cdf")


def frequent(remembered: np.ndarray, one_in: int = _ONE_IN) -> np.ndarray:
    """Values that at least one in so many of those is that `quantiles` was given."""
    values, count = np.unique(remembered, return_counts=True)
    found: np.ndarray = values[count * one_in >= len(remembered) - 1]
    return found


@dataclasses.dataclass(frozen=True)
class QuantileScale:
    """A scale from 0 to 1: ``(rank + height) / 2``.

    A value that often occurs has all its ranks, of which the middle one is its place; the height grows evenly
    from 0 for the smallest value to 1 for the largest. Where all are alike, only the rank is left.

    Parameters
    ----------
    values : ndarray of float64, shape (steps,)
        Rising.
    first, last : ndarray of float64, shape (steps,)
        Where the step of each begins and ends.
    """

    values: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(
        cls,
        remembered: np.ndarray,
        bend: Callable[[np.ndarray], np.ndarray],
        bounds: tuple[float, float] | None = None,
    ) -> QuantileScale:
        """The scale of quantiles, which do not fall.

        `bend` says on what ruler heights are even, `bounds` between which values they rise, if not between these.
        """
        values, begin, count = np.unique(remembered, return_index=True, return_counts=True)
        bottom, top = bend(np.array(bounds or (values[0], values[-1]), np.float64))
        ranked = RANKED if top > bottom else 1.0
        height = (1 - ranked) * (bend(values) - bottom) / max(top - bottom, 1e-9)
        steps = max(len(remembered) - 1, 1)
        first, last = (ranked * each / steps + height for each in (begin, begin + count - 1))
        return cls(values, first, last)

    def place(self, value: np.ndarray) -> np.ndarray:
        """The middle of the step of a value, or its place between two steps."""
        below = np.maximum(np.searchsorted(self.values, value, "right") - 1, 0)
        above = np.minimum(below + 1, len(self.values) - 1)
        low, high = self.values[below], self.values[above]
        part = np.clip((value - low) / np.maximum(high - low, 1e-9), 0.0, 1.0)
        between = self.last[below] + part * (self.first[above] - self.last[below])
        found: np.ndarray = np.where(value == low, (self.first[below] + self.last[below]) / 2, between)
        return found

    def value(self, place: np.ndarray) -> np.ndarray:
        """The value at a place."""
        places = np.stack([self.first, self.last], axis=1).ravel()
        found: np.ndarray = np.interp(place, places, np.repeat(self.values, 2))
        return found
