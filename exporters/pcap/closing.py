"""How a TCP connection ends: with a FIN each way, or with a reset; what that adds to counts and bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from netgen.exporters.pcap.packets import (
    CLOSE_NS,
    DOWN,
    MAX_BARE_SIZE,
    SYN_WINDOW,
    UP,
    Bools,
    Ints,
    add_packets,
    last_bin,
    nth_bin,
)

#: Changes cost: 1 a packet added or data split off, 0.5 bytes cut off; up to 0.25 tells ways to close by FINs apart.
#: A reset costs more than the last two together, and less than a packet.
_RESET_COST = 0.9


@dataclasses.dataclass(frozen=True)
class Closing:
    """Counts and bytes with room for a closing, and what that changes.

    Parameters
    ----------
    count, size : ndarray of int64, shape (flows, 2, bins)
    added : ndarray of int64, shape (flows,)
        Packets added.
    cost : ndarray of float64, shape (flows,)
        Of what is changed, and of a reset.
    closer : ndarray of int64, shape (flows,)
        Side X, which sends the first FIN, or the RST, and the last packet (0 up, 1 down).
    reset : ndarray of bool, shape (flows,)
        The last packet is an RST; there are no FINs.
    """

    count: Ints
    size: Ints
    added: Ints
    cost: NDArray[np.float64]
    closer: Ints
    reset: Bools

    def improve(self, rows: Ints, way: Closing) -> None:
        """Take another way, in place, for those of the flows `rows`, which it is for, that it costs less for."""
        better = way.cost < self.cost[rows]
        for field in dataclasses.fields(self):
            getattr(self, field.name)[rows[better]] = getattr(way, field.name)[better]


def cheapest(count: Ints, size: Ints, headers: Ints, mtu: Ints, begins: Ints) -> Closing:
    """For each flow, the closing that changes least.

    Parameters
    ----------
    count, size : ndarray of int64, shape (flows, 2, bins)
        Packets and IP bytes of connections that have room for a handshake.
    headers, mtu : ndarray of int64, shape (flows,)
        Bytes of a packet's headers, and of the largest packet.
    begins : ndarray of int64, shape (flows, bins + 1)
        Where each bin begins and the last one ends, ns.
    """
    best = _fins(count, size, UP, headers, mtu, begins)
    best.improve(np.arange(len(count)), _fins(count, size, DOWN, headers, mtu, begins))
    dear = np.flatnonzero(best.cost > _RESET_COST)
    for side in (UP, DOWN):
        best.improve(dear, _reset(count[dear], size[dear], side, headers[dear], mtu[dear]))
    return best


def _fins(count: Ints, size: Ints, side: int, headers: Ints, mtu: Ints, begins: Ints) -> Closing:
    """Room for X = `side` to send FIN and the last packet, and for Y's FIN between them."""
    count, size = count.copy(), size.copy()
    before = count.sum((1, 2))
    bins, other = count.shape[2], 1 - side
    mine_least, other_least = np.full(len(count), 3), 2 if side == UP else 3
    if side == UP:
        # the window of a SYN is not scaled: a client that sends just SYN, FIN and ACK never opens it further
        mine_least[size[:, DOWN].sum(1) > SYN_WINDOW] = 4
    end = _end(count)
    row = np.arange(len(count))
    rows = np.flatnonzero(count[row, side, end] == 0)
    add_packets(count, size, rows, side, end[rows], 1, headers)
    other_end = last_bin(count[:, other])
    # X's packets after Y's FIN: just one, small, and soon
    after = (count[:, side] * (np.arange(bins) > other_end[:, None])).sum(1)
    lasts = begins[row, end + 1] - begins[row, np.maximum(other_end, 0)]
    late = (other_end < end) & ((after != 1) | (size[row, side, end] > MAX_BARE_SIZE) | (lasts > CLOSE_NS))
    short = np.maximum(other_least - count[:, other].sum(1), late)
    rows = np.flatnonzero(short > 0)
    add_packets(count, size, rows, other, end[rows], short[rows], headers)
    other_end = nth_bin(count[:, other], 1, from_end=True)
    short = mine_least - count[:, side].sum(1)
    rows = np.flatnonzero(short > 0)
    add_packets(count, size, rows, side, other_end[rows], short[rows], headers)
    # among equals, the side whose FIN is nearer to the end, and not in the handshake
    early = (end - nth_bin(count[:, side], 2, from_end=True)) / bins + (count[:, side].sum(1) == 3)
    return _closing(count, size, side, end, count.sum((1, 2)) - before, mtu, early / 8, reset=False)


def _reset(count: Ints, size: Ints, side: int, headers: Ints, mtu: Ints) -> Closing:
    """Room for X = `side` to end the connection, once it is opened, with one small packet behind all others."""
    count, size = count.copy(), size.copy()
    before = count.sum((1, 2))
    end = _end(count)
    least = 3 if side == UP else 2  # SYN, acknowledgement, RST; SYN-ACK, RST
    short = np.maximum(least - count[:, side].sum(1), count[np.arange(len(count)), side, end] == 0)
    rows = np.flatnonzero(short > 0)
    add_packets(count, size, rows, side, end[rows], short[rows], headers)
    cost = np.full(len(count), _RESET_COST)
    return _closing(count, size, side, end, count.sum((1, 2)) - before, mtu, cost, reset=True)


def _end(count: Ints) -> Ints:
    """The last bin with a packet of either side."""
    return np.maximum(np.maximum(last_bin(count[:, UP]), last_bin(count[:, DOWN])), 0)


def _closing(
    count: Ints, size: Ints, side: int, end: Ints, added: Ints, mtu: Ints, cost: NDArray[np.float64], *, reset: bool
) -> Closing:
    """A closing by `side`, whose last packet in bin `end` must be small; `cost` is what it costs beside changes."""
    row = np.arange(len(count))
    last_count, last_size = count[row, side, end], size[row, side, end]
    smalls = 1 + (nth_bin(count[:, side], 1) == end)  # beside the last, SYN or SYN-ACK
    split = last_size > MAX_BARE_SIZE * smalls + mtu * (last_count - smalls)
    odd = (last_count == 1) & (last_size % 4 > 0)
    cost = added + split + 0.5 * odd + cost
    return Closing(count, size, added, cost, np.full(len(count), side), np.full(len(count), reset))
