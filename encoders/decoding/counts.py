"""How many packets a bin has, on a scale on which numbers that come again and again have room of their own.

A network of relays sends 36 packets, or 72, or 108, as its windows allow, and hardly ever 35. On a logarithmic scale
those stand so close together that no draw tells one from the other. So where numbers stand closer than a model can
tell, each that many bins of a part of a flow have is a wide step: what is drawn anywhere on it is that number.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from netgen.encoders.decoding.quantile_scale import QuantileScale

#: Where the parts of a flow begin that have steps of their own.
PARTS = (0, 1, 2, 4, 8, 16, 32)

#: Busy bins of a part that has steps of its own, at least.
LEAST = 256

#: Numbers whose neighbour is further away, on the scale, need no step.
CLOSE = 0.015

#: Width of a step, on a scale that is 1 wide without, over the share of busy bins that it stands for.
WIDE = 2.0

#: So many of the numbers on either side are beside one.
BESIDE = 3

#: A number is a step that one in so many busy bins of a part has, more than have those beside it; and more by so many
#: standard deviations.
ONE_IN, SURE = 128, 4.0


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """Scales from 0 to 1 of the numbers of packets of the bins of one direction.

    ``x = (log(1 + n) / log(1 + top) + steps below n + half a step) / (1 + all steps)``, where the step of a number
    is twice as wide as the share of the busy bins of its part of a flow that have it, beyond that of the numbers beside
    it; only those have one that are far more frequent than these.

    Parameters
    ----------
    top : float
        The largest number, with which the scale ends: it becomes 1, or the middle of the last step.
    begin : ndarray of int64, shape (parts,)
        First bin of each part of a flow; rising from 0.
    numbers : tuple of ndarray of int64
        Of each part, numbers of packets that are steps; rising.
    widths : tuple of ndarray of float64
        Their widths.
    """

    top: float
    begin: np.ndarray
    numbers: tuple[np.ndarray, ...]
    widths: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.top < np.inf:
            raise ValueError(f"numbers of packets up to {self.top}")
        begin, parts = self.begin, list(zip(self.numbers, self.widths, strict=True))
        if (
            begin.shape != (len(parts),)
            or begin.dtype.kind != "i"
            or not len(begin)
            or begin[0]
            or (np.diff(begin) <= 0).any()
        ):
            raise ValueError("its numbers of packets are not for all bins")
        for number, width in parts:
            fine = number.shape == width.shape == (len(number),) and (np.diff(number) > 0).all()
            if not fine or ((number < 1) | (number > self.top) | ~((width > 0) & (width <= WIDE))).any():
                raise ValueError("its numbers of packets are not in order")
            if number.dtype.kind != "i":
                raise ValueError("its numbers of packets are no whole ones")

    @classmethod
    def of(cls, packets: np.ndarray) -> Counts:
        """The scales of real bins, (flows, bins)."""
        top = float(packets.max(initial=1))
        starts = [0]
        for first in PARTS[1:]:
            if min(np.count_nonzero(packets[:, starts[-1] : first]), np.count_nonzero(packets[:, first:])) >= LEAST:
                starts.append(first)
        steps = [_steps(part[part > 0], CLOSE * np.log1p(top)) for part in np.split(packets, starts[1:], axis=1)]
        numbers, widths = zip(*steps, strict=True)
        return cls(top, np.array(starts), numbers, widths)

    @classmethod
    def even(cls, top: float) -> Counts:
        """No steps, as models of earlier versions have it."""
        return cls(top, np.zeros(1, np.int64), (np.zeros(0, np.int64),), (np.zeros(0),))

    @functools.cached_property
    def _scales(self) -> list[QuantileScale]:
        """Of each part, from the logarithm's share of that of the top."""
        found = []
        for numbers, widths in zip(self.numbers, self.widths, strict=True):
            # 0 and the top, which may be a step itself, stand at the ends
            values = np.unique(np.concatenate([[0.0, self.top], numbers]))
            width = np.zeros(len(values))
            width[np.searchsorted(values, numbers)] = widths
            height, last = np.log1p(values) / np.log1p(self.top), np.cumsum(width)
            found.append(
                QuantileScale(height, (height + last - width) / (1 + last[-1]), (height + last) / (1 + last[-1]))
            )
        return found

    def share(self, packets: np.ndarray) -> np.ndarray:
        """Where numbers of packets stand; (..., bins), the last axis from the first bin of a flow on."""
        height = np.minimum(np.log1p(packets) / np.log1p(self.top), 1.0)
        return self._by_part(lambda part, mine: self._scales[part].forward(mine), height)

    def number(self, share: np.ndarray) -> np.ndarray:
        """Numbers of packets, not whole ones, that stand at places of the scale; (..., bins) as of `share`."""
        height = self._by_part(lambda part, mine: self._scales[part].inverse(mine), share)
        found: np.ndarray = np.expm1(height * np.log1p(self.top))
        return found

    def often(self, packets: np.ndarray) -> np.ndarray:
        """Whether numbers (..., bins) are steps, as a mask."""
        return self._by_part(lambda part, number: np.isin(number, self.numbers[part]), packets) > 0

    def _by_part(self, how: Callable[[int, np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
        out = np.empty(values.shape)
        for part, (first, last) in enumerate(zip(self.begin, [*self.begin[1:], values.shape[-1]], strict=True)):
            out[..., first:last] = how(part, values[..., first:last])
        return out

    def to_json(self) -> list[dict[str, Any]]:
        """As JSON types."""
        return [
            {"from_bin": int(begin), "numbers": numbers.tolist(), "widths": widths.tolist()}
            for begin, numbers, widths in zip(self.begin, self.numbers, self.widths, strict=True)
        ]

    @classmethod
    def from_json(cls, data: list[Any], top: float) -> Counts:
        """The scales that `to_json` wrote.

        Raises
        ------
        ValueError
            If these are not the scales of all bins.
        """
        return cls(
            top,
            np.array([each["from_bin"] for each in data]),
            tuple(np.array(each["numbers"] or np.zeros(0, np.int64)) for each in data),
            tuple(np.array(each["widths"], np.float64) for each in data),
        )


def _steps(packets: np.ndarray, close: float) -> tuple[np.ndarray, np.ndarray]:
    """Which numbers of packets of the busy bins of a part are steps, and how much larger their shares are."""
    found, many = np.unique(packets, return_counts=True)
    if len(packets) < LEAST:
        return np.zeros(0, np.int64), np.zeros(0)
    some = np.flatnonzero((many * ONE_IN >= len(packets)) & (np.log1p(found + 1) - np.log1p(found) < close))
    number, away = found[some, None], np.arange(-BESIDE, BESIDE + 1)
    inside = (number + away >= 1) & (number + away <= found[-1])
    near = np.where(inside, number + away, number - away)
    place = np.searchsorted(found, near).clip(max=len(found) - 1)
    beside = np.median(np.where(found[place] == near, many[place], 0), axis=1)
    more = many[some] - beside
    often = (more * ONE_IN >= len(packets)) & (more >= SURE * np.sqrt(beside + 1))
    return found[some[often]].astype(np.int64), WIDE * more[often] / len(packets)
