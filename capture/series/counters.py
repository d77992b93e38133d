"""Packets to series: counted into bins, or the first packets of each flow.

Both counters take packets in batches and return sparse channels: of a hundred bins of a flow, one or two are not empty,
and an array of all bins takes longer to clear than the packets take to count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from netgen.capture.native.tables import count_bins
from netgen.capture.series.spec import BINS, GAP_NS, SeriesSpec

#: Cells or packets that are collected before they are merged.
MERGE_INTERVAL = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SparseChannel:
    """One channel of some series, without the zeros."""

    rows: int  # number of series
    length: int  # numbers in each
    cell: np.ndarray  # int64, shape (cells,): row times `length` plus the position in the series; ascending
    value: np.ndarray  # int64, shape (cells,): the number at that position

    @classmethod
    def of(cls, channel: np.ndarray) -> SparseChannel:
        """Make a sparse channel from an array of shape (rows, length)."""
        flat = channel.reshape(-1)
        cell = np.flatnonzero(flat)
        return cls(len(channel), channel.shape[1], cell, flat[cell].astype(np.int64, copy=False))

    def slice(self, first: int, last: int) -> SparseChannel:
        """Select rows `first` to `last` - 1."""
        begin, end = np.searchsorted(self.cell, (first * self.length, last * self.length))
        cell = self.cell[begin:end] - first * self.length
        return SparseChannel(last - first, self.length, cell, self.value[begin:end])

    def dense(self, out: np.ndarray | None = None) -> np.ndarray:
        """Return all numbers, int64 (rows, length); in `out` if given, which must be zeros."""
        out = np.zeros((self.rows, self.length), np.int64) if out is None else out
        out.reshape(-1)[self.cell] = self.value
        return out


class BinCounter:
    """Counts packets into the bins of so many flows."""

    def __init__(self, flows: int, spec: SeriesSpec) -> None:
        self._spec, self._flows = spec, flows
        self._truncated = np.zeros(flows, np.int64)
        # cells with their bytes and packets, of the packets up and of those down
        self._directions: tuple[list[_Columns], list[_Columns]] = [], []
        self._collected = 0

    def add(self, flow: np.ndarray, offset_ns: np.ndarray, size: np.ndarray, up: np.ndarray) -> None:
        """Count packets; `offset_ns` is the time since the flow's first packet, not negative, `size` IP bytes."""
        spec = self._spec
        directions, is_sorted = count_bins(
            flow, offset_ns, size, up, bin_ns=spec.bin_ns, length=spec.length, truncated=self._truncated
        )
        for collected, columns in zip(self._directions, directions, strict=True):
            collected.append(columns if is_sorted else _sum_by_cell(*columns))
            self._collected += len(columns[0])
        if self._collected > MERGE_INTERVAL:
            self._merge()

    def _merge(self) -> None:
        for collected in self._directions:
            if len(collected) > 1:
                cell, size, packets = (np.concatenate(column) for column in zip(*collected, strict=True))
                collected[:] = [_sum_by_cell(cell, size, packets)]
        self._collected = 0  # not the number of cells left: they would be merged again at once

    def channels(self) -> tuple[list[SparseChannel], np.ndarray]:
        """Return the channels of all flows, and the packets of each after its last bin, int64 (flows,)."""
        self._merge()
        empty = np.zeros((3, 0), np.int64)
        (up, *up_values), (down, *down_values) = (
            collected[0] if collected else empty for collected in self._directions
        )
        channels = []
        for sent, received in zip(up_values, down_values, strict=True):  # bytes, then packets
            for cell, value in ((up, sent), (down, received)):
                channels.append(SparseChannel(self._flows, self._spec.length, cell, value))
        return channels, self._truncated


