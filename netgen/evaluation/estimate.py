"""A figure and how sure it is: values with 95 % intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

#: Standard errors on either side of a value that hold 95 % of a normal distribution.
NORMAL_95 = 1.96

#: Groups of rows that are left out in turn by `jackknife`; Student's 97.5 % point for one less.
GROUPS, STUDENT_95 = 10, 2.26


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Parameters
    ----------
    value : float
        What was measured.
    low, high : float
        Between these it would lie, 19 times in 20, had other rows of the same kind been taken.
    """

    value: float
    low: float
    high: float

    @classmethod
    def about(cls, value: float, error: float, lowest: float = -math.inf, highest: float = math.inf) -> Estimate:
        """A value with its standard error, within the range that it can have."""
        reach = NORMAL_95 * error
        return cls(float(value), float(max(value - reach, lowest)), float(min(value + reach, highest)))

    def over(self, other: float) -> Estimate:
        """This figure in units of another, taken as exact."""
        return Estimate(self.value / other, self.low / other, self.high / other)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {"value": self.value, "low": self.low, "high": self.high}


def mean(values: np.ndarray, count: float | None = None) -> Estimate:
    """The mean of numbers between 0 and 1, such as hits.

    The interval is Wilson's, which does not shrink to nothing where all are 0 or all are 1.

    Parameters
    ----------
    values : ndarray
    count : float, optional
        As how many independent ones they count, where they depend on each other.
    """
    count = len(values) if count is None else count
    share = float(np.mean(values)) if len(values) else math.nan
    if not len(values):
        return Estimate(share, 0.0, 1.0)
    z = NORMAL_95**2 / count
    centre = (share + z / 2) / (1 + z)
    reach = NORMAL_95 * math.sqrt(max(share * (1 - share), 0) / count + z / (4 * count)) / (1 + z)
    return Estimate(share, max(0.0, min(share, centre - reach)), min(1.0, max(share, centre + reach)))


def area(scores_no: np.ndarray, scores_yes: np.ndarray) -> Estimate:
    """Area under the ROC curve: how often a yes scores above a no; ties count half.

    The interval is that of Hanley & McNeil (Radiology 143, 1982).
    """
    n, m = len(scores_no), len(scores_yes)
    ordered = np.sort(scores_no)
    below = np.searchsorted(ordered, scores_yes, "left")
    upto = np.searchsorted(ordered, scores_yes, "right")
    found = float((below + upto).mean() / (2 * n))
    q1, q2 = found / (2 - found), 2 * found**2 / (1 + found)
    spread = found * (1 - found) + (m - 1) * (q1 - found**2) + (n - 1) * (q2 - found**2)
    return Estimate.about(found, math.sqrt(max(spread, 0) / (n * m)), 0.0, 1.0)


def jackknife(measure: Callable[..., float], *sides: np.ndarray, lowest: float = 0.0) -> Estimate:
    """A figure of several sets of rows, with an interval from leaving a tenth of each out in turn.

    A bootstrap would repeat rows, which distances between distributions take for a difference.

    Parameters
    ----------
    measure : callable
        Takes one array a set, gives a number.
    *sides : ndarray
        The sets, rows first, in no order.
    """
    value = measure(*sides)
    groups = min(GROUPS, *(len(side) for side in sides))
    if groups < 3:
        return Estimate(value, lowest, math.inf)
    parts = [np.arange(len(side)) % groups for side in sides]
    found = np.array(
        [measure(*(side[part != group] for side, part in zip(sides, parts, strict=True))) for group in range(groups)]
    )
    error = math.sqrt((groups - 1) / groups * float(np.square(found - found.mean()).sum()))
    reach = STUDENT_95 * error
    return Estimate(value, max(value - reach, lowest), value + reach)
