"""Packets -> frames: all that differs from one packet of a flow to the next, in 40 bytes each.

Frames stand alone: they can be sorted, put by in a file, and joined with those of other flows. What
all packets of a flow share is in `Endpoints`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from netgen.capture.headers import PROTOCOL_IGMP
from netgen.exporters.pcap.addresses import Addresses
from netgen.exporters.pcap.counter_rng import Words, random_bits
from netgen.exporters.pcap.packets import ECHO_PROTOCOLS, Bools, Ints, Packets
from netgen.exporters.pcap.plan import Plan
from netgen.exporters.pcap.tcp import tcp_fields

#: `kind` is a sum of the flags below; `flow` a row of `Endpoints`.
FRAME = np.dtype(
    [
        ("time_ns", "<i8"),
        ("flow", "<u4"),
        ("seq", "<u4"),
        ("ack", "<u4"),
        ("stamp", "<u4"),
        ("echo", "<u4"),
        ("size", "<u2"),
        ("window", "<u2"),
        ("id", "<u2"),
        ("headers", "u1"),
        ("flags", "u1"),
        ("kind", "u1"),
        ("spare", "V3"),
    ]
)

UP, TCP, V6, TIMESTAMPS, SCALED, ECHO, IGMP = 1, 2, 4, 8, 16, 32, 64

_TTL, _MAC, _ID = 64, 66, 68  # streams of `random_bits`


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """What lies at both ends of each flow, and what its payload needs.

    Parameters
    ----------
    where : Addresses
    keys : ndarray of uint64, shape (flows,)
    mac : ndarray of uint32, shape (flows, 2)
        Last four bytes of the client's and of the router's MAC address.
    hops : ndarray of uint8, shape (flows,)
        Hops from the server to the client, where the capture is taken.
    first_seq : ndarray of uint32, shape (flows, 2)
        Sequence number of the first payload byte, up and down; filled in by `frames`.
    streams : ndarray of int64, shape (flows, 2)
        Payload bytes up and down; filled in by `frames`.
    early : ndarray of int64, shape (flows,)
        Payload bytes that the client sends before the server sends any; filled in by `frames`.
    """

    where: Addresses
    keys: Words
    mac: NDArray[np.uint32]
    hops: NDArray[np.uint8]
    first_seq: NDArray[np.uint32]
    streams: Ints
    early: Ints

    def __len__(self) -> int:
        return len(self.keys)


def ends(keys: Words, where: Addresses) -> Endpoints:
    """Ends of flows at these addresses; all else is drawn by the flows' keys alone."""
    mac = np.stack([random_bits(keys, _MAC + side) & np.uint64(0xFFFFFFFF) for side in (0, 1)], axis=1)
    return Endpoints(
        where=where,
        keys=keys,
        mac=mac.astype(np.uint32),
        hops=(5 + random_bits(keys, _TTL) % np.uint64(16)).astype(np.uint8),
        first_seq=np.zeros((len(keys), 2), np.uint32),
        streams=np.zeros((len(keys), 2), np.int64),
        early=np.zeros(len(keys), np.int64),
    )


def frames(plan: Plan, packets: Packets, start_ns: Ints, rows: Ints, both: Endpoints) -> NDArray[np.void]:
    """Frames of packets, in their order.

    Parameters
    ----------
    plan : Plan
    packets : Packets
        Whole flows.
    start_ns : ndarray of int64, shape (flows of the plan,)
        Time of each flow's first packet, ns since 1970.
    rows : ndarray of int64, shape (flows of the plan,)
        Row of each flow in `both`.
    both : Ends
        Gets the flows' first sequence numbers and lengths of streams.

    Returns
    -------
    ndarray of FRAME, shape (packets,)
    """
    flow, up = packets.flow, packets.up
    talk = tcp_fields(plan, packets)
    out = np.empty(len(packets), FRAME)
    out["time_ns"] = start_ns[flow] + packets.offset_ns
    out["flow"] = rows[flow]
    out["size"], out["headers"], out["flags"] = packets.size, packets.headers, packets.flags
    out["ack"], out["window"] = talk.ack, talk.window
    out["stamp"], out["echo"] = talk.stamp, talk.echo
    number = _numbers(flow, up)
    first = np.stack([random_bits(plan.keys, _ID + side) & np.uint64(0xFFFF) for side in (0, 1)], axis=1).astype(
        np.int64
    )
    out["id"] = first[flow, np.where(up, 0, 1)] + number & 0xFFFF
    echo, grouped = ECHO_PROTOCOLS[plan.protocol], plan.protocol == PROTOCOL_IGMP
    out["seq"] = np.where(echo[flow], number + 1 & 0xFFFF, talk.seq)
    out["seq"] = np.where(grouped[flow], both.where.server[out["flow"]] & 0xFFFF, out["seq"])
    own = np.where(plan.shape.tcp, TCP, 0) | np.where(plan.shape.extra > 0, V6, 0)
    own |= np.where(echo, ECHO, 0) | np.where(grouped, IGMP, 0)
    own |= np.where(plan.shape.stamped, TIMESTAMPS, 0) | np.where(talk.scaled, SCALED, 0)
    out["kind"] = own.astype(np.uint8)[flow] | up
    out["spare"] = b"\0\0\0"
    seen = np.unique(flow)
    both.first_seq[rows[seen]] = talk.first_seq[seen]
    payload = packets.size - packets.headers
    answer = ~up & (payload > 0)
    place = np.arange(len(flow))
    first_answer = np.full(len(plan), len(flow))
    np.minimum.at(first_answer, flow[answer], place[answer])
    for target, chosen in (
        (both.streams[:, 0], up),
        (both.streams[:, 1], ~up),
        (both.early, up & (place < first_answer[flow])),
    ):
        target[rows[seen]] = np.bincount(flow[chosen], payload[chosen], len(plan)).astype(np.int64)[seen]
    return out


def _numbers(flow: Ints, up: Bools) -> Ints:
    """How many packets of its flow and direction came before each, shape (packets,)."""
    numbers = np.zeros(len(flow), dtype=np.int64)
    for mine in (up, ~up):
        own = flow[mine]
        new = np.flatnonzero(np.r_[True, own[1:] != own[:-1]]) if len(own) else np.zeros(0, dtype=np.int64)
        numbers[mine] = np.arange(len(own)) - np.repeat(new, np.diff(np.r_[new, len(own)]))
    return numbers
