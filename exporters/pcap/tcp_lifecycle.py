"""How TCP connections open, close, or fail to open, and the packets and bytes which that takes from a flow.

Unless stated otherwise, `count` and `size` are packets and their bytes with IPv4, int64 of shape (flows, 2, bins) with
the client's direction (up) first, and all other arrays have shape (flows,): `tcp` tells the TCP flows, `headers` and
`mtu` are the bytes of a packet's headers and of the largest packet. Functions that make room change `count` and `size`
in place, and return the flows that they changed.

A connection that fails to open (an *attempt*, as scans leave them) consists of headers only, and repeats are as
large as the packet they repeat:

* *unanswered*: a SYN, possibly repeated, and nothing from the server;
* *refused*: a SYN, possibly repeated, and an RST of 40 bytes from the server for at least one of them;
* *half-open*: a SYN and a SYN-ACK, either possibly repeated, and then an RST of 40 bytes from the client or nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from netgen.exporters.pcap.packets import (
    CLOSE_NS,
    DOWN,
    MAX_BARE_SIZE,
    SYN_SIZE,
    SYN_WINDOW,
    TCP_HEADERS,
    TIMESTAMP_HEADERS,
    TIMESTAMP_SYN_SIZE,
    UP,
    Bools,
    Ints,
    add_packets,
    last_bin,
    nth_bin,
)

NONE, UNANSWERED, REFUSED, HALF_OPEN = range(4)

MIN_SYN_SIZE = 44  # bytes with the maximum segment size, which all hosts send but not all scanners
USUAL_SYN_SIZE = 52  # bytes with the other options that hosts offer: window scale, SACK permitted
MAX_SYN_SIZE = 64  # bytes with all options that hosts send
MAX_ATTEMPT_PACKETS = 12  # of one side: kernels give up after 7 (Linux) or 11 (macOS)

MAX_SERVER_LEAD = 90_000  # bytes of one side alone after which Suricata stops looking for a protocol, with a margin
MAX_CLIENT_LEAD = 64_000  # bytes for which a SYN-ACK's window has room: a silent server never opens it further
ANSWER = 64  # bytes of data from the other side that end its silence

#: Cost of a reset. A packet added or data moved costs 1, bytes cut off 0.5, and up to 0.25 tells ways to close by FINs
#: apart.
_RESET_COST = 0.9


@dataclasses.dataclass(frozen=True)
class Attempts:
    """Flows that are connections which never opened; arrays of shape (flows,)."""

    outcome: Ints  # `NONE` for connections and other protocols, or `UNANSWERED`, `REFUSED`, `HALF_OPEN`
    reset: Bools  # half-open, and ended by the client's RST
    certain: Bools  # more plausible than a connection, even if one could have the same packets and bytes


def find_attempts(count: Ints, size: Ints, tcp: Bools) -> Attempts:
    """Find the flows with the packets and bytes of a connection that never opened."""
    up, down = count[:, UP], count[:, DOWN]
    possible = tcp & (up[:, 0] > 0) & (count >= 0).all((1, 2)) & (count.sum(2) <= MAX_ATTEMPT_PACKETS).all(1)
    syn, answer = _common_size(size[:, UP], up), _common_size(size[:, DOWN], down)
    unanswered = (syn > 0) & (down.sum(1) == 0)
    # every RST needs a SYN before it
    refused = (syn > 0) & (answer == TCP_HEADERS) & (down.cumsum(1) <= up.cumsum(1)).all(1)

    syns, syn_bytes = _without_reset(up, size[:, UP])
    reset_syn = _common_size(syn_bytes, syns)
    reset = (syns[:, 0] > 0) & (last_bin(up) >= last_bin(down)) & (reset_syn > 0)
    # a SYN of 60 bytes and an acknowledgement of 52 in one bin look like two SYNs of 56, but are an open connection
    opened = (up[:, 0] == 2) & (size[:, UP, 0] == TIMESTAMP_SYN_SIZE + TIMESTAMP_HEADERS)
    no_reset = ((syn >= MIN_SYN_SIZE) | ((syn > 0) & (up.sum(1) == 1))) & ~opened
    half_open = (answer >= MIN_SYN_SIZE) & (reset | no_reset)

    kind = np.select([~possible, unanswered, refused, half_open], [NONE, UNANSWERED, REFUSED, HALF_OPEN], NONE)
    reset &= kind == HALF_OPEN
    certain = ((kind == REFUSED) & (syn >= MIN_SYN_SIZE)) | (reset & (reset_syn >= USUAL_SYN_SIZE))
    return Attempts(kind, reset, certain)


def check_attempt_sizes(attempts: Attempts, count: Ints, size: Ints) -> tuple[Bools, Bools]:
    """Tell which attempts can be written with bare headers, and which of them have room for timestamps.

    After a change of IP version, `size` differs from that given to `find_attempts`.
    """
    up, up_size = _without_reset(count[:, UP], size[:, UP])
    up = np.where(attempts.reset[:, None], up, count[:, UP])
    up_size = np.where(attempts.reset[:, None], up_size, size[:, UP])
    down, down_size = count[:, DOWN], size[:, DOWN]
    fits = (attempts.outcome > NONE) & (size % 4 == 0).all((1, 2))
    fits &= _sizes_fit(up_size, up, TCP_HEADERS) & _sizes_fit(down_size, down, TCP_HEADERS)
    has_timestamps = _sizes_fit(up_size, up, TIMESTAMP_SYN_SIZE)
    has_timestamps &= (attempts.outcome != HALF_OPEN) | _sizes_fit(down_size, down, TIMESTAMP_SYN_SIZE)
    return fits, has_timestamps


def attempt_sizes(size: Ints, count: Ints, index: Ints, reset: Bools) -> Ints:
    """Divide the bytes of cells with bare packets: as equal as multiples of 4 can be; all of shape (packets,).

    `size` and `count` are those of the packet's cell, `index` is its position there, and `reset` tells the cells that
    end with the client's RST.
    """
    quotient, remainder = np.divmod((size - TCP_HEADERS * reset) >> 2, np.maximum(count - reset, 1))
    return np.where(reset & (index == count - 1), TCP_HEADERS, 4 * (quotient + (index < remainder)))


def _without_reset(count: Ints, size: Ints) -> tuple[Ints, Ints]:
    """Leave out the last packet of one side, as if it were an RST; packets and bytes, shape (flows, bins) each."""
    count, size = count.copy(), size.copy()
    row, last = np.arange(len(count)), np.maximum(last_bin(count), 0)
    count[row, last] -= 1
    size[row, last] -= TCP_HEADERS
    return count, size


def _sizes_fit(size: Ints, count: Ints, smallest: int) -> Bools:
    """Tell for which flows (flows, bins) every packet can be bare and have at least `smallest` bytes."""
    return np.asarray(((size >= smallest * count) & (size <= MAX_BARE_SIZE * count)).all(1))


def _common_size(size: Ints, count: Ints) -> Ints:
    """Find the bytes of each packet of flows (flows, bins) whose packets can all be the same SYN or RST; else 0."""
    mean = size.sum(1) // np.maximum(count.sum(1), 1)
    same = (size == mean[:, None] * count).all(1)
    return np.where(same & (mean >= TCP_HEADERS) & (mean <= MAX_SYN_SIZE) & (mean % 4 == 0), mean, 0)


def make_room_to_open(
    count: Ints, size: Ints, tcp: Bools, headers: Ints, syn_size: Ints, mtu: Ints
) -> tuple[Bools, Bools]:
    """Make room for SYN, SYN-ACK and the client's second packet.

    The flows that got packets are returned apart from those whose SYN or SYN-ACK had data, which took another packet.
    """
    bare = np.zeros_like(count)
    bare[tcp, UP, 0] = 1
    split = split_off_data(count, size, bare, mtu)
    third = nth_bin(count[:, UP], 2)
    late = tcp & ((nth_bin(count[:, DOWN], 1) > third) | (count[:, DOWN].sum(1) == 0))
    add_packets(count, size, np.flatnonzero(late), DOWN, 0, 1, syn_size)
    syn_ack = nth_bin(count[:, DOWN], 1)
    bare = np.zeros_like(count)
    bare[tcp, DOWN, syn_ack[tcp]] = 1
    split |= split_off_data(count, size, bare, mtu)
    # the client acknowledges before the server goes on, and in any case
    missing = tcp & ((nth_bin(count[:, DOWN], 2) < third) | (third == count.shape[2]))
    rows = np.flatnonzero(missing)
    add_packets(count, size, rows, UP, syn_ack[rows], 1, headers)
    return late | missing, split


def make_room_to_scale(count: Ints, size: Ints, tcp: Bools, syn_ack_bin: Ints) -> Bools:
    """Make room for the window scale option in SYN and SYN-ACK where a side sends more than an unscaled window."""
    changed = np.zeros(len(count), dtype=bool)
    rows = np.flatnonzero(tcp & (size.sum(2).max(1) > SYN_WINDOW))
    for cell in ((rows, UP, 0), (rows, DOWN, syn_ack_bin[rows])):
        lack = TCP_HEADERS * (count[cell] - 1) + SYN_SIZE - size[cell]
        size[cell] += np.maximum(lack, 0)
        changed[rows] |= lack > 0
    return changed


def limit_lead(
    count: Ints, size: Ints, tcp: Bools, headers: Ints, mtu: Ints, syn_ack_bin: Ints, third_bin: Ints
) -> Bools:
    """Make room for a little data of a silent side before the other side has sent too much."""
    row = np.arange(len(count))
    data = size - headers[:, None, None] * count
    options = np.where(headers == TIMESTAMP_HEADERS, TIMESTAMP_SYN_SIZE, SYN_SIZE) - headers
    data[:, UP, 0] -= options
    data[row, DOWN, syn_ack_bin] -= options
    sent = np.maximum(data, 0).cumsum(2)
    changed = np.zeros(len(count), dtype=bool)
    for side in (UP, DOWN):
        limit = MAX_SERVER_LEAD if side == UP else MAX_CLIENT_LEAD
        exceeded = (sent[:, 1 - side] > limit).argmax(1)
        # within a bin the client speaks first, so its data count in the bin itself
        until = exceeded if side == UP else exceeded - 1
        answered = np.where(until >= 0, sent[row, side, until], 0)
        rows = np.flatnonzero(tcp & (sent[:, 1 - side, -1] > limit) & (answered < ANSWER))
        # the client's third packet carries it; the server's second, or another one where that comes too late
        where, added = third_bin[rows], np.zeros(len(rows), dtype=np.int64)
        if side == DOWN:
            second = nth_bin(count[rows, DOWN], 2)
            early = second < exceeded[rows]
            where, added = np.where(early, second, where), (~early).astype(np.int64)
        cell = (rows, side, where)
        size[cell] += ANSWER - answered[rows] + np.maximum(-data[cell], 0) + added * headers[rows]
        count[cell] += added
        count[cell] += np.maximum(-(-size[cell] // mtu[rows]) - count[cell], 0)
        changed[rows] = True
    return changed


def bare_packets(
    shape: tuple[int, ...], tcp: Bools, syn_ack_bin: Ints, closer: Ints, closing_bin: Ints
) -> tuple[Ints, Ints]:
    """Mark the cells that begin, and those that end, with a bare packet; 0 or 1, shape (flows, 2, bins) each."""
    first, last = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    rows = np.flatnonzero(tcp)
    first[rows, UP, 0] = 1
    first[rows, DOWN, syn_ack_bin[rows]] = 1
    last[rows, closer[rows], closing_bin[rows]] = 1
    return first, last


def split_off_data(count: Ints, size: Ints, bare: Ints, mtu: Ints) -> Bools:
    """Make room for data that cells with `bare` packets have: as many other packets as their bytes need."""
    needed = -(-(size - MAX_BARE_SIZE * bare) // mtu[:, None, None])
    split = (bare > 0) & (needed > count - bare)
    count[split] = (needed + bare)[split]
    return np.asarray(split.any((1, 2)))


#: Counts and bytes with room for a closing, the number of packets added, and the cost of changes and a reset.
Closing = tuple[Ints, Ints, Ints, NDArray[np.float64]]


def cheapest_closing(
    count: Ints, size: Ints, headers: Ints, mtu: Ints, bin_edges: Ints
) -> tuple[Ints, Ints, Bools, Ints, Bools]:
    """Find the closing that changes least, for connections that have room for a handshake.

    `bin_edges` are the start of each bin and the end of the last one in ns, shape (flows, bins + 1). Returns counts and
    bytes with room for the closing; which flows got packets; side X (0 up, 1 down), which sends the last packet and the
    first FIN; and whether it sends an RST instead of a FIN.
    """
    ways = [_close_by_fins(count, size, side, headers, mtu, bin_edges) for side in (UP, DOWN)]
    ways += [_close_by_reset(count, size, side, headers, mtu) for side in (UP, DOWN)]
    counts, sizes, added, costs = zip(*ways, strict=True)
    way, row = np.argmin(costs, axis=0), np.arange(len(count))
    return np.stack(counts)[way, row], np.stack(sizes)[way, row], np.stack(added)[way, row] > 0, way % 2, way >= 2


def _close_by_fins(count: Ints, size: Ints, side: int, headers: Ints, mtu: Ints, bin_edges: Ints) -> Closing:
    """Make room for X = `side` to send FIN and the last packet, and for Y's FIN between them."""
    before = count.sum((1, 2))
    count, size = count.copy(), size.copy()
    bins, other = count.shape[2], 1 - side
    min_count, min_other = np.full(len(count), 3), 2 if side == UP else 3
    if side == UP:
        # the window of a SYN is not scaled: a client that sends just SYN, FIN and ACK never opens it further
        min_count[size[:, DOWN].sum(1) > SYN_WINDOW] = 4
    row, end = np.arange(len(count)), np.maximum(last_bin(count.sum(1)), 0)
    rows = np.flatnonzero(count[row, side, end] == 0)
    add_packets(count, size, rows, side, end[rows], 1, headers)
    other_end = last_bin(count[:, other])
    # X may send one packet after Y's FIN: bare, and soon
    after = (count[:, side] * (np.arange(bins) > other_end[:, None])).sum(1)
    duration = bin_edges[row, end + 1] - bin_edges[row, np.maximum(other_end, 0)]
    late = (other_end < end) & ((after != 1) | (size[row, side, end] > MAX_BARE_SIZE) | (duration > CLOSE_NS))
    lack = np.maximum(min_other - count[:, other].sum(1), late)
    rows = np.flatnonzero(lack > 0)
    add_packets(count, size, rows, other, end[rows], lack[rows], headers)
    other_end = nth_bin(count[:, other], 1, from_end=True)
    lack = min_count - count[:, side].sum(1)
    rows = np.flatnonzero(lack > 0)
    add_packets(count, size, rows, side, other_end[rows], lack[rows], headers)
    # among equals, prefer the side whose FIN is nearer to the end and not in the handshake
    early = (end - nth_bin(count[:, side], 2, from_end=True)) / bins + (count[:, side].sum(1) == 3)
    return _priced_closing(count, size, side, end, count.sum((1, 2)) - before, mtu, early / 8)


