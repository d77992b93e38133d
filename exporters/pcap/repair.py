"""Series that packets can carry: what stands in the way is changed, as little as will do, and counted.

A series counts every IP packet of a flow, so the handshake, the acknowledgements and the closing
of a TCP connection must come out of its own packets and bytes. Most series of whole connections
allow it as they are. Where one does not, packets are added (never taken away) until

* the first packet comes from the client and is a SYN, the server's first is the SYN-ACK, and the
  client's second comes between it and all other packets of the server;
* side X sends its FIN, then side Y sends its last packet with its FIN, then X acknowledges that
  with the flow's last packet; X is the side that needs the least change. Where that would take
  packets which a reset does not, X's last packet is an RST (`netgen.exporters.pcap.closing`);
* SYN and SYN-ACK have room for the window scale option, where either side sends more than an
  unscaled window;
* the server sends no more than 90 kB, and the client no more than 64 kB, before the other has sent any data.

Flows that are no connections, as nobody answered or accepted them, need none of this (`netgen.exporters.pcap.attempts`).

SYN, SYN-ACK and the last acknowledgement or RST are *small*: headers and nothing else, 40 to 80 bytes in
steps of 4. A FIN may carry data. A packet of IPv6 is one of IPv4 with 20 bytes more: they are taken
off before and put back after, and the largest packet is smaller by as much. All arrays of counts
and bytes have shape (flows, 2, bins), the client's direction (up) first.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.exporters.pcap.attempts import NONE, attempts, fitting
from netgen.exporters.pcap.closing import cheapest
from netgen.exporters.pcap.packets import (
    DOWN,
    MAX_BARE_SIZE,
    MTU,
    SYN_SIZE,
    SYN_WINDOW,
    TCP_HEADERS,
    TIMESTAMP_HEADERS,
    TIMESTAMP_SYN_SIZE,
    UDP_HEADERS,
    UP,
    Bools,
    Ints,
    add_packets,
    nth_bin,
)

DISAGREE = "bytes and packets of a bin made to agree"
OVERSIZE = "packets over 1500 bytes split"
NO_PACKET = "no packet in the first bin: one added"
SERVER_FIRST = "the server spoke first: a client's packet added"
NO_HANDSHAKE = "no room for the TCP handshake: packets added"
NO_CLOSING = "no room for the TCP closing: packets added"
TOO_LARGE = "a packet of the TCP handshake or closing had data: split off"
ODD_SIZE = "a packet of the TCP handshake or closing was no multiple of 4 bytes: shortened"
NO_SCALING = "no room for window scaling in SYN or SYN-ACK: up to 12 bytes added"
ONE_SIDED = "one side sent over 64 kB (the server 90 kB) before the other sent any data: 64 bytes of it added"

LOPSIDED = 90_000  # bytes from one side alone after which Suricata gives up looking for a protocol, with a margin
UNSCALED = 64_000  # bytes for which a SYN-ACK's window has room: no later packet of a silent server opens it further
ANSWER = 64  # bytes from the other that are enough for it


@dataclasses.dataclass(frozen=True)
class Shape:
    """Series that packets can carry, and where the packets with a role stand.

    Parameters
    ----------
    count, size : ndarray of int64, shape (flows, 2, bins)
        Packets and IP bytes, less `extra` a packet.
    extra : ndarray of int64, shape (flows,)
        0 for IPv4, 20 for IPv6.
    tcp : ndarray of bool, shape (flows,)
        The others have headers as short as UDP's.
    headers : ndarray of int64, shape (flows,)
        Bytes of the headers of a packet without a role: 28, 40 or 52.
    attempt : ndarray of int64, shape (flows,)
        Kind of a connection that never came about; 0 for others. See `netgen.exporters.pcap.attempts.Attempts`.
    closer : ndarray of int64, shape (flows,)
        Side X, which sends the first FIN, or the RST, and the last packet (0 up, 1 down).
    reset : ndarray of bool, shape (flows,)
        The last packet is an RST, and there are no FINs.
    syn_ack_bin, third_bin, first_fin_bin, second_fin_bin, last_bin : ndarray of int64, shape (flows,)
        Bins of the SYN-ACK, the client's second packet, X's and Y's FIN, and X's last packet. The first two have a
        meaning in connections that were opened, the FINs' in those that were closed by FINs.
    reasons : dict of str to ndarray of bool, shape (flows,)
        What was done to which flow.
    """

    count: Ints
    size: Ints
    extra: Ints
    tcp: Bools
    headers: Ints
    attempt: Ints
    closer: Ints
    reset: Bools
    syn_ack_bin: Ints
    third_bin: Ints
    first_fin_bin: Ints
    second_fin_bin: Ints
    last_bin: Ints
    reasons: dict[str, Bools]

    def take(self, rows: Ints) -> Shape:
        """Some of the flows, in the order given."""
        own = {
            field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self) if field.name != "reasons"
        }
        return Shape(**own, reasons={reason: flows[rows] for reason, flows in self.reasons.items()})

    @property
    def opened(self) -> Bools:
        """TCP connections that were opened by a handshake, shape (flows,)."""
        return self.tcp & (self.attempt == NONE)

    @property
    def stamped(self) -> Bools:
        """Flows that use the time stamps option, shape (flows,)."""
        return np.asarray(self.headers == TIMESTAMP_HEADERS)

    @property
    def series(self) -> Ints:
        """The series as the packets will have it, shape (flows, 4, bins)."""
        return np.concatenate([self.size + self.extra[:, None, None] * self.count, self.count], axis=1)


def mend(series: Ints, tcp: Bools, begins: Ints, extra: Ints | None = None, own: Ints | None = None) -> Shape:
    """The nearest series that packets can carry, with the places of the packets that have a role.

    Parameters
    ----------
    series : ndarray of int64, shape (flows, 4, bins)
    tcp : ndarray of bool, shape (flows,)
    begins : ndarray of int64, shape (flows or 1, bins + 1)
        Where each bin begins and the last one ends, ns since the flow's first packet.
    extra : ndarray of int64, shape (flows,), optional
        Bytes that a packet's IP header has beyond IPv4's 20.
    own : ndarray of int64, shape (flows,), optional
        Those that the packets which the series counts had; otherwise `extra`.
    """
    reasons: dict[str, Bools] = {}
    extra = np.zeros(len(series), dtype=np.int64) if extra is None else extra
    mtu = MTU - extra
    given = series[:, :2] - extra[:, None, None] * np.maximum(series[:, 2:], 0)
    size, count = np.maximum(given, 0), np.maximum(series[:, 2:], 0)
    smallest = np.where(tcp, TCP_HEADERS, UDP_HEADERS)[:, None, None]
    enough = -(-size // mtu[:, None, None])
    over = (enough > count) & (count > 0)
    reasons[OVERSIZE] = _any(over)
    new_count = np.maximum(count, enough)
    new_size = np.maximum(size, new_count * smallest)
    changed = (new_size != given) | (new_count != series[:, 2:])
    reasons[DISAGREE] = _any(changed & ~over)
    size, count = new_size, new_count
    as_given = count.copy(), size.copy()

    # time stamps if every packet has room for them: the additions below then have it too
    stamped = tcp & (size >= TIMESTAMP_HEADERS * count).all((1, 2))
    headers = np.where(stamped, TIMESTAMP_HEADERS, np.where(tcp, TCP_HEADERS, UDP_HEADERS)).astype(np.int64)
    syn_size = np.where(stamped, TIMESTAMP_SYN_SIZE, np.where(tcp, SYN_SIZE, UDP_HEADERS)).astype(np.int64)

    silent = count[:, UP, 0] == 0
    server_first = silent & (count[:, DOWN, 0] > 0)
    reasons[SERVER_FIRST] = server_first
    reasons[NO_PACKET] = silent & ~server_first
    add_packets(count, size, np.flatnonzero(silent), UP, 0, 1, syn_size)
    reasons[NO_HANDSHAKE], split = _handshake(count, size, tcp, headers, syn_size, mtu)

    closer, reset, closed = (np.zeros(len(count), kind) for kind in (np.int64, bool, bool))
    mine = np.flatnonzero(tcp)
    begins = np.broadcast_to(begins, (len(count), count.shape[2] + 1))
    closing = cheapest(count[mine], size[mine], headers[mine], mtu[mine], begins[mine])
    count[mine], size[mine] = closing.count, closing.size
    closer[mine], reset[mine], closed[mine] = closing.closer, closing.reset, closing.added > 0
    reasons[NO_CLOSING] = closed
    rows = np.arange(len(count))
    other = 1 - closer
    syn_ack_bin = nth_bin(count[:, DOWN], 1)
    last_bin = nth_bin(count[rows, closer], 1, from_end=True)
    small = small_packets(count.shape, tcp, syn_ack_bin, closer, last_bin)
    reasons[TOO_LARGE] = split | _split(count, size, small, mtu)
    odd = (small > 0) & (count == _smalls(small)) & (size % 4 > 0)
    size[odd] -= size[odd] % 4
    reasons[ODD_SIZE] = _any(odd)

    syn_ack = np.where(syn_ack_bin < count.shape[2], syn_ack_bin, 0)
    reasons[NO_SCALING] = _make_room_to_scale(count, size, tcp, syn_ack)
    third_bin = nth_bin(count[:, UP], 2)
    rst = (np.flatnonzero(reset), closer[reset], last_bin[reset])
    headers, answered = _headers(count, size, tcp, syn_ack, rst), np.zeros(len(count), dtype=bool)
    for _ in range(2):  # what is added may be the room that time stamps lacked
        answered |= _answer(count, size, tcp, headers, mtu, syn_ack, third_bin)
        headers = _headers(count, size, tcp, syn_ack, rst)
    reasons[ONE_SIDED] = answered
    shape = Shape(
        count=count,
        size=size,
        extra=extra,
        tcp=tcp,
        headers=headers,
        attempt=np.full(len(count), NONE),
        closer=closer,
        reset=reset,
        syn_ack_bin=syn_ack_bin,
        third_bin=third_bin,
        first_fin_bin=nth_bin(count[rows, closer], 2, from_end=True),
        second_fin_bin=nth_bin(count[rows, other], 1, from_end=True),
        last_bin=last_bin,
        reasons=reasons,
    )
    own = extra if own is None else own
    _leave_attempts(shape, *as_given, series[:, :2] - own[:, None, None] * series[:, 2:])
    return dataclasses.replace(shape, reasons={reason: flows for reason, flows in reasons.items() if flows.any()})


def _leave_attempts(shape: Shape, count: Ints, size: Ints, before: Ints) -> None:
    """Give flows, in place, the packets and bytes that they came with where that is no connection.

    What it is, the sizes say that its packets had with IPv4's header: `before`, (flows, 2, bins).
    """
    found = attempts(count, before, shape.tcp)
    fits, stamped = fitting(found, count, size)
    own = {reason: shape.reasons[reason] for reason in (DISAGREE, OVERSIZE)}
    changed = np.any([flows for reason, flows in shape.reasons.items() if reason not in own], axis=0)
    rows = np.flatnonzero(fits & (changed | found.sure))
    for reason, flows in shape.reasons.items():
        flows[rows] &= reason in own
    shape.count[rows], shape.size[rows] = count[rows], size[rows]
    shape.headers[rows] = np.where(stamped[rows], TIMESTAMP_HEADERS, TCP_HEADERS)
    shape.attempt[rows], shape.closer[rows], shape.reset[rows] = found.kind[rows], UP, found.reset[rows]
    shape.last_bin[rows] = nth_bin(count[rows, UP], 1, from_end=True)


def _headers(count: Ints, size: Ints, tcp: Bools, syn_ack_bin: Ints, rst: tuple[Ints, Ints, Ints]) -> Ints:
    """Header bytes of a packet without a role: with time stamps where every packet has room for them, but an RST.

    `rst` is where RSTs are: flows, sides and bins.
    """
    least = TIMESTAMP_HEADERS * count
    least[:, UP, 0] += TIMESTAMP_SYN_SIZE - TIMESTAMP_HEADERS
    rows = np.flatnonzero(tcp)
    least[rows, DOWN, syn_ack_bin[rows]] += TIMESTAMP_SYN_SIZE - TIMESTAMP_HEADERS
    least[rst] -= TIMESTAMP_HEADERS - TCP_HEADERS
    stamped = tcp & (size >= least).all((1, 2))
    return np.where(stamped, TIMESTAMP_HEADERS, np.where(tcp, TCP_HEADERS, UDP_HEADERS)).astype(np.int64)


def _make_room_to_scale(count: Ints, size: Ints, tcp: Bools, syn_ack_bin: Ints) -> Bools:
    """Give SYN and SYN-ACK, in place, the bytes of their options where a side sends more than an unscaled window."""
    large = tcp & (size.sum(2).max(1) > SYN_WINDOW)
    changed = np.zeros(len(count), dtype=bool)
    for side, where in ((UP, np.zeros(len(count), dtype=np.int64)), (DOWN, syn_ack_bin)):
        rows = np.flatnonzero(large)
        cell = (rows, side, where[rows])
        lack = TCP_HEADERS * (count[cell] - 1) + SYN_SIZE - size[cell]
        size[cell] += np.maximum(lack, 0)
        changed[rows] |= lack > 0
    return changed


def _answer(count: Ints, size: Ints, tcp: Bools, headers: Ints, mtu: Ints, syn_ack_bin: Ints, third_bin: Ints) -> Bools:
    """Let neither side send much, in place, before the other has sent a little."""
    row = np.arange(len(count))
    spare = size - headers[:, None, None] * count
    options = np.where(headers == TIMESTAMP_HEADERS, TIMESTAMP_SYN_SIZE, SYN_SIZE) - headers
    spare[:, UP, 0] -= options
    spare[row, DOWN, syn_ack_bin] -= options
    sent = np.maximum(spare, 0).cumsum(2)
    changed = np.zeros(len(count), dtype=bool)
    for side in (UP, DOWN):
        limit = LOPSIDED if side == UP else UNSCALED
        much = tcp & (sent[:, 1 - side, -1] > limit)
        late = (sent[:, 1 - side] > limit).argmax(1)
        # within a bin the client asks first, so its data count in the bin itself
        until = late if side == UP else late - 1
        given = np.where(until >= 0, sent[row, side, until], 0)
        rows = np.flatnonzero(much & (given < ANSWER))
        # to the client's third packet; the server's first after it, or one more where that comes too late
        where, more = third_bin[rows], np.zeros(len(rows), dtype=np.int64)
        if side == DOWN:
            second = nth_bin(count[rows, DOWN], 2)
            early = second < late[rows]
            where, more = np.where(early, second, where), (~early).astype(np.int64)
        cell = (rows, side, where)
        size[cell] += ANSWER - given[rows] + np.maximum(-spare[cell], 0) + more * headers[rows]
        count[cell] += more
        count[cell] += np.maximum(-(-size[cell] // mtu[rows]) - count[cell], 0)
        changed[rows] = True
    return changed


def small_packets(shape: tuple[int, ...], tcp: Bools, syn_ack_bin: Ints, closer: Ints, last_bin: Ints) -> Ints:
    """Where a direction's packets of a bin begin (1) or end (2) with a small one, or both (3)."""
    small = np.zeros(shape, dtype=np.int64)
    rows = np.flatnonzero(tcp)
    small[rows, UP, 0] += 1
    small[rows, DOWN, syn_ack_bin[rows]] += 1
    small[rows, closer[rows], last_bin[rows]] += 2
    return small


