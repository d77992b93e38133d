"""Connections that never came about: what scans, and hosts whose server is away, leave in a capture.

* *unanswered*: a SYN and its repeats, and nothing from the other side;
* *refused*: a SYN and its repeats, and an RST of 40 bytes from the other side for each or some of them;
* *half-open*: a SYN and its repeats, a SYN-ACK and its repeats, and then an RST of 40 bytes from the client, or
  nothing more.

All their packets are headers and nothing else, and repeats are as large as what they repeat.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.exporters.pcap.packets import (
    DOWN,
    MAX_BARE_SIZE,
    TCP_HEADERS,
    TIMESTAMP_HEADERS,
    TIMESTAMP_SYN_SIZE,
    UP,
    Bools,
    Ints,
    last_bin,
)

NONE, UNANSWERED, REFUSED, HALF_OPEN = range(4)

SYN_LEAST = 44  # with the maximum segment size, which all send but some scanners
SYN_FULL = 52  # and what hosts offer beside it: window scaling, selective acknowledgements
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
    sure : ndarray of bool, shape (flows,)
        Rather this than a connection, even if one could have the same packets and bytes.
    """

    kind: Ints
    reset: Bools
    sure: Bools


def attempts(count: Ints, size: Ints, tcp: Bools) -> Attempts:
    """Find the flows that have the packets and bytes of one.

    Parameters
    ----------
    count, size : ndarray of int64, shape (flows, 2, bins)
        Packets and IP bytes, as with IPv4.
    tcp : ndarray of bool, shape (flows,)
    """
    up, down = count[:, UP], count[:, DOWN]
    few = tcp & (up[:, 0] > 0) & (count >= 0).all((1, 2)) & (count.sum(2) <= MOST).all(1)
    syn, answer = _each_alike(size[:, UP], up), _each_alike(size[:, DOWN], down)
    answered = down.sum(1) > 0
    behind = (down.cumsum(1) <= up.cumsum(1)).all(1)  # nobody refuses what was not asked
    refused = (syn > 0) & behind & (answer == TCP_HEADERS)

    syns, rest = _without_reset(up, size[:, UP])
    syn_before = _each_alike(rest, syns)
    aborted = (syns[:, 0] > 0) & (last_bin(up) >= last_bin(down)) & (syn_before > 0)
    # a SYN of 60 bytes and an acknowledgement of 52 in one bin look like two of 56: an open connection
    open_ = (up[:, 0] == 2) & (size[:, UP, 0] == TIMESTAMP_SYN_SIZE + TIMESTAMP_HEADERS)
    in_vain = ((syn >= SYN_LEAST) | ((syn > 0) & (up.sum(1) == 1))) & ~open_
    half = (answer >= SYN_LEAST) & (aborted | in_vain)

    found = np.where((syn > 0) & ~answered, UNANSWERED, np.where(refused, REFUSED, np.where(half, HALF_OPEN, NONE)))
    kind = np.where(few, found, NONE)
    reset = (kind == HALF_OPEN) & aborted
    return Attempts(kind, reset, ((kind == REFUSED) & (syn >= SYN_LEAST)) | (reset & (syn_before >= SYN_FULL)))


def fitting(found: Attempts, count: Ints, size: Ints) -> tuple[Bools, Bools]:
    """Which attempts have packets that can be headers alone, and which of them have room for time stamps.

    Parameters
    ----------
    found : Attempts
    count, size : ndarray of int64, shape (flows, 2, bins)
        As they will be written; with another version of IP than they had, sizes differ from those of `attempts`.

    Returns
    -------
    fits, stamped : ndarray of bool, shape (flows,)
    """
    syns, rest = _without_reset(count[:, UP], size[:, UP])
    syns = np.where(found.reset[:, None], syns, count[:, UP])
    rest = np.where(found.reset[:, None], rest, size[:, UP])
    down, answer = count[:, DOWN], size[:, DOWN]
    fits = (size % 4 == 0).all((1, 2))
    fits &= _each(rest, syns, TCP_HEADERS, MAX_BARE_SIZE) & _each(answer, down, TCP_HEADERS, MAX_BARE_SIZE)
    stamped = _each(rest, syns, TIMESTAMP_SYN_SIZE, MAX_BARE_SIZE)
    stamped &= (found.kind != HALF_OPEN) | _each(answer, down, TIMESTAMP_SYN_SIZE, MAX_BARE_SIZE)
    return (found.kind > NONE) & fits, stamped


def _without_reset(count: Ints, size: Ints) -> tuple[Ints, Ints]:
    """Packets and bytes (flows, bins) of the client without its last packet, were that an RST."""
    count, size = count.copy(), size.copy()
    row, last = np.arange(len(count)), np.maximum(last_bin(count), 0)
    count[row, last] -= 1
    size[row, last] -= TCP_HEADERS
    return count, size


def _each(size: Ints, count: Ints, least: int, most: int) -> Bools:
    """Flows of whose packets (flows, bins) each can have from `least` to `most` bytes."""
    return np.asarray(((size >= least * count) & (size <= most * count)).all(1))


def _each_alike(size: Ints, count: Ints) -> Ints:
    """Bytes of each packet of flows (flows, bins) that can all be the same SYN, SYN-ACK or RST; 0: they cannot."""
    each = size.sum(1) // np.maximum(count.sum(1), 1)
    same = (size == each[:, None] * count).all(1)
    return np.where(same & (each >= TCP_HEADERS) & (each <= SYN_MOST) & (each % 4 == 0), each, 0)


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