def _close_by_reset(count: Ints, size: Ints, side: int, headers: Ints, mtu: Ints) -> Closing:
    """Make room for X = `side` to end an open connection with one bare packet after all others."""
    count, size = count.copy(), size.copy()
    end = np.maximum(last_bin(count.sum(1)), 0)
    min_count = 3 if side == UP else 2  # SYN, acknowledgement, RST; SYN-ACK, RST
    lack = np.maximum(min_count - count[:, side].sum(1), count[np.arange(len(count)), side, end] == 0)
    added = np.maximum(lack, 0)
    rows = np.flatnonzero(added)
    add_packets(count, size, rows, side, end[rows], added[rows], headers)
    return _priced_closing(count, size, side, end, added, mtu, _RESET_COST)


def _priced_closing(
    count: Ints, size: Ints, side: int, end: Ints, added: Ints, mtu: Ints, cost: NDArray[np.float64] | float
) -> Closing:
    """Add the cost of changes to a closing by `side`, whose last packet, in bin `end`, must be bare."""
    row = np.arange(len(count))
    last_count, last_size = count[row, side, end], size[row, side, end]
    bare = 1 + (nth_bin(count[:, side], 1) == end)  # the last packet, and SYN or SYN-ACK if it is in the same bin
    split = last_size > MAX_BARE_SIZE * bare + mtu * (last_count - bare)
    odd = (last_count == 1) & (last_size % 4 > 0)
    return count, size, added, added + split + 0.5 * odd + cost