def _handshake(count: Ints, size: Ints, tcp: Bools, headers: Ints, syn_size: Ints, mtu: Ints) -> tuple[Bools, Bools]:
    """Make room, in place, for SYN, SYN-ACK and the client's second packet.

    Returns
    -------
    added, split : ndarray of bool, shape (flows,)
    """
    bins = count.shape[2]
    syn = np.zeros(count.shape, dtype=np.int64)
    syn[tcp, UP, 0] = 1
    split = _split(count, size, syn, mtu)
    third = nth_bin(count[:, UP], 2)
    late = tcp & ((nth_bin(count[:, DOWN], 1) > third) | (count[:, DOWN].sum(1) == 0))
    add_packets(count, size, np.flatnonzero(late), DOWN, 0, 1, syn_size)
    answer = nth_bin(count[:, DOWN], 1)
    syn_ack = np.zeros(count.shape, dtype=np.int64)
    syn_ack[tcp, DOWN, answer[tcp]] = 1
    split |= _split(count, size, syn_ack, mtu)
    # the server may not go on before the client has answered; a connection needs that answer anyway
    unanswered = tcp & ((nth_bin(count[:, DOWN], 2) < third) | (third == bins))
    rows = np.flatnonzero(unanswered)
    add_packets(count, size, rows, UP, answer[rows], 1, headers)
    return late | unanswered, split


def _smalls(small: Ints) -> Ints:
    """Number of small packets in cells marked as by `small_packets`."""
    return (small & 1) + (small >> 1)


def _split(count: Ints, size: Ints, small: Ints, mtu: Ints) -> Bools:
    """Give cells with small packets, in place, as many others as their bytes need; which flows needed it."""
    smalls = _smalls(small)
    needed = -(-(size - MAX_BARE_SIZE * smalls) // mtu[:, None, None])
    split = (smalls > 0) & (needed > count - smalls)
    count[split] = (needed + smalls)[split]
    return _any(split)


def _any(cells: Bools) -> Bools:
    """Flows in which any cell is true."""
    return np.asarray(cells.any(axis=(1, 2)))
