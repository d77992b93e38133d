"""Privacy: find copies of training flows, and flows that are suspiciously near to them.

Distances are Euclidean, in `LogSpace`, and the minimum over shifts by one bin, so that moving a copy does not hide it.
Held-out real flows say what counts as near.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from netgen.evaluation.estimate import Estimate, roc_auc, wilson_mean
from netgen.evaluation.feature_spaces import LogSpace

#: Shifts, in bins, under which the nearest neighbour is searched.
SHIFTS = (0, 1, -1)

MAX_COPY_SHIFT = 3  # largest shift of an exact copy, in bins
MIN_ACTIVE_BINS = 3  # active bins that a shifted copy needs: short flows coincide by chance

#: Rows compared at a time.
_BLOCK = 1024

#: Squared distances below this are rounding errors of 0.
_ZERO = 1e-4


@dataclasses.dataclass(frozen=True)
class Nearest:
    """Nearest neighbours between two sets of flows."""

    distance: np.ndarray  # float32: of each flow of the first set to the nearest flow of the second
    reverse_distance: np.ndarray  # float32: of each flow of the second set to the nearest flow of the first
    index: np.ndarray  # int64: row of the nearest neighbour of each flow of the first set in the second


def nearest(points: np.ndarray, others: np.ndarray) -> Nearest:
    """Find nearest neighbours between two sets of flows in `LogSpace`, (flows, channels, bins) each."""
    distance = np.empty(len(points), np.float32)
    index = np.empty(len(points), np.int64)
    reverse = np.full(len(others), np.inf, np.float32)
    for first, squared in _squared_distances(points, others):
        rows = slice(first, first + len(squared))
        index[rows] = squared.argmin(1)
        distance[rows] = squared.min(1)
        np.minimum(reverse, squared.min(0), out=reverse)
    return Nearest(np.sqrt(distance), np.sqrt(reverse), index)


def shifted(series: np.ndarray, bins: int) -> np.ndarray:
    """Shift series by `bins`, to later bins if positive; the vacated bins are idle."""
    out = np.zeros_like(series)
    if bins >= 0:
        out[..., bins:] = series[..., : series.shape[-1] - bins]
    else:
        out[..., :bins] = series[..., -bins:]
    return out


def _squared_distances(points: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row of each block of `points`, and its squared distances, (block, others)."""
    flat = np.ascontiguousarray(others.reshape(len(others), -1))
    norms = np.square(flat).sum(1)
    for first in range(0, len(points), _BLOCK):
        smallest = None
        for shift in SHIFTS:
            block = shifted(points[first : first + _BLOCK], shift).reshape(-1, flat.shape[1])
            squared = block @ flat.T
            squared *= -2
            squared += np.square(block).sum(1)[:, None]
            squared += norms
            smallest = squared if smallest is None else np.minimum(smallest, squared, out=smallest)
        assert smallest is not None
        smallest[smallest < _ZERO] = 0
        yield first, smallest


def closest_record_share(new: np.ndarray, train: np.ndarray, held: np.ndarray) -> Estimate:
    """Estimate the share of flows that are nearer to a training flow than to a held-out one, for sets of equal size.

    0.5 is ideal: the new flows are no more like training flows than like other real flows. 1 is a copy. With n training
    and m held-out flows, n / (n + m) would be nearer to a training flow by chance, and the odds are divided by those.
    Flows at equal distance count half.
    """
    space = LogSpace.of(np.concatenate([train, held]))
    points = space(new)
    return closest_share_of(nearest(points, space(train)), nearest(points, space(held)))


def closest_share_of(train: Nearest, held: Nearest) -> Estimate:
    """Estimate the same share from nearest neighbours among training and held-out flows.

    One real flow may be nearest to many new ones, and the set it belongs to is chance. So the new flows count as
    ``1 / sum(w^2)`` independent ones, where w is the share of new flows that a real flow is nearest to: the variance
    over all ways to split the real flows in two.
    """
    n, m = len(train.reverse_distance), len(held.reverse_distance)
    differ = train.distance != held.distance
    if not differ.any():
        return Estimate(0.5 if len(differ) else math.nan, 0.0, 1.0)
    decided = float(differ.mean())
    by_train = (train.distance < held.distance)[differ]
    neighbour = np.where(by_train, train.index[differ], n + held.index[differ])
    weights = np.bincount(neighbour) / len(neighbour)
    nearer = wilson_mean(by_train, 1 / float(np.square(weights).sum()))

    def corrected(share: float) -> float:
        # flows at equal distance to both sets say nothing, however large one of the sets is
        return decided * share * m / (share * m + (1 - share) * n) + (1 - decided) / 2

    return Estimate(corrected(nearer.value), corrected(nearer.low), corrected(nearer.high))


def membership_auc(train: np.ndarray, held: np.ndarray) -> Estimate:
    """Estimate how well distance to the new flows tells training flows from others (membership inference).

    From the distances of training flows and of held-out flows to their nearest new flow. 0.5: an attacker learns
    nothing.
    """
    return roc_auc(-held, -train)


def near_share(new: np.ndarray, held: np.ndarray) -> tuple[Estimate, Estimate]:
    """Estimate the share of flows that are nearer to a training flow than 99 % of held-out real flows.

    From the distances of new and of held-out flows to their nearest training flow. The second estimate is that of the
    held-out flows: 0.01, or more where real flows repeat, as those of some devices do.
    """
    limit = np.quantile(held, 0.01, method="higher")
    return wilson_mean(new <= limit), wilson_mean(held <= limit)


def exact_copies(real: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Find the flows that have exactly the series of a real flow; bool, shape (flows,)."""
    return _are_among(new, real)


def shifted_copies(real: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Find flows of `MIN_ACTIVE_BINS` active bins that equal a real flow shifted by up to `MAX_COPY_SHIFT` bins."""
    copies = np.zeros(len(new), bool)
    bins = real.shape[-1]
    for shift in range(1, min(MAX_COPY_SHIFT, bins - 1) + 1):
        early, late = slice(0, bins - shift), slice(shift, bins)
        for window, real_window in ((late, early), (early, late)):
            active = (new[..., window] != 0).any(axis=1).sum(axis=1) >= MIN_ACTIVE_BINS
            copies |= active & _are_among(new[..., window], real[..., real_window])
    return copies


def _are_among(series: np.ndarray, known: np.ndarray) -> np.ndarray:
    keys = {row.tobytes() for row in np.ascontiguousarray(known)}
    return np.array([row.tobytes() in keys for row in np.ascontiguousarray(series)], bool)
