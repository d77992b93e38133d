"""How large the packets of a bin are, on a scale of its own for bins of like place and number of packets.

The first bin of one flow after the other holds two packets of 110 bytes on the mean, and no other bin does: among the
sizes of all bins that is a rare one, which no draw would hit. Eight packets of 158 bytes and one of 40 are 144.9 on the
mean. So sizes stand on a scale beside those of bins that stand where this one does and have as many packets.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from netgen.encoders.decoding.quantile_scale import N_QUANTILES, QuantileScale, frequent, quantiles

#: Where the parts of a flow begin whose bins are alike: the first bin, and then ever longer ones.
PARTS = (0, 1, 4, 16)

#: Numbers of packets up to which bins are told apart, the larger ones by a quarter of them.
COUNTS = np.unique(np.concatenate([np.arange(1, 32), 32 * 1.25 ** np.arange(60)]).astype(np.int64))

#: Busy bins that have a scale of their own: at least so many, and one of so many of their part of a flow.
LEAST, ONE_IN = 32, 128

#: Quantiles that a scale of a group remembers; a size that one in so many of its bins have is a frequent one.
REMEMBERED, OFTEN = 128, 16

_FULL = 1500.0  # bytes of a full packet of Ethernet; larger ones are merged by network cards


@dataclasses.dataclass(frozen=True, eq=False)
class Sizes:
    """Scales from 0 to 1, ``(rank + height) / 2``, of the sizes of packets of one direction.

    The rank is among bins of the same group; the height, the same for all groups, grows evenly from the smallest size
    to the largest, over 1500 bytes with the logarithm.

    Parameters
    ----------
    begin : ndarray of int64, shape (groups,)
        First bin of the part of a flow that the group is of; not falling, the first of them 0.
    most : ndarray of float64, shape (groups,)
        Most packets of a bin of the group; rising within a part, the last one infinite.
    remembered : tuple of ndarray of float64
        Quantiles of the mean sizes of real bins of each group, IP bytes; not falling.
    """

    begin: np.ndarray
    most: np.ndarray
    remembered: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, size: np.ndarray, packets: np.ndarray) -> Sizes:
        """The scales of real bins, (flows, bins) each."""
        where = np.flatnonzero((packets > 0).ravel())
        bins, number, sizes = where % packets.shape[1], packets.ravel()[where], size.ravel()[where]
        begin, most, remembered = [], [], []
        for first, mine in _parts(bins):
            for upto, group in _groups(number[mine]):
                begin.append(first)
                most.append(upto)
                remembered.append(quantiles(sizes[mine][group], REMEMBERED))
        if not begin:
            return cls.same_for_all(np.zeros(1))
        return cls(np.array(begin), np.array(most), tuple(remembered))

    @classmethod
    def same_for_all(cls, remembered: np.ndarray) -> Sizes:
        """One scale of all bins, as models of earlier versions have it."""
        return cls(np.zeros(1, np.int64), np.full(1, np.inf), (remembered,))

    @functools.cached_property
    def _steps(self) -> list[QuantileScale]:
        bounds = min(each[0] for each in self.remembered), max(each[-1] for each in self.remembered)
        return [QuantileScale.of(each, bent, bounds) for each in self.remembered]

    @functools.cached_property
    def _frequent(self) -> list[np.ndarray]:
        of_groups = len(self.remembered[0]) <= REMEMBERED + 1
        return [frequent(each, OFTEN) if of_groups else frequent(each) for each in self.remembered]

    def place(self, size: np.ndarray, packets: np.ndarray) -> np.ndarray:
        """Where on its scale the mean size of a bin stands; (flows, bins), 0 where there is no packet."""
        return self._each(packets, size, lambda group, mine: self._steps[group].forward(mine))

    def size(self, place: np.ndarray, packets: np.ndarray) -> np.ndarray:
        """IP bytes of a packet, on the mean, at a place of the scale; (flows, bins), 0 where there is no packet."""
        return self._each(packets, place, lambda group, mine: self._steps[group].inverse(mine))

    def often(self, size: np.ndarray, packets: np.ndarray) -> np.ndarray:
        """Whether sizes are those that real bins of their group have again and again, as a mask (flows, bins)."""
        return self._each(packets, size, lambda group, mine: np.isin(mine, self._frequent[group])) > 0

    def _each(
        self, packets: np.ndarray, values: np.ndarray, how: Callable[[int, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """What becomes of the values of busy bins, group by group; 0 elsewhere."""
        out = np.zeros(packets.shape)
        group = np.where(packets > 0, self._group(packets), -1)
        for each in np.unique(group[group >= 0]).tolist():
            mine = group == each
            out[mine] = how(each, values[mine])
        return out

    def _group(self, packets: np.ndarray) -> np.ndarray:
        """Number of the group of each bin."""
        found = np.zeros(packets.shape, np.int64)
        for first in np.unique(self.begin).tolist():  # a later part stands over the one before
            rows = np.flatnonzero(self.begin == first)
            found[:, first:] = rows[np.searchsorted(self.most[rows], packets[:, first:])]
        return found

    def to_json(self) -> list[dict[str, Any]]:
        """As JSON types."""
        return [
            {"from_bin": int(begin), "to_packets": None if np.isinf(most) else int(most), "sizes": sizes.tolist()}
            for begin, most, sizes in zip(self.begin, self.most, self.remembered, strict=True)
        ]

    @classmethod
    def from_json(cls, data: list[Any]) -> Sizes:
        """The scales that `to_json` wrote, or the one that an earlier version wrote as numbers alone.

        Raises
        ------
        ValueError
            If these are not the scales of all bins.
        """
        if not data or not isinstance(data[0], dict):
            found = cls.same_for_all(np.array(data, np.float64).reshape(N_QUANTILES + 1))
        else:
            most = [each["to_packets"] for each in data]
            if not all(isinstance(each, int) for each in [*(each["from_bin"] for each in data), *filter(None, most)]):
                raise ValueError("its sizes of packets are not of whole bins and packets")
            found = cls(
                np.array([each["from_bin"] for each in data]),
                np.array([np.inf if each is None else each for each in most], np.float64),
                tuple(np.array(each["sizes"], np.float64) for each in data),
            )
        ends = np.append(np.diff(found.begin) > 0, True)  # of parts of a flow
        if (
            found.begin[0]
            or (np.diff(found.begin) < 0).any()
            or (np.isinf(found.most) != ends).any()
            or (found.most[1:] <= found.most[:-1])[~ends[:-1]].any()
            or found.most.min() < 1
        ):
            raise ValueError("its sizes of packets are not for all bins")
        for each in found.remembered:
            if not each.size or not np.isfinite(each).all() or each[0] < 0 or (np.diff(each) < 0).any():
                raise ValueError("its sizes of packets are not in order")
        return found


def bent(size: np.ndarray) -> np.ndarray:
    """Sizes, those over a full packet by their logarithm."""
    out: np.ndarray = np.where(size <= _FULL, size / _FULL, 1 + np.log(np.maximum(size, _FULL) / _FULL))
    return out


def _parts(bins: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Parts of flows of enough busy bins: first bin, rows."""
    starts = [0]
    for first in PARTS[1:]:
        before = (bins >= starts[-1]) & (bins < first)
        if min(before.sum(), (bins >= first).sum()) >= LEAST:
            starts.append(first)
    inside = np.searchsorted(starts, bins, "right") - 1
    return [(first, np.flatnonzero(inside == part)) for part, first in enumerate(starts)] if len(bins) else []


def _groups(number: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Bins of like numbers of packets, enough of each: most packets, rows."""
    least = max(LEAST, len(number) // ONE_IN)
    below, upto = 0, []
    for count, total in zip(COUNTS.tolist(), np.searchsorted(np.sort(number), COUNTS, "right").tolist(), strict=True):
        if total - below >= least and len(number) - total >= least:
            upto.append(count)
            below = total
    inside = np.searchsorted(upto, number)
    return [(most, np.flatnonzero(inside == group)) for group, most in enumerate([*upto, np.inf])]
