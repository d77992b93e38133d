"""Plans: series repaired so that packets can carry them, and the bins of the packets with a role.

A series counts every IP packet of a flow, so the handshake, the acknowledgements and the closing
of a TCP connection must come out of its own packets and bytes. Most series of whole connections
allow it as they are. Otherwise packets are added (never removed) until

* the first packet comes from the client and is a SYN, the server's first is the SYN-ACK, and the
  client's second comes between it and all other packets of the server;
* side X sends its FIN, then side Y sends its last packet with its FIN, then X acknowledges that
  with the flow's last packet; X is the side that needs the smaller change. Where that would take
  packets which a reset does not, X's last packet is an RST;
* SYN and SYN-ACK have room for the window scale option, where either side sends more than an
  unscaled window;
* the server sends no more than 90 kB, and the client no more than 64 kB, before the other has sent any data.

Attempts, connections that never opened, need none of this (`netgen.exporters.pcap.tcp_lifecycle`).

SYN, SYN-ACK and the last acknowledgement or RST are *bare*: headers and nothing else, 40 to 80 bytes in
steps of 4. A FIN may carry data. A packet of IPv6 is planned as one of IPv4: the 20 bytes that its
header has more are subtracted from its size and from the MTU.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Self

import numpy as np
import pyarrow.compute as pc

from netgen.capture.errors import OutputError
from netgen.capture.headers import PROTOCOL_ICMPV6, PROTOCOL_TCP
from netgen.capture.series.counters import as_bins
from netgen.capture.series.spec import GAP_NS, PACKETS, SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.choices import IpVersion
from netgen.exporters.pcap.counter_rng import Words, flow_keys, occurrences
from netgen.exporters.pcap.packets import (
    DOWN,
    ECHO_PROTOCOLS,
    IPV6_OVERHEAD,
    MTU,
    SYN_SIZE,
    TCP_HEADERS,
    TIMESTAMP_HEADERS,
    TIMESTAMP_SYN_SIZE,
    UDP_HEADERS,
    UP,
    Bools,
    Ints,
    add_packets,
    export_protocol,
    nth_bin,
)
from netgen.exporters.pcap.sizes_and_times import Profiles, load_profiles
from netgen.exporters.pcap.tcp_lifecycle import (
    NONE,
    bare_packets,
    cheapest_closing,
    check_attempt_sizes,
    find_attempts,
    limit_lead,
    make_room_to_open,
    make_room_to_scale,
    split_off_data,
)


class Repair(enum.StrEnum):
    """Kinds of repairs: what was wrong, and what was done."""

    DISAGREE = "bytes without packets, or too few bytes for the packets of a bin: adjusted"
    OVERSIZE = "packets over 1500 bytes: split"
    NO_PACKET = "no packet in the first bin: one added"
    SERVER_FIRST = "the server sent the first packet: a client packet added"
    NO_HANDSHAKE = "no room for the TCP handshake: packets added"
    NO_CLOSING = "no room for the TCP closing: packets added"
    TOO_LARGE = "data in a bare packet of the TCP handshake or closing: moved to another packet"
    ODD_SIZE = "a bare TCP packet with a size that is no multiple of 4 bytes: shortened"
    NO_SCALING = "no room for the window scale option in SYN or SYN-ACK: up to 12 bytes added"
    ONE_SIDED = "over 64 kB from one side (the server: 90 kB) before any data from the other: 64 bytes added"
    SMALL_PACKET = "packets smaller than their headers: enlarged"
    NO_PACKETS = "no packets at all: one added"
    OTHER_PROTOCOL = "a protocol that cannot be written over this IP version: written as UDP"
    OTHER_ICMP = "ICMP of the other IP version: converted"


#: Repairs of bins as repairs of packets.
_OF_PACKETS = {Repair.DISAGREE: Repair.SMALL_PACKET, Repair.NO_PACKET: Repair.NO_PACKETS}


@dataclasses.dataclass(frozen=True)
class RepairedSeries:
    """Series that packets can carry, and where the packets with a role are; arrays of shape (flows,).

    Side X sends the first FIN or the RST, and the last packet; Y is the other side.
    """

    count: Ints  # packets, (flows, 2, bins)
    size: Ints  # bytes without `ip_overhead`, (flows, 2, bins)
    ip_overhead: Ints  # bytes of an IP header beyond those of IPv4: 0 or 20
    tcp: Bools  # other protocols have headers as short as UDP's
    headers: Ints  # header bytes of a packet without a role: 28, 40 or 52
    attempt: Ints  # kind of a connection that never opened (see `tcp_lifecycle`), `NONE` for other flows
    closer: Ints  # side X: 0 up, 1 down
    reset: Bools  # the last packet is an RST, and there are no FINs
    syn_ack_bin: Ints  # of open connections, as the next one
    third_bin: Ints  # of the client's second packet
    first_fin_bin: Ints  # of X's FIN, in connections closed by FINs
    second_fin_bin: Ints  # of Y's FIN
    closing_bin: Ints  # of X's last packet
    reasons: dict[Repair, Bools]  # flows that needed a repair

    @property
    def is_attempt(self) -> Bools:
        """TCP connections that never opened, shape (flows,)."""
        return np.asarray(self.attempt > NONE)

    @property
    def opened(self) -> Bools:
        """TCP connections with a handshake, shape (flows,)."""
        return self.tcp & ~self.is_attempt

    @property
    def has_timestamps(self) -> Bools:
        """Flows with the TCP timestamps option, shape (flows,)."""
        return np.asarray(self.headers == TIMESTAMP_HEADERS)

    @property
    def series(self) -> Ints:
        """Repaired series of bins, shape (flows, 4, bins); in a view of packets, each packet has a bin of its own."""
        return np.concatenate([self.size + self.ip_overhead[:, None, None] * self.count, self.count], axis=1)

    @property
    def repaired(self) -> Bools:
        """Flows that needed any repair, shape (flows,)."""
        return np.asarray(np.any([np.zeros(len(self.tcp), dtype=bool), *self.reasons.values()], axis=0))

    @property
    def repairs(self) -> dict[str, int]:
        """Number of flows that needed each kind of repair."""
        return {str(reason): int(flows.sum()) for reason, flows in self.reasons.items() if flows.any()}


@dataclasses.dataclass(frozen=True)
class Plan(RepairedSeries):
    """What will be written for every flow of a table; arrays of shape (flows,).

    A flow's random numbers depend on `seed`, `number` and `occurrence` alone.
    """

    spec: SeriesSpec
    seed: int
    protocol: Ints  # IP protocol that each flow is written as
    number: Ints  # the flow's number in the table
    occurrence: Ints  # how often that number came before
    profiles: Profiles  # of the classes of its UDP flows
    times: Ints | None = None  # of packets in their view: ns since the first, the last one twice; (flows, packets + 1)

    def __len__(self) -> int:
        return len(self.number)

    @property
    def keys(self) -> Words:
        """Keys of the flows' random numbers, shape (flows,)."""
        return flow_keys(self.seed, self.number, self.occurrence)

    @property
    def packet_counts(self) -> Ints:
        """Packets of each flow, shape (flows,)."""
        return np.asarray(self.count.sum((1, 2)))

    def take(self, rows: Ints) -> Self:
        """Select flows, in the order given."""
        arrays: dict[str, Any] = {
            name: value[rows] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        reasons = {reason: flows[rows] for reason, flows in self.reasons.items()}
        return dataclasses.replace(self, **arrays, reasons=reasons, profiles=self.profiles.take(rows))


def plan(table: FlowTable, *, seed: int = 0, ip_version: IpVersion = "auto", occurrence: Ints | None = None) -> Plan:
    """Repair the series of all flows, and fix what every packet will be.

    A flow without a protocol becomes TCP; see `netgen.exporters.pcap.packets.export_protocol` for others. The packets
    of a flow depend on the flow and the seed, not on the table's other flows. `occurrence` is how often each flow's
    number came before, where the table is a section of a larger one.

    Raises
    ------
    OutputError
        If a bin has more packets than nanoseconds.
    """
    spec, series = table.spec, table.series()
    overhead, original_overhead = ip_overheads(table, ip_version)
    original_protocol = protocols_of(table)
    protocol = export_protocol(original_protocol, overhead > 0)
    times = None
    edges = np.arange(spec.length + 1)[None] * spec.bin_ns
    if spec.view == PACKETS:
        times = series[:, 1].cumsum(1) * GAP_NS
        times = edges = np.concatenate([times, times[:, -1:]], axis=1)
    repaired = repair_series(as_bins(series, spec), protocol == PROTOCOL_TCP, edges, overhead, original_overhead)
    reasons = repaired.reasons
    if times is not None:
        reasons = {_OF_PACKETS.get(reason, reason): flows for reason, flows in reasons.items()}
    other, echo = protocol != original_protocol, ECHO_PROTOCOLS[original_protocol]
    reasons |= {Repair.OTHER_PROTOCOL: other & ~echo, Repair.OTHER_ICMP: other & echo}
    number = table.table["flow"].to_numpy().astype(np.int64)
    crowded = repaired.count.sum(1) >= spec.bin_ns
    if times is None and crowded.any():
        row, where = np.argwhere(crowded)[0]
        raise OutputError(
            f"flow {number[row]} has {repaired.count[row, :, where].sum()} packets in bin {where}, which is "
            f"{spec.bin_ns} ns wide: each packet needs a nanosecond of its own",
            "Extract it with wider bins: --bin-width 1ms",
        )
    return Plan(
        **{**vars(repaired), "reasons": reasons},
        spec=spec,
        seed=seed,
        protocol=protocol,
        number=number,
        occurrence=occurrences(number) if occurrence is None else occurrence,
        profiles=load_profiles(table),
        times=times,
    )


def protocols_of(table: FlowTable) -> Ints:
    """Return the flows' own IP protocols, TCP where none is known, shape (flows,)."""
    return np.asarray(table.table["protocol"].fill_null(PROTOCOL_TCP).to_numpy().astype(np.int64))


def ip_overheads(table: FlowTable, ip_version: IpVersion) -> tuple[Ints, Ints]:
    """Return the bytes of each IP header beyond those of IPv4, as written and as captured; shape (flows,) each."""
    src = table.table["src"]
    v6, unknown = pc.match_substring(src, ":").fill_null(False).to_numpy(), src.is_null().to_numpy()
    original = np.where(v6 | (unknown & (protocols_of(table) == PROTOCOL_ICMPV6)), IPV6_OVERHEAD, 0)
    written = original if ip_version == "auto" else np.full_like(original, IPV6_OVERHEAD if ip_version == "6" else 0)
    return written, original


def repair_series(series: Ints, tcp: Bools, bin_edges: Ints, overhead: Ints, original_overhead: Ints) -> RepairedSeries:
    """Find the nearest series that packets can carry, and the bins of the packets that have a role.

    `bin_edges` are the starts of the bins and the end of the last one, ns since the flow's first packet, shape (flows
    or 1, bins + 1). `overhead` and `original_overhead` are the bytes of an IP header beyond those of IPv4, in the
    packets to write and in those that the series (flows, 4, bins) counts; shape (flows,).
    """
    mtu = MTU - overhead
    count, size, reasons = _match_bytes_and_packets(series, tcp, overhead)
    given = count.copy(), size.copy()

    # timestamps if every packet has room for them: packets added below then have it too
    has_timestamps = tcp & (size >= TIMESTAMP_HEADERS * count).all((1, 2))
    syn_size = np.where(has_timestamps, TIMESTAMP_SYN_SIZE, np.where(tcp, SYN_SIZE, UDP_HEADERS))
    headers = _header_sizes(tcp, has_timestamps)
    silent = count[:, UP, 0] == 0
    reasons[Repair.SERVER_FIRST] = silent & (count[:, DOWN, 0] > 0)
    reasons[Repair.NO_PACKET] = silent & (count[:, DOWN, 0] == 0)
    add_packets(count, size, np.flatnonzero(silent), UP, 0, 1, syn_size)
    reasons[Repair.NO_HANDSHAKE], split = make_room_to_open(count, size, tcp, headers, syn_size, mtu)

    closer, reset, closed = (np.zeros(len(count), view) for view in (np.int64, bool, bool))
    rows = np.flatnonzero(tcp)
    edges = np.broadcast_to(bin_edges, (len(count), bin_edges.shape[1]))[rows]
    closing = cheapest_closing(count[rows], size[rows], headers[rows], mtu[rows], edges)
    count[rows], size[rows], closed[rows], closer[rows], reset[rows] = closing
    reasons[Repair.NO_CLOSING] = closed

    syn_ack_bin = nth_bin(count[:, DOWN], 1)
    row = np.arange(len(count))
    closing_bin = nth_bin(count[row, closer], 1, from_end=True)
    bare = np.add(*bare_packets(count.shape, tcp, syn_ack_bin, closer, closing_bin))
    reasons[Repair.TOO_LARGE] = split | split_off_data(count, size, bare, mtu)
    odd = (bare > 0) & (count == bare) & (size % 4 > 0)
    size[odd] -= size[odd] % 4
    reasons[Repair.ODD_SIZE] = np.asarray(odd.any((1, 2)))

    syn_ack = np.where(syn_ack_bin < count.shape[2], syn_ack_bin, 0)
    reasons[Repair.NO_SCALING] = make_room_to_scale(count, size, tcp, syn_ack)
    third_bin = nth_bin(count[:, UP], 2)
    rst = (np.flatnonzero(reset), closer[reset], closing_bin[reset])
    reasons[Repair.ONE_SIDED] = np.zeros(len(count), dtype=bool)
    for _ in range(2):  # the added bytes may be the room that timestamps lacked
        headers = _header_sizes(tcp, _room_for_timestamps(count, size, tcp, syn_ack, rst))
        reasons[Repair.ONE_SIDED] |= limit_lead(count, size, tcp, headers, mtu, syn_ack, third_bin)
    repaired = RepairedSeries(
        count=count,
        size=size,
        ip_overhead=overhead,
        tcp=tcp,
        headers=_header_sizes(tcp, _room_for_timestamps(count, size, tcp, syn_ack, rst)),
        attempt=np.full(len(count), NONE),
        closer=closer,
        reset=reset,
        syn_ack_bin=syn_ack_bin,
        third_bin=third_bin,
        first_fin_bin=nth_bin(count[row, closer], 2, from_end=True),
        second_fin_bin=nth_bin(count[row, 1 - closer], 1, from_end=True),
        closing_bin=closing_bin,
        reasons=reasons,
    )
    _restore_attempts(repaired, *given, series[:, :2] - original_overhead[:, None, None] * series[:, 2:])
    return repaired


def _match_bytes_and_packets(series: Ints, tcp: Bools, overhead: Ints) -> tuple[Ints, Ints, dict[Repair, Bools]]:
    """Give every bin with bytes enough packets, and every packet the bytes of its headers."""
    smallest = np.where(tcp, TCP_HEADERS, UDP_HEADERS)[:, None, None]
    overhead = overhead[:, None, None]
    count = np.maximum(series[:, 2:], 0)
    size = series[:, :2] - overhead * count
    needed = -(-np.maximum(size, 0) // (MTU - overhead))
    oversize = (needed > count) & (count > 0)
    new_count = np.maximum(count, needed)
    new_size = np.maximum(size, new_count * smallest)
    changed = (new_size != size) | (new_count != series[:, 2:])
    reasons = {Repair.OVERSIZE: oversize.any((1, 2)), Repair.DISAGREE: (changed & ~oversize).any((1, 2))}
    return new_count, new_size, reasons


def _restore_attempts(repaired: RepairedSeries, count: Ints, size: Ints, original_size: Ints) -> None:
    """Give attempts, in place, the packets and bytes back that they had before a connection was made of them.

    `original_size` has the sizes with IPv4's headers that the attempts are recognised by, shape (flows, 2, bins).
    """
    attempts = find_attempts(count, original_size, repaired.tcp)
    fits, has_timestamps = check_attempt_sizes(attempts, count, size)
    undone = [flows for reason, flows in repaired.reasons.items() if reason not in (Repair.DISAGREE, Repair.OVERSIZE)]
    rows = np.flatnonzero(fits & (np.any(undone, axis=0) | attempts.certain))
    for flows in undone:
        flows[rows] = False
    repaired.count[rows], repaired.size[rows] = count[rows], size[rows]
    repaired.headers[rows] = np.where(has_timestamps[rows], TIMESTAMP_HEADERS, TCP_HEADERS)
    repaired.attempt[rows], repaired.reset[rows] = attempts.outcome[rows], attempts.reset[rows]
    repaired.closer[rows] = UP
    repaired.closing_bin[rows] = nth_bin(count[rows, UP], 1, from_end=True)


def _header_sizes(tcp: Bools, has_timestamps: Bools) -> Ints:
    """Return the header bytes of each flow's packets without a role."""
    return np.where(has_timestamps, TIMESTAMP_HEADERS, np.where(tcp, TCP_HEADERS, UDP_HEADERS)).astype(np.int64)


def _room_for_timestamps(count: Ints, size: Ints, tcp: Bools, syn_ack_bin: Ints, rst: tuple[Ints, Ints, Ints]) -> Bools:
    """Tell which flows have room for timestamps in every packet but RSTs, which are in the cells `rst`."""
    needed = TIMESTAMP_HEADERS * count
    needed[:, UP, 0] += TIMESTAMP_SYN_SIZE - TIMESTAMP_HEADERS
    rows = np.flatnonzero(tcp)
    needed[rows, DOWN, syn_ack_bin[rows]] += TIMESTAMP_SYN_SIZE - TIMESTAMP_HEADERS
    needed[rst] -= TIMESTAMP_HEADERS - TCP_HEADERS
    return tcp & (size >= needed).all((1, 2))