class PacketCounter:
    """Keeps the first packets, as many as the specification's length, of each of so many flows."""

    def __init__(self, flows: int, spec: SeriesSpec) -> None:
        self._flows, self._length = flows, spec.length
        self._truncated = np.zeros(flows, np.int64)
        self._collected: list[_Columns] = []
        self._added = 0

    def add(self, flow: np.ndarray, offset_ns: np.ndarray, size: np.ndarray, up: np.ndarray) -> None:
        """Count packets, as `BinCounter.add` does. Of equal times, the packet added first comes first."""
        self._collected.append((flow.astype(np.int64), offset_ns, np.where(up, size, -size.astype(np.int64))))
        self._added += len(flow)
        if self._added > MERGE_INTERVAL:
            self._merge()

    def _merge(self) -> np.ndarray:
        """Sort what was collected, and drop packets after the last. Return their positions in the series."""
        empty = np.zeros(0, np.int64)
        columns = zip(*(self._collected or [(empty, empty, empty)]), strict=True)
        flow, time, size = (np.concatenate(column) for column in columns)
        order = np.lexsort((time, flow))
        flow = flow[order]
        first = np.flatnonzero(np.diff(flow, prepend=-1))
        position = np.arange(len(flow)) - np.repeat(first, np.diff(first, append=len(flow)))
        keep = position < self._length
        self._truncated += np.bincount(flow[~keep], minlength=self._flows)
        order = order[keep]
        self._collected = [(flow[keep], time[order], size[order])]
        self._added = 0  # not the number of packets left: they would be sorted again at once
        return position[keep]

    def channels(self) -> tuple[list[SparseChannel], np.ndarray]:
        """Return sizes and gaps of all flows, and the packets of each that are not in its series, int64 (flows,)."""
        position = self._merge()
        flow, time, size = self._collected[0]
        cell = flow * self._length + position
        gap = np.diff(time // GAP_NS, prepend=0)  # in whole units, so that gaps add up to the time
        gap[position == 0] = 0
        nonzero = np.flatnonzero(gap)
        channels = [
            SparseChannel(self._flows, self._length, cell, size),
            SparseChannel(self._flows, self._length, cell[nonzero], gap[nonzero]),
        ]
        return channels, self._truncated


_Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def _sum_by_cell(cell: np.ndarray, size: np.ndarray, packets: np.ndarray) -> _Columns:
    """Return the distinct cells in order, with their bytes and their packets."""
    if not len(cell):
        return cell, size, packets
    if (cell[1:] < cell[:-1]).any():
        order = np.argsort(cell, kind="stable")  # fast where few are out of order
        cell, size, packets = cell[order], size[order], packets[order]
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    return cell[first], np.add.reduceat(size, first), np.add.reduceat(packets, first)


def make_counter(flows: int, spec: SeriesSpec) -> BinCounter | PacketCounter:
    """Make the counter for a view."""
    return BinCounter(flows, spec) if spec.view == BINS else PacketCounter(flows, spec)


def dense(channels: Sequence[SparseChannel]) -> np.ndarray:
    """Return series, int64 (flows, channels, length), from sparse channels."""
    # stored channel by channel, as the columns of a table are
    out = np.zeros((len(channels), channels[0].rows, channels[0].length), np.int64)
    for channel, numbers in zip(channels, out, strict=True):
        channel.dense(numbers)
    return out.transpose(1, 0, 2)


def count_packets(
    flow: np.ndarray, offset_ns: np.ndarray, size: np.ndarray, up: np.ndarray, flows: int, spec: SeriesSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Count packets, given as to `BinCounter.add`, into series of either view, int64 (flows, channels, length).

    Return also the truncated packets of each flow, those after the last that a series holds.
    """
    counter = make_counter(flows, spec)
    counter.add(flow, offset_ns, size, up)
    channels, truncated = counter.channels()
    return dense(channels), truncated


def as_bins(series: np.ndarray, spec: SeriesSpec) -> np.ndarray:
    """Return series of bins unchanged; series of packets with a bin for each packet, int64 (flows, 4, packets)."""
    if spec.view == BINS:
        return series
    size = series[:, 0]
    up, down = np.maximum(size, 0), np.maximum(-size, 0)
    return np.stack([up, down, up > 0, down > 0], axis=1).astype(np.int64)
