"""Privacy: whether flows are copies of those that a model learnt from, or lie suspiciously near to them.

Distances are Euclidean, in `LogSpace`, and the least over shifts by one bin, so that a copy is no
further away for having been moved. What counts as near is told by real flows that no model has
seen: the hold-out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from netgen.evaluation.estimate import Estimate, area, mean
from netgen.evaluation.feature_spaces import LogSpace

#: Bins by which a flow may be shifted and still be looked for.
SHIFTS = (0, 1, -1)

#: Bins by which a copy may be shifted exactly.
COPY_SHIFTS = 3

#: A copy that is shifted must have so many busy bins: short flows coincide by chance.
BUSY = 3

#: Rows compared at a time.
_BLOCK = 1024

#: Squared distances below this are the rounding errors of none.
_ZERO = 1e-4


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The nearest of some flows to each of others, and the other way round.

    Parameters
    ----------
    forth, back : ndarray of float32
        Distance of each flow to the nearest on the other side.
    which : ndarray of int64
        For each flow of the first side, the row of the nearest on the other.
    """

    forth: np.ndarray
    back: np.ndarray
    which: np.ndarray


def nearest(points: np.ndarray, others: np.ndarray) -> Nearest:
    """Nearest neighbours between two sets of flows in `LogSpace`, (flows, channels, bins) each."""
    forth = np.empty(len(points), np.float32)
    which = np.empty(len(points), np.int64)
    back = np.full(len(others), np.inf, np.float32)
    for first, squared in _squared(points, others):
        rows = slice(first, first + len(squared))
        which[rows] = squared.argmin(1)
        forth[rows] = squared.min(1)
        np.minimum(back, squared.min(0), out=back)
    return Nearest(np.sqrt(forth), np.sqrt(back), which)


def shifted(series: np.ndarray, bins: int) -> np.ndarray:
    """Series moved by so many bins, to later ones if positive; what leaves is lost, what comes is idle."""
    out = np.zeros_like(series)
    if bins >= 0:
        out[..., bins:] = series[..., : series.shape[-1] - bins]
    else:
        out[..., :bins] = series[..., -bins:]
    return out


def _squared(points: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Squared distances, a block of `points` at a time: where it begins, and (block, others)."""
    flat = np.ascontiguousarray(others.reshape(len(others), -1))
    norms = np.square(flat).sum(1)
    for first in range(0, len(points), _BLOCK):
        least = None
        for shift in SHIFTS:
            part = shifted(points[first : first + _BLOCK], shift).reshape(-1, flat.shape[1])
            squared = part @ flat.T
            squared *= -2
            squared += np.square(part).sum(1)[:, None]
            squared += norms
            least = squared if least is None else np.minimum(least, squared, out=least)
        assert least is not None
        least[least < _ZERO] = 0
        yield first, least


def closest_record_share(new: np.ndarray, train: np.ndarray, held: np.ndarray) -> Estimate:
    """The share of flows that lie nearer to a training flow than to a held-back one, as if of as many.

    0.5 is ideal: training flows are then no more like the new ones than other real flows are. 1 is
    a copy. Of n training and m held-back flows, n / (n + m) would be nearer to the former by chance;
    the odds are divided by those. Flows as near to either count half.

    Parameters
    ----------
    new, train, held : ndarray of int64, shape (flows, channels, bins)
        Series; `held` is what was not learnt from.
    """
    space = LogSpace.of(np.concatenate([train, held]))
    points = space(new)
    return closer(nearest(points, space(train)), nearest(points, space(held)))


def closer(train: Nearest, held: Nearest) -> Estimate:
    """The same from the nearest training flow and the nearest held-back flow of each new one.

    Some real flows lie nearest to many new ones, and which side those are on is chance. So the new
    flows count as ``1 / sum(w^2)`` independent ones, w being the share of them that a real flow is
    nearest to: the variance over all ways to divide the real flows in two.
    """
    n, m = len(train.back), len(held.back)
    differ = train.forth != held.forth
    if not differ.any():
        return Estimate(0.5 if len(differ) else math.nan, 0.0, 1.0)
    decided = float(differ.mean())
    by_train = (train.forth < held.forth)[differ]
    neighbour = np.where(by_train, train.which[differ], n + held.which[differ])
    weights = np.bincount(neighbour) / len(neighbour)
    found = mean(by_train, 1 / float(np.square(weights).sum()))

    def fair(share: float) -> float:
        # flows that have their like on both sides say nothing, however many more there are on one
        return decided * share * m / (share * m + (1 - share) * n) + (1 - decided) / 2

    return Estimate(fair(found.value), fair(found.low), fair(found.high))


def membership(train: np.ndarray, held: np.ndarray) -> Estimate:
    """Membership inference: how well nearness to the new flows tells training flows from others.

    Parameters
    ----------
    train, held : ndarray of float, shape (flows,)
        Distance to the nearest new flow of flows that were learnt from, and of some that were not.

    Returns
    -------
    Figure
        Area under the ROC curve; 0.5: an attacker learns nothing.
    """
    return area(-held, -train)


def near_share(new: np.ndarray, held: np.ndarray) -> tuple[Estimate, Estimate]:
    """The share of flows nearer to a training flow than 99 % of unseen real flows are.

    Parameters
    ----------
    new, held : ndarray of float, shape (flows,)
        Distance to the nearest training flow.

    Returns
    -------
    Figure, Figure
        Of the new flows, and of the unseen real ones: 0.01, or more where many of these are copies
        by themselves, as of devices that repeat what they do.
    """
    limit = np.quantile(held, 0.01, method="higher")
    return mean(new <= limit), mean(held <= limit)


def exact_copies(real: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Which flows have exactly the series of a real flow; bool, shape (flows,)."""
    known = {each.tobytes() for each in np.ascontiguousarray(real)}
    return np.array([each.tobytes() in known for each in np.ascontiguousarray(new)], bool)


def shifted_copies(real: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Which flows equal a real flow moved by up to `COPY_SHIFTS` bins, where they have `BUSY` busy ones."""
    found = np.zeros(len(new), bool)
    bins = real.shape[-1]
    for shift in range(1, min(COPY_SHIFTS, bins - 1) + 1):
        early, late = slice(0, bins - shift), slice(shift, bins)
        for ours, theirs in ((late, early), (early, late)):
            known = {each.tobytes() for each in np.ascontiguousarray(real[..., theirs])}
            part = np.ascontiguousarray(new[..., ours])
            busy = (part != 0).any(axis=1).sum(axis=1) >= BUSY
            found |= busy & np.array([each.tobytes() in known for each in part], bool)
    return found
