"""The first packets of flows, in order of time: the other kind of series beside bins."""

from __future__ import annotations

import numpy as np

from netgen.capture.series.bins import BinCounter, SparseChannel, dense
from netgen.capture.series.spec import BINS, GAP_NS, SeriesSpec

#: Packets that are kept before those that come too late are dropped.
_MANY = 1 << 20


class PacketCounter:
    """Keeps the first packets of each flow, some packets at a time.

    Parameters
    ----------
    flows : int
        Number of flows.
    spec : SeriesSpec
        Of packets; its length says how many are kept.
    """

    def __init__(self, flows: int, spec: SeriesSpec) -> None:
        self._flows, self._length = flows, spec.length
        self._cut = np.zeros(flows, np.int64)
        self._parts: list[_Part] = []
        self._added = 0

    def add(self, flow: np.ndarray, offset_ns: np.ndarray, size: np.ndarray, up: np.ndarray) -> None:
        """Take packets; arguments as of `netgen.capture.series.bins.BinCounter.add`. Of equal times the one added first is first."""
        self._parts.append((flow.astype(np.int64), offset_ns, np.where(up, size, -size.astype(np.int64))))
        self._added += len(flow)
        if self._added > _MANY:
            self._sort()

    def _sort(self) -> np.ndarray:
        """Bring what is kept in order, and drop what is not; the place in its flow of each packet kept."""
        none = np.zeros(0, np.int64)
        flow, time, size = (
            (np.concatenate(each) for each in zip(*self._parts, strict=True)) if self._parts else (none, none, none)
        )
        order = np.lexsort((time, flow))
        flow = flow[order]
        first = np.flatnonzero(np.diff(flow, prepend=-1))
        place = np.arange(len(flow)) - np.repeat(first, np.diff(first, append=len(flow)))
        kept = place < self._length
        self._cut += np.bincount(flow[~kept], minlength=self._flows)
        order = order[kept]
        self._parts = [(flow[kept], time[order], size[order])]
        self._added = 0  # what is needed is not to be sorted again at once
        return place[kept]

    def cells(self) -> tuple[list[SparseChannel], np.ndarray]:
        """Sizes and gaps of the packets that are kept, and how many of each flow are not, int64 (flows,)."""
        place = self._sort()
        flow, time, size = self._parts[0]
        cell = flow * self._length + place
        gap = np.diff(time // GAP_NS, prepend=0)  # of whole units, so that they add up to the time
        gap[place == 0] = 0
        busy = np.flatnonzero(gap)
        found = [
            SparseChannel(self._flows, self._length, cell, size),
            SparseChannel(self._flows, self._length, cell[busy], gap[busy]),
        ]
        return found, self._cut


_Part = tuple[np.ndarray, np.ndarray, np.ndarray]


def counter_of(flows: int, spec: SeriesSpec) -> BinCounter | PacketCounter:
    """What packets are counted with into series of a kind."""
    return BinCounter(flows, spec) if spec.view == BINS else PacketCounter(flows, spec)


def count_packets(
    flow: np.ndarray, offset_ns: np.ndarray, size: np.ndarray, up: np.ndarray, flows: int, spec: SeriesSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Series of either kind, int64 (flows, channels, length), and packets that are in none, int64 (flows,).

    Arguments as of `netgen.capture.series.bins.BinCounter` and its `add`.
    """
    counter = counter_of(flows, spec)
    counter.add(flow, offset_ns, size, up)
    cells, cut = counter.cells()
    return dense(cells), cut


def as_bins(series: np.ndarray, spec: SeriesSpec) -> np.ndarray:
    """Series of bins as they are; of packets as if each had a bin of its own, int64 (flows, 4, packets)."""
    if spec.view == BINS:
        return series
    size = series[:, 0]
    up, down = np.maximum(size, 0), np.maximum(-size, 0)
    return np.stack([up, down, up > 0, down > 0], axis=1).astype(np.int64)
