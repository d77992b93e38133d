"""Connections that never came about: what scans, and hosts whose server is away, leave in a capture.

* *unanswered*: a SYN and its repeats, and nothing from the other side;
* *refused*: SYNs, and an RST of 40 bytes from the other side for each or some of them;
* *half-open*: a SYN and its repeats, a SYN-ACK and its repeats, and then an RST of 40 bytes from the client, or
  nothing more.

All their packets are headers and nothing else: of 40 to 80 bytes, in steps of 4.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from exporters.cells import DOWN, SMALL_MAX, STAMPED_SYN, TCP_HEADERS, UP, Bools, Ints, last_bin

NONE, UNANSWERED, REFUSED, HALF_OPEN = range(4)

SYN_LEAST = 44  # with the maximum segment size, which all send but some scanners
SYN_MOST = 64  # with every option that hosts send
MOST = 12  # packets of a side: kernels give up after 7 (Linux) or 11 (macOS)


@dataclasses.dataclass(frozen=True)
class Attempts:
    """Which flows are connections that never came about.

    Parameters
    ----------
    kind : ndarray of int64, shape (flows,)
        0: a connection, or no TCP; `UNANSWERED`, `REFUSED` or `HALF_OPEN`.
    reset : ndarray of bool, shape (flows,)
        Of half-open ones, those whose last packet is the client's RST.
    stamped : ndarray of bool, shape (flows,)
        SYNs and SYN-ACKs have room for time stamps.
    sure : ndarray of bool, shape (flows,)
        Can be nothing else, even where a connection could have the same packets and bytes.
    """

    kind: Ints
    reset: Bools
    stamped: Bools
    sure: Bools


def attempts(count: Ints, size: Ints, tcp: Bools) -> Attempts:
    """Find the flows that have the packets and bytes of one.

    Parameters
    ----------
    count, size : ndarray of int64, shape (flows, 2, bins)
        Packets and IP bytes.
    tcp : ndarray of bool, shape (flows,)
    """
    up, down = count[:, UP], count[:, DOWN]
    few = tcp & (up[:, 0] > 0) & (count >= 0).all((1, 2)) & (count.sum(2) <= MOST).all(1)
    few &= (size % 4 == 0).all((1, 2)) & _each(size[:, UP], up, TCP_HEADERS, SMALL_MAX)
    answered = down.sum(1) > 0
    behind = (down.cumsum(1) <= up.cumsum(1)).all(1)  # nobody refuses what was not asked
    resets = _each(size[:, DOWN], down, TCP_HEADERS, TCP_HEADERS)
    refused = answered & resets & behind
    syn_acks = _alike(size[:, DOWN], down, SYN_LEAST)

    # the client's last packet is the RST where all others are one SYN, again and again
    row, last = np.arange(len(count)), np.maximum(last_bin(up), 0)
    syns, syn_size = up.copy(), size[:, UP].copy()
    syns[row, last] -= 1
    syn_size[row, last] -= TCP_HEADERS
    aborted = (syns[:, 0] > 0) & (last >= last_bin(down)) & _alike(syn_size, syns, TCP_HEADERS)
    half = answered & syn_acks & (aborted | (up.sum(1) == 1))

    kind = np.where(~answered, UNANSWERED, np.where(refused, REFUSED, np.where(half, HALF_OPEN, NONE)))
    kind = np.where(few, kind, NONE)
    reset = (kind == HALF_OPEN) & aborted
    syns, syn_size = np.where(reset[:, None], syns, up), np.where(reset[:, None], syn_size, size[:, UP])
    stamped = (kind > NONE) & _each(syn_size, syns, STAMPED_SYN, SMALL_MAX)
    stamped &= (kind != HALF_OPEN) | _each(size[:, DOWN], down, STAMPED_SYN, SMALL_MAX)
    return Attempts(kind, reset, stamped, (kind == REFUSED) & _each(size[:, UP], up, SYN_LEAST, SMALL_MAX))


def _each(size: Ints, count: Ints, least: int, most: int) -> Bools:
    """Flows of whose packets (flows, bins) each can have from `least` to `most` bytes."""
    return np.asarray(((size >= least * count) & (size <= most * count)).all(1))


def _alike(size: Ints, count: Ints, least: int) -> Bools:
    """Flows whose packets (flows, bins) can all be the same SYN or SYN-ACK, of `least` bytes or more."""
    each = size.sum(1) // np.maximum(count.sum(1), 1)
    same = (size == each[:, None] * count).all(1)
    return np.asarray(same & (each >= least) & (each <= SYN_MOST) & (each % 4 == 0))


def even_sizes(size: Ints, count: Ints, place: Ints, aborted: Bools) -> Ints:
    """Bytes of packets of cells whose packets are headers alone: as alike as multiples of 4 can be.

    Parameters
    ----------
    size, count : ndarray of int64, shape (packets,)
        Bytes, a multiple of 4, and packets of each packet's cell.
    place : ndarray of int64, shape (packets,)
        Its number in the cell.
    aborted : ndarray of bool, shape (packets,)
        The last packet of its cell is the client's RST.
    """
    others = np.maximum(count - aborted, 1)
    each, more = np.divmod((size - TCP_HEADERS * aborted) >> 2, others)
    return np.where(aborted & (place == count - 1), TCP_HEADERS, 4 * (each + (place < more)))
