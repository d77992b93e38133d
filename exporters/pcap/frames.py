"""Packets -> frames: what differs from one packet of a flow to the next, in 40 bytes each.

Frames are self-contained: they can be sorted, spilled to a file, and merged with those of other
flows. What all packets of a flow share is in `Endpoints`. Sequence numbers, acknowledgements,
windows and timestamps follow from the packets in order of time.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from netgen.capture.headers import PROTOCOL_IGMP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from netgen.exporters.pcap.addresses import Addresses
from netgen.exporters.pcap.counter_rng import Words, random_bits
from netgen.exporters.pcap.packets import (
    ECHO_PROTOCOLS,
    SYN_WINDOW,
    TCP_HEADERS,
    Bools,
    Ints,
    Packets,
    cumsum_in_runs,
    run_starts,
)
from netgen.exporters.pcap.plan import Plan

#: `kind` is a sum of the flags below; `flow` a row of `Endpoints`.
FRAME = np.dtype(
    [
        ("time_ns", "<i8"),
        *((name, "<u4") for name in ("flow", "seq", "ack", "stamp", "echo")),
        *((name, "<u2") for name in ("size", "window", "id")),
        *((name, "u1") for name in ("headers", "flags", "kind")),
        ("spare", "V3"),
    ]
)

UP, TCP, V6, TIMESTAMPS, SCALED, ECHO, IGMP = 1, 2, 4, 8, 16, 32, 64

WINDOW_SHIFT = 7
SYN_ACK_WINDOW = 65_160  # bytes, as Linux offers at a maximum segment size of 1460
MIN_WINDOW = 502  # smallest sampled window, in units of 128 bytes
WINDOW_UPDATES = 64  # window updates after which the window starts again
MAX_WINDOW = 65535 - WINDOW_UPDATES

_ISN, _CLOCK, _WINDOW, _TTL, _MAC, _ID = 48, 50, 52, 64, 66, 68  # streams of `random_bits`


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """Both ends of each flow, and what its payload needs; `frames` fills in the last three."""

    where: Addresses
    keys: Words  # (flows,)
    mac: NDArray[np.uint32]  # (flows, 2): last four bytes of the client's and of the router's MAC address
    hops: NDArray[np.uint8]  # (flows,): from the server to the client, where the capture is taken
    first_seq: NDArray[np.uint32]  # (flows, 2): sequence number of the first payload byte, up and down
    streams: Ints  # (flows, 2): payload bytes up and down
    early: Ints  # (flows,): payload bytes that the client sends before the server sends any

    @classmethod
    def at(cls, where: Addresses, keys: Words) -> Endpoints:
        """Sample the endpoints of flows at these addresses from their keys."""
        return cls(
            where=where,
            keys=keys,
            mac=_bits_of_both_sides(keys, _MAC, 32).astype(np.uint32),
            hops=(5 + random_bits(keys, _TTL) % np.uint64(16)).astype(np.uint8),
            first_seq=np.zeros((len(keys), 2), np.uint32),
            streams=np.zeros((len(keys), 2), np.int64),
            early=np.zeros(len(keys), np.int64),
        )

    def __len__(self) -> int:
        return len(self.keys)


def frames(plan: Plan, packets: Packets, start_ns: Ints, rows: Ints, endpoints: Endpoints) -> NDArray[np.void]:
    """Make frames of packets, in their order.

    `packets` are whole flows, which begin at `start_ns`, ns since 1970; `rows` are their rows in `endpoints`; both of
    shape (flows of the plan,). The endpoints' first sequence numbers and lengths of streams are filled in.
    """
    flow, up = packets.flow, packets.up
    out = np.zeros(len(packets), FRAME)
    scaled, first_seq = _fill_tcp_fields(plan, packets, out)
    out["time_ns"] = start_ns[flow] + packets.offset_ns
    out["flow"] = rows[flow]
    out["size"], out["headers"], out["flags"] = packets.size, packets.headers, packets.flags
    number = np.zeros(len(flow), dtype=np.int64)  # packets of the same flow and direction before this one
    for side in (up, ~up):
        number[side] = np.arange(side.sum()) - run_starts(flow[side])
    out["id"] = _bits_of_both_sides(plan.keys, _ID, 16)[flow, np.where(up, 0, 1)] + number & 0xFFFF
    echo, igmp = ECHO_PROTOCOLS[plan.protocol], plan.protocol == PROTOCOL_IGMP
    out["seq"] = np.where(echo[flow], number + 1 & 0xFFFF, out["seq"])
    out["seq"] = np.where(igmp[flow], endpoints.where.server[out["flow"]] & 0xFFFF, out["seq"])
    kind = np.where(plan.tcp, TCP, 0) | np.where(plan.ip_overhead > 0, V6, 0)
    kind |= np.where(echo, ECHO, 0) | np.where(igmp, IGMP, 0)
    kind |= np.where(plan.has_timestamps, TIMESTAMPS, 0) | np.where(scaled, SCALED, 0)
    out["kind"] = kind.astype(np.uint8)[flow] | up
    used = np.unique(flow)
    endpoints.first_seq[rows[used]] = first_seq[used]
    payload = packets.size - packets.headers
    answers = np.flatnonzero(~up & (payload > 0))
    first_answer = np.full(len(plan), len(flow))
    np.minimum.at(first_answer, flow[answers], answers)
    early = up & (np.arange(len(flow)) < first_answer[flow])
    for total, counted in ((endpoints.streams[:, 0], up), (endpoints.streams[:, 1], ~up), (endpoints.early, early)):
        total[rows[used]] = np.bincount(flow[counted], payload[counted], len(plan)).astype(np.int64)[used]
    return out


def _fill_tcp_fields(plan: Plan, packets: Packets, out: NDArray[np.void]) -> tuple[Bools, Ints]:
    """Fill in `seq`, `ack`, `window` (before scaling), and `stamp` and `echo`, TSval and TSecr of RFC 7323 in ms.

    Those of other protocols than TCP have no meaning. Returns which flows have room for the window scale option in SYN
    and SYN-ACK, shape (flows of the plan,), and the sequence number of each side's first payload byte, shape (flows,
    2).
    """
    flow, up = packets.flow, packets.up
    begin = run_starts(flow)
    syn, fin, reset = ((packets.flags & flag) > 0 for flag in (TCP_SYN, TCP_FIN, TCP_RST))
    payload = packets.size - packets.headers
    length = payload + syn + fin  # in sequence space
    lengths = np.where(up, length, 0), np.where(up, 0, length)
    sent = [cumsum_in_runs(own, begin) - own for own in lengths]  # by each side before this packet
    first = _bits_of_both_sides(plan.keys, _ISN, 32)
    isn_up, isn_down = first[flow].T
    seq = np.where(up, sent[0] + isn_up, sent[1] + isn_down)
    ack = np.where(up, sent[1] + isn_down, sent[0] + isn_up)
    # RFC 9293, 3.10.7: what refuses a SYN has number 0; what resets a SYN-ACK has the number that it acknowledged
    attempt = plan.is_attempt[flow]
    seq = np.where(attempt & syn, np.where(up, isn_up, isn_down), np.where(attempt & reset, (isn_up + 1) * up, seq))
    ack = np.where(attempt & ~up, isn_up + 1, ack)
    ack[(packets.flags & TCP_ACK) == 0] = 0

    # both sides scale their windows or neither does
    scaled = np.ones(len(plan), dtype=bool)
    scaled[flow[syn & (packets.headers - plan.ip_overhead[flow] < TCP_HEADERS + 8)]] = False
    window = np.zeros(len(flow), dtype=np.int64)
    for sender, own in enumerate((up, ~up)):
        # a FIN does not move the window's edge for Suricata 7, so what came before it must suffice
        needed = _max_in_flight(sent[1 - sender], length, own & ~fin, begin)
        sampled = MIN_WINDOW + (random_bits(plan.keys, _WINDOW + sender) % np.uint64(1500)).astype(np.int64)[flow]
        base = np.where(scaled[flow], np.maximum(sampled, (needed >> WINDOW_SHIFT) + 2), MAX_WINDOW)
        bare = (payload == 0) & ~syn & ~fin
        window[own] = np.minimum(base, MAX_WINDOW)[own] + _window_update_offset(flow[own], ack[own], bare[own])
    window[syn] = np.where(up, SYN_WINDOW, SYN_ACK_WINDOW)[syn]
    window[reset] = 0

    # each side echoes the other side's latest timestamp; each side's clock began at its own time
    clock = [(random_bits(plan.keys, _CLOCK + side) >> np.uint64(33)).astype(np.int64)[flow] for side in (0, 1)]
    stamp = packets.offset_ns // 1_000_000 + np.where(up, clock[0], clock[1])
    index = np.arange(len(flow))
    latest = [np.maximum.accumulate(np.where(side, index, -1)) for side in (~up, up)]
    heard = np.where(up, *latest)
    echo = np.where((heard >= begin) & ~(syn & up), stamp[heard], 0)
    for name, field in (("seq", seq), ("ack", ack), ("window", window), ("stamp", stamp), ("echo", echo)):
        out[name] = field & 0xFFFFFFFF
    return scaled, first + 1 & 0xFFFFFFFF


def _bits_of_both_sides(keys: Words, stream: int, bits: int) -> Ints:
    """Sample random bits for both sides of each flow, shape (flows, 2)."""
    words = np.stack([random_bits(keys, stream + side) for side in (0, 1)], axis=1)
    return (words & np.uint64((1 << bits) - 1)).astype(np.int64)


def _max_in_flight(sent: Ints, length: Ints, receiver: Bools, begin: Ints) -> Ints:
    """Find the most bytes that were on the way to `receiver` without an acknowledgement in each packet's flow."""
    # within a flow `sent` only grows, so an offset for each flow makes one running maximum serve all
    starts = np.unique(begin)
    offset = np.zeros(len(sent), dtype=np.int64)
    offset[starts[1:]] = (sent + length)[starts[1:] - 1]
    offset = offset.cumsum()
    acked = np.maximum.accumulate(np.where(receiver, sent + offset, offset)) - offset
    in_flight = np.where(receiver, 0, sent + length - acked)
    return np.repeat(np.maximum.reduceat(in_flight, starts), np.diff(np.r_[starts, len(sent)]))


def _window_update_offset(flow: Ints, ack: Ints, bare: Bools) -> Ints:
    """Return what to add to the windows of one side so that bare packets without a new ACK are window updates.

    Such a packet with the same window would be a duplicate acknowledgement, the sign of a loss.
    """
    begin = run_starts(flow)
    repeated = bare & (begin < np.arange(len(flow))) & (ack == np.r_[0, ack][: len(flow)])
    return cumsum_in_runs(repeated, begin) % WINDOW_UPDATES
