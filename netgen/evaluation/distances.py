"""How far two sets of flows lie apart: marginals, order in time, features of a fixed encoder."""

from __future__ import annotations

import numpy as np

#: Bins up to which autocorrelation is compared.
LAGS = 32


def earth_mover(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Earth mover's distance of each channel, bin by bin, averaged over the bins; float64 (channels,).

    Parameters
    ----------
    points, others : ndarray of float32, shape (flows, channels, bins)
        In `LogSpace`: the distance is a share of the largest real value, on a logarithmic scale.
    """
    a, b = (np.sort(each, axis=0) for each in (points, others))
    if len(a) != len(b):  # quantiles of both at as many places as the larger has
        places = (np.arange(max(len(a), len(b))) + 0.5) / max(len(a), len(b))
        a, b = (each[np.minimum((places * len(each)).astype(int), len(each) - 1)] for each in (a, b))
    out: np.ndarray = np.abs(a - b).mean(axis=(0, 2), dtype=np.float64)
    return out


def totals_distance(series: np.ndarray, others: np.ndarray) -> float:
    """Earth mover's distance of the flows' totals, on a natural logarithmic scale, averaged over channels.

    Parameters
    ----------
    series, others : ndarray of int64, shape (flows, channels, bins)
        Raw numbers: 0.1 means that totals differ by a tenth. Of signed ones, what they add up to without their signs.
    """
    from scipy.stats import wasserstein_distance

    ours, theirs = (np.log1p(np.abs(each).sum(-1, dtype=float)) for each in (series, others))
    return float(np.mean([wasserstein_distance(a, b) for a, b in zip(ours.T, theirs.T, strict=True)]))


def autocorrelation(points: np.ndarray) -> np.ndarray:
    """Mean autocorrelation of the flows, float64 (channels, lags): lags 1 to `LAGS`.

    Of each flow up to its last busy bin; flows that do not vary there are left out.
    """
    channels, bins = points.shape[1:]
    lags = min(LAGS, bins - 1)
    busy = (points != 0).any(axis=1)
    length = np.where(busy.any(1), bins - busy[:, ::-1].argmax(1), 0)
    inside = np.arange(bins) < length[:, None, None]
    centred = np.where(inside, points - _mean_inside(points, length)[..., None], 0).astype(np.float32)
    power = np.square(centred).sum(2)
    out = np.zeros((channels, lags))
    for lag in range(1, lags + 1):
        product = (centred[..., lag:] * centred[..., :-lag]).sum(2)
        used = (power > 1e-6) & (length[:, None] > lag)
        count = used.sum(0)
        out[:, lag - 1] = np.where(used, product / np.maximum(power, 1e-6), 0).sum(0) / np.maximum(count, 1)
    return out


def _mean_inside(points: np.ndarray, length: np.ndarray) -> np.ndarray:
    mean: np.ndarray = points.sum(2) / np.maximum(length, 1)[:, None]
    return mean


def autocorrelation_distance(points: np.ndarray, others: np.ndarray) -> float:
    """Mean difference of the mean autocorrelations, over channels and lags."""
    return float(np.abs(autocorrelation(points) - autocorrelation(others)).mean())


def run_lengths(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths, in bins, of all runs of busy bins, and of all runs of idle bins between two busy ones."""
    busy = (points != 0).any(axis=1)
    edged = np.zeros((len(busy), busy.shape[1] + 2), np.int8)
    edged[:, 1:-1] = busy
    change = np.diff(edged, axis=1)
    row, begin = np.nonzero(change == 1)
    end = np.nonzero(change == -1)[1]
    inner = row[1:] == row[:-1]  # what follows the last burst of a flow is its end, not an idle run
    return end - begin, (begin[1:] - end[:-1])[inner]


def runs_distance(points: np.ndarray, others: np.ndarray) -> float:
    """Earth mover's distance of the lengths of bursts and of idle runs, in octaves, the mean of both."""
    from scipy.stats import wasserstein_distance

    found = []
    for ours, theirs in zip(run_lengths(points), run_lengths(others), strict=True):
        # no run at all counts as one of half a bin
        a, b = (np.log2(each) if len(each) else np.array([-1.0]) for each in (ours, theirs))
        found.append(wasserstein_distance(a, b))
    return float(np.mean(found))


def frechet(features: np.ndarray, others: np.ndarray) -> float:
    """Frechet distance of two sets of features, each taken for normally distributed.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Heusel et al., arXiv 1706.08500, eq. 6). It is
    biased upwards where flows are few: compare it with the distance of as many real flows.
    """
    c1, c2 = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (features, others))
    roots = np.sqrt(np.maximum(np.linalg.eigvals(c1 @ c2).real, 0)).sum()
    gap = np.square(features.mean(0) - others.mean(0)).sum()
    return float(max(gap + np.trace(c1) + np.trace(c2) - 2 * roots, 0.0))


def coverage(
    real: np.ndarray, new: np.ndarray, *, neighbours: int = 5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall, density and coverage (Naeem et al., arXiv 2002.09797), flow by flow.

    Parameters
    ----------
    real, new : ndarray of float64, shape (flows, features)
        Features of the fixed encoder.

    Returns
    -------
    ndarray, ndarray, ndarray, ndarray
        Whether a new flow lies in a real one's neighbourhood; whether a real flow lies in a new
        one's; in how many real neighbourhoods a new flow lies, over `neighbours`; whether a real
        flow's neighbourhood holds a new one. Their means are the figures.
    """
    from scipy.spatial import cKDTree

    k = min(neighbours, len(real) - 1, len(new) - 1)
    real_tree, new_tree = cKDTree(real), cKDTree(new)
    real_radius = real_tree.query(real, k + 1)[0][:, -1]
    new_radius = new_tree.query(new, k + 1)[0][:, -1]
    density = np.zeros(len(new))
    precise, recalled = np.zeros(len(new), bool), np.zeros(len(real), bool)
    for first in range(0, len(new), 1024):
        gap = _distances(new[first : first + 1024], real)
        inside = gap <= real_radius
        rows = slice(first, first + len(gap))
        density[rows] = inside.sum(1) / k
        precise[rows] = inside.any(1)
        recalled |= (gap <= new_radius[rows, None]).any(0)
    covered = new_tree.query(real)[0] <= real_radius
    return precise, recalled, density, covered


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squared, 0))
