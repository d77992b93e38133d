"""Packets in columns, with their header sizes and IP protocols: the ground floor of the capture exporter.

Counts and bytes of flows are arrays of shape (flows, 2, bins), the client's direction (up) first.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from netgen.capture.headers import (
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    PROTOCOL_IGMP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    protocol_mask,
)

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

UP = 0  # from the client, which sends a flow's first packet
DOWN = 1

MTU = 1500
IPV6_OVERHEAD = 20  # bytes of an IPv6 header beyond those of IPv4
UDP_HEADERS = 28  # bytes of IPv4 and UDP headers; ICMP and IGMP headers are as long
TCP_HEADERS = 40  # bytes of IPv4 and TCP headers without options
TIMESTAMP_HEADERS = 52  # bytes with the TCP timestamps option (RFC 7323)
SYN_SIZE = 52  # bytes of a SYN with maximum segment size, window scale and SACK permitted
TIMESTAMP_SYN_SIZE = 60  # bytes of a SYN with timestamps as well
MAX_BARE_SIZE = 80  # bytes of a TCP packet without data: its header has room for 40 bytes of options
SYN_WINDOW = 64_240  # bytes, the window of Linux's SYN
CLOSE_NS = 5_000_000_000  # flow meters forget a closed connection after this time (Zeek: tcp_close_delay)

#: Protocols with echo requests and replies, over IPv4 and IPv6 (RFC 792, RFC 4443).
ECHO_PROTOCOLS = protocol_mask(PROTOCOL_ICMP, PROTOCOL_ICMPV6)

#: Protocols without ports.
PORTLESS = ECHO_PROTOCOLS | protocol_mask(PROTOCOL_IGMP)


@dataclasses.dataclass(frozen=True)
class Packets:
    """Packets in columns, ordered by flow and then by time; arrays of shape (packets,)."""

    flow: Ints  # row of the plan
    offset_ns: Ints  # time since the flow's first packet
    up: Bools  # sent by the initiator
    size: Ints  # IP bytes
    headers: Ints  # bytes of all headers from IP on, options included
    flags: NDArray[np.uint8]  # TCP flags; 0 for other protocol_mask

    def __len__(self) -> int:
        return len(self.flow)


def export_protocol(protocol: Ints, v6: Bools) -> Ints:
    """Choose the IP protocol that each flow is written as from its own and from whether it is written over IPv6.

    TCP, UDP, ICMP and IGMP are written as themselves, ICMP as that of the IP version, and all others as UDP, as is
    IGMP over IPv6. All arrays have shape (flows,).
    """
    kept = np.isin(protocol, (PROTOCOL_TCP, PROTOCOL_UDP)) | ((protocol == PROTOCOL_IGMP) & ~v6)
    icmp = np.where(v6, PROTOCOL_ICMPV6, PROTOCOL_ICMP)
    return np.where(kept, protocol, np.where(ECHO_PROTOCOLS[protocol], icmp, PROTOCOL_UDP))


def run_starts(*columns: Ints) -> Ints:
    """Find where the run of rows with equal values begins that each row is in, shape (rows,)."""
    index = np.arange(len(columns[0]))
    same = np.all([column[1:] == column[:-1] for column in columns], axis=0)
    return np.maximum.accumulate(np.where(np.r_[False, same][: len(index)], 0, index))


def cumsum_in_runs(values: Ints | Bools, start: Ints) -> Ints:
    """Add up the values so far of each run of rows; `start` is where the run of a row begins."""
    total = values.cumsum()
    return np.asarray(total - (total - values)[start])


def nth_bin(count: Ints, n: int, *, from_end: bool = False) -> Ints:
    """Find the bin of each flow's n-th packet (n from 1) from `count` (flows, bins); the number of bins if none."""
    if from_end:
        bins = count.shape[1]
        behind = nth_bin(count[:, ::-1], n)
        return np.asarray(np.where(behind < bins, bins - 1 - behind, bins))
    return np.asarray((count.cumsum(1) < n).sum(1))


def last_bin(count: Ints) -> Ints:
    """Find the bin of each flow's last packet, -1 if it has none."""
    return np.asarray(count.shape[1] - 1 - nth_bin(count[:, ::-1], 1))


def add_packets(
    count: Ints, size: Ints, rows: Ints, side: int, where: Ints | int, number: Ints | int, packet_size: Ints
) -> None:
    """Add `number` packets of `packet_size[row]` bytes to the cells (rows, side, where), in place."""
    count[rows, side, where] += number
    size[rows, side, where] += number * packet_size[rows]
