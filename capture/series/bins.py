"""Packets counted into the bins of their flows: only the bins in which something happens are kept.

Of a hundred bins of a flow, one or two are not empty; an array of all of them takes longer to clear
than the packets take to count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from netgen.capture import native
from netgen.capture.native import tables
from netgen.capture.series.spec import SeriesSpec

#: Cells that are kept before those of equal place are added up.
_MANY = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SparseChannel:
    """The numbers of some lists of one length, without the zeros.

    Parameters
    ----------
    rows, length : int
        How many lists, and how many numbers in each.
    cell : ndarray of int64, shape (cells,)
        Row times `length` plus the place in the list; ascending.
    value : ndarray of int64, shape (cells,)
        What stands there.
    """

    rows: int
    length: int
    cell: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, lists: np.ndarray) -> SparseChannel:
        """Those of an array of shape (rows, length)."""
        flat = lists.reshape(-1)
        cell = np.flatnonzero(flat)
        return cls(len(lists), lists.shape[1], cell, flat[cell].astype(np.int64, copy=False))

    def slice(self, first: int, last: int) -> SparseChannel:
        """Rows `first` to `last` - 1."""
        begin, end = np.searchsorted(self.cell, (first * self.length, last * self.length))
        return SparseChannel(
            last - first, self.length, self.cell[begin:end] - first * self.length, self.value[begin:end]
        )

    def dense(self, out: np.ndarray | None = None) -> np.ndarray:
        """All numbers, int64 (rows, length); into an array of zeros if one is given."""
        out = np.zeros((self.rows, self.length), np.int64) if out is None else out
        out.reshape(-1)[self.cell] = self.value
        return out


class BinCounter:
    """Counts packets into the bins of their flows, some packets at a time.

    Parameters
    ----------
    flows : int
        Number of flows.
    spec : SeriesSpec
        The series to make.
    """

    def __init__(self, flows: int, spec: SeriesSpec) -> None:
        self._spec, self._flows = spec, flows
        self._cut = np.zeros(flows, np.int64)
        # of the packets up and of those down: cells in ascending order, with their bytes and packets
        self._parts: tuple[list[_Part], list[_Part]] = [], []
        self._held = 0

    def add(self, flow: np.ndarray, offset_ns: np.ndarray, size: np.ndarray, up: np.ndarray) -> None:
        """Count packets.

        Parameters
        ----------
        flow : ndarray of int, shape (packets,)
            Row of the flow each packet belongs to, 0 to ``flows - 1``.
        offset_ns : ndarray of int64, shape (packets,)
            Time since the flow's first packet, in nanoseconds, not negative.
        size : ndarray of int, shape (packets,)
            IP bytes of each packet.
        up : ndarray of bool, shape (packets,)
            True for packets from the flow's initiator.
        """
        spec = self._spec
        if native.ready():
            found, ordered = tables.count_bins(
                flow, offset_ns, size, up, bin_ns=spec.bin_ns, length=spec.length, truncated=self._cut
            )
            ways = found if ordered else [_summed(*each) for each in found]
        else:
            ways = self._ways(flow, offset_ns, size, up)
        for parts, part in zip(self._parts, ways, strict=True):
            parts.append(part)
            self._held += len(part[0])
        if self._held > _MANY:
            self._merge()

    def _ways(self, flow: np.ndarray, offset_ns: np.ndarray, size: np.ndarray, up: np.ndarray) -> list[_Part]:
        """Cells of packets up and of those down; counts those after the last bin."""
        length = self._spec.length
        where = offset_ns // self._spec.bin_ns
        outside = where >= length
        if outside.any():
            np.add.at(self._cut, flow[outside], 1)
            inside = ~outside
            flow, where, size, up = flow[inside], where[inside], size[inside], up[inside]
        where += flow * np.int64(length)
        return [
            _summed(where[which], size[which].astype(np.int64), None)
            for which in (np.flatnonzero(up), np.flatnonzero(~up))
        ]

    def _merge(self) -> None:
        for parts in self._parts:
            if len(parts) > 1:
                cell, size, packets = (np.concatenate(each) for each in zip(*parts, strict=True))
                parts[:] = [_summed(cell, size, packets)]
        # what cannot be made less is not to be tried again at once
        self._held = 0

    def cells(self) -> tuple[list[SparseChannel], np.ndarray]:
        """Each channel's bins that are not empty, and packets after the last bin, int64 (flows,)."""
        self._merge()
        none = np.zeros((3, 0), np.int64)
        (up, *of_up), (down, *of_down) = (parts[0] if parts else none for parts in self._parts)
        found = []
        for sent, received in zip(of_up, of_down, strict=True):  # bytes, then packets
            for cell, value in ((up, sent), (down, received)):
                found.append(SparseChannel(self._flows, self._spec.length, cell, value))
        return found, self._cut


_Part = tuple[np.ndarray, np.ndarray, np.ndarray]


def _summed(cell: np.ndarray, size: np.ndarray, packets: np.ndarray | None) -> _Part:
    """The distinct cells in order, their bytes and their packets (one each if not given)."""
    if not len(cell):
        return cell, size, cell
    if (cell[1:] < cell[:-1]).any():
        order = np.argsort(cell, kind="stable")  # fast where little is out of order
        cell, size = cell[order], size[order]
        packets = None if packets is None else packets[order]
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    count = np.diff(first, append=len(cell)) if packets is None else np.add.reduceat(packets, first)
    return cell[first], np.add.reduceat(size, first), count


def dense(channels: Sequence[SparseChannel]) -> np.ndarray:
    """Series, int64 (flows, channels, bins), of each channel's bins that are not empty."""
    # channel by channel, as a table's columns are; series are seen through it
    out = np.zeros((len(channels), channels[0].rows, channels[0].length), np.int64)
    for cells, into in zip(channels, out, strict=True):
        cells.dense(into)
    return out.transpose(1, 0, 2)
