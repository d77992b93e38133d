"""Counts and bytes of flows by direction and bin: what sizes packets may have, and where the n-th packet stands.

A *cell* is a (flow, direction, bin); the client's direction (up) comes first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

UP, DOWN = 0, 1
MTU = 1500
IPV6_EXTRA = 20  # bytes that IPv6's header has more than IPv4's
UDP_HEADERS = 28  # IPv4 and UDP
TCP_HEADERS = 40  # IPv4 and TCP without options
STAMPED_HEADERS = 52  # with the time stamps option (RFC 7323)
SYN_SIZE = 52  # with maximum segment size, window scale and SACK permitted
STAMPED_SYN = 60  # and with time stamps
SMALL_MAX = 80  # TCP's header has room for 40 bytes of options
SYN_WINDOW = 64_240  # bytes that a SYN offers to take, as Linux does
CLOSE_NS = 5_000_000_000  # flow meters forget a closed connection after this time (Zeek: tcp_close_delay)


def nth_bin(count: Ints, number: int, *, from_end: bool = False) -> Ints:
    """Bin of the `number`-th packet, from the front or the end; the number of bins where there is none.

    Parameters
    ----------
    count : ndarray of int64, shape (flows, bins)
    number : int
        From 1.
    """
    bins = count.shape[1]
    if from_end:
        found = nth_bin(count[:, ::-1], number)
        return np.asarray(np.where(found < bins, bins - 1 - found, bins))
    return np.asarray((count.cumsum(1) < number).sum(1))


def last_bin(count: Ints) -> Ints:
    """Bin of the last packet, -1 where there is none."""
    found = nth_bin(count, 1, from_end=True)
    return np.where(found < count.shape[1], found, -1)


def add(count: Ints, size: Ints, rows: Ints, side: int, where: Ints | int, number: Ints | int, each: Ints) -> None:
    """Add packets of `each[row]` bytes to the cells (rows, side, where), in place."""
    count[rows, side, where] += number
    size[rows, side, where] += number * each[rows]
