"""A monotone scale on which frequent values are wide steps (atoms), with all others between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

N_QUANTILES = 512  # quantiles of a scale, beside the smallest value
RANK_WEIGHT = 0.5  # weight of the rank of a value in its position; the value itself has the rest
FREQUENT_ONE_IN = 128  # a value is frequent if at least one value in so many equals it


def quantiles(values: np.ndarray, n: int = N_QUANTILES) -> np.ndarray:
    """Return quantiles of `values`, each of which occurs among them, float64 (n + 1,)."""
    return np.quantile(values, np.linspace(0, 1, n + 1), method="inverted_cdf")


def frequent(quantile_values: np.ndarray, one_in: int = FREQUENT_ONE_IN) -> np.ndarray:
    """Return the values that at least one in `one_in` values equals, from their quantiles."""
    values, count = np.unique(quantile_values, return_counts=True)
    return values[count * one_in >= len(quantile_values) - 1]


@dataclasses.dataclass(frozen=True)
class QuantileScale:
    """A scale from 0 to 1: ``u = (rank + height) / 2``.

    An atom covers the range of its ranks, and its u is the middle; the height grows evenly
    from 0 for the smallest value to 1 for the largest. If all values are equal, only the rank is left.
    """

    values: np.ndarray  # float64 (steps,): increasing
    lower: np.ndarray  # float64 (steps,): range of u of each value
    upper: np.ndarray  # float64 (steps,)

    @classmethod
    def of(
        cls,
        quantile_values: np.ndarray,
        transform: Callable[[np.ndarray], np.ndarray],
        bounds: tuple[float, float] | None = None,
    ) -> QuantileScale:
        """Make the scale of increasing quantiles.

        Heights are even after `transform`; they grow between `bounds`, by default the smallest and the largest value.
        """
        values, begin, count = np.unique(quantile_values, return_index=True, return_counts=True)
        bottom, top = transform(np.array(bounds or (values[0], values[-1]), np.float64))
        rank_weight = RANK_WEIGHT if top > bottom else 1.0
        height = (1 - rank_weight) * (transform(values) - bottom) / max(top - bottom, 1e-9)
        steps = max(len(quantile_values) - 1, 1)
        lower, upper = (rank_weight * rank / steps + height for rank in (begin, begin + count - 1))
        return cls(values, lower, upper)

    def forward(self, value: np.ndarray) -> np.ndarray:
        """Return the u of values: the middle of an atom, or the position between two."""
        below = np.maximum(np.searchsorted(self.values, value, "right") - 1, 0)
        above = np.minimum(below + 1, len(self.values) - 1)
        low, high = self.values[below], self.values[above]
        fraction = np.clip((value - low) / np.maximum(high - low, 1e-9), 0.0, 1.0)
        between = self.upper[below] + fraction * (self.lower[above] - self.upper[below])
        return np.where(value == low, (self.lower[below] + self.upper[below]) / 2, between)

    def inverse(self, u: np.ndarray) -> np.ndarray:
        """Return the values of `u`."""
        ends = np.stack([self.lower, self.upper], axis=1).ravel()
        return np.interp(u, ends, np.repeat(self.values, 2))
