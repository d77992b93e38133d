"""Distances between two sets of flows: marginals, order in time, features of a fixed encoder."""

from __future__ import annotations

import numpy as np

MAX_LAG = 32  # largest lag of the autocorrelation, in bins


def earth_mover(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Compute the earth mover's distance of each bin, averaged over the bins; float64 (channels,).

    `points` and `others` are in `LogSpace`: the distance is a fraction of the largest real value, on a logarithmic
    scale.
    """
    a, b = np.sort(points, axis=0), np.sort(others, axis=0)
    if len(a) != len(b):  # compare as many quantiles as the larger set has values
        p = (np.arange(max(len(a), len(b))) + 0.5) / max(len(a), len(b))
        a, b = (values[np.minimum((p * len(values)).astype(int), len(values) - 1)] for values in (a, b))
    return np.abs(a - b).mean(axis=(0, 2), dtype=np.float64)


def totals_distance(series: np.ndarray, others: np.ndarray) -> float:
    """Compute the earth mover's distance of the flows' totals, in natural logarithms, averaged over channels.

    `series` and `others` are raw integers, whose absolute values are summed. A distance of 0.1 means that totals differ
    by a tenth.
    """
    from scipy.stats import wasserstein_distance

    totals, other_totals = (np.log1p(np.abs(values).sum(-1, dtype=float)) for values in (series, others))
    return float(np.mean([wasserstein_distance(a, b) for a, b in zip(totals.T, other_totals.T, strict=True)]))


def autocorrelation(points: np.ndarray) -> np.ndarray:
    """Compute the mean autocorrelation of the flows, float64 (channels, lags): lags 1 to `MAX_LAG`.

    Each flow counts up to its last active bin. Flows that are constant there are left out.
    """
    channels, bins = points.shape[1:]
    lags = min(MAX_LAG, bins - 1)
    active = (points != 0).any(axis=1)
    length = np.where(active.any(1), bins - active[:, ::-1].argmax(1), 0)
    inside = np.arange(bins) < length[:, None, None]
    mean = points.sum(2) / np.maximum(length, 1)[:, None]
    centred = np.where(inside, points - mean[..., None], 0).astype(np.float32)
    power = np.square(centred).sum(2)
    out = np.zeros((channels, lags))
    for lag in range(1, lags + 1):
        product = (centred[..., lag:] * centred[..., :-lag]).sum(2)
        used = (power > 1e-6) & (length[:, None] > lag)
        count = used.sum(0)
        out[:, lag - 1] = np.where(used, product / np.maximum(power, 1e-6), 0).sum(0) / np.maximum(count, 1)
    return out


def autocorrelation_distance(points: np.ndarray, others: np.ndarray) -> float:
    """Compute the mean absolute difference of the mean autocorrelations."""
    return float(np.abs(autocorrelation(points) - autocorrelation(others)).mean())


def run_lengths(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List the lengths, in bins, of all runs of active bins, and of all idle runs between two active bins."""
    active = (points != 0).any(axis=1)
    edged = np.zeros((len(active), active.shape[1] + 2), np.int8)
    edged[:, 1:-1] = active
    change = np.diff(edged, axis=1)
    row, begin = np.nonzero(change == 1)
    end = np.nonzero(change == -1)[1]
    inner = row[1:] == row[:-1]  # after the last burst of a flow comes its end, not an idle run
    return end - begin, (begin[1:] - end[:-1])[inner]


def runs_distance(points: np.ndarray, others: np.ndarray) -> float:
    """Compute the earth mover's distance of burst lengths and of idle lengths, in octaves, and average the two."""
    from scipy.stats import wasserstein_distance

    distances = []
    for pair in zip(run_lengths(points), run_lengths(others), strict=True):
        # no run at all counts as one of half a bin
        a, b = (np.log2(lengths) if len(lengths) else np.array([-1.0]) for lengths in pair)
        distances.append(wasserstein_distance(a, b))
    return float(np.mean(distances))


def frechet(features: np.ndarray, others: np.ndarray) -> float:
    """Compute the Frechet distance of two sets of features, assumed normally distributed.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Heusel et al., arXiv 1706.08500, eq. 6). It is
    biased upwards for few flows: compare it with the distance of as many real flows.
    """
    c1, c2 = (np.atleast_2d(np.cov(values, rowvar=False)) for values in (features, others))
    roots = np.sqrt(np.maximum(np.linalg.eigvals(c1 @ c2).real, 0)).sum()
    gap = np.square(features.mean(0) - others.mean(0)).sum()
    return float(max(gap + np.trace(c1) + np.trace(c2) - 2 * roots, 0.0))


def coverage(
    real: np.ndarray, new: np.ndarray, *, neighbours: int = 5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compute precision, recall, density and coverage (Naeem et al., arXiv 2002.09797), flow by flow.

    From features of the fixed encoder, float64 (flows, features). Returns whether a new flow lies in a real flow's
    neighbourhood; whether a real flow lies in a new flow's; in how many real neighbourhoods a new flow lies, divided by
    `neighbours`; whether a real flow's neighbourhood holds a new flow. Their means are the metrics.
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
