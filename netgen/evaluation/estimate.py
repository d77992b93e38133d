"""Estimates: a value with its 95 % confidence interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

NORMAL_95 = 1.96  # standard errors on either side of the mean that hold 95 % of a normal distribution
JACKKNIFE_GROUPS = 10  # groups of rows that the jackknife leaves out in turn
STUDENT_95 = 2.26  # 97.5 % point of Student's t with one degree of freedom less than there are groups


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @classmethod
    def from_error(cls, value: float, error: float, lowest: float = -math.inf, highest: float = math.inf) -> Estimate:
        """Make an estimate of a value and its standard error, within the range of possible values."""
        margin = NORMAL_95 * error
        return cls(float(value), float(max(value - margin, lowest)), float(min(value + margin, highest)))


def wilson_mean(values: np.ndarray, count: float | None = None) -> Estimate:
    """Estimate the mean of numbers between 0 and 1, with Wilson's interval.

    The interval does not shrink to nothing where all values are 0, or all are 1. `count` is the effective number of
    independent values, if they depend on each other.
    """
    if not len(values):
        return Estimate(math.nan, 0.0, 1.0)
    count = len(values) if count is None else count
    mean = float(np.mean(values))
    z = NORMAL_95**2 / count
    centre = (mean + z / 2) / (1 + z)
    margin = NORMAL_95 * math.sqrt(max(mean * (1 - mean), 0) / count + z / (4 * count)) / (1 + z)
    return Estimate(mean, max(0.0, min(mean, centre - margin)), min(1.0, max(mean, centre + margin)))


def roc_auc(negatives: np.ndarray, positives: np.ndarray) -> Estimate:
    """Estimate the area under the ROC curve from scores of negatives and positives.

    The interval is that of Hanley & McNeil (Radiology 143, 1982).
    """
    from sklearn.metrics import roc_auc_score

    n, m = len(negatives), len(positives)
    auc = float(roc_auc_score(np.repeat([0, 1], [n, m]), np.concatenate([negatives, positives])))
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (m - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)
    return Estimate.from_error(auc, math.sqrt(max(variance, 0) / (n * m)), 0.0, 1.0)


def jackknife(metric: Callable[..., float], *samples: np.ndarray, lowest: float = 0.0) -> Estimate:
    """Estimate a metric of several samples, rows in random order, with a delete-a-group jackknife interval.

    A bootstrap would repeat rows, which distances between distributions take for a difference.
    """
    value = metric(*samples)
    n_groups = min(JACKKNIFE_GROUPS, *(len(sample) for sample in samples))
    if n_groups < 3:
        return Estimate(value, lowest, math.inf)
    groups = [np.arange(len(sample)) % n_groups for sample in samples]
    replicates = np.array(
        [metric(*(sample[group != k] for sample, group in zip(samples, groups, strict=True))) for k in range(n_groups)]
    )
    error = math.sqrt((n_groups - 1) / n_groups * float(np.square(replicates - replicates.mean()).sum()))
    margin = STUDENT_95 * error
    return Estimate(value, max(value - margin, lowest), value + margin)
