"""Series -> packets, spending in every bin and direction exactly the packets and bytes of the series.

The closed loop: what is extracted from the capture is the series that went in, integer for
integer. `plan` mends the series of a whole table (see `netgen.exporters.pcap.repair`); `Plan.packets` then
lays out the packets of any of its flows. No loop runs over flows or packets.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow.compute as pc

from netgen.capture.errors import OutputError
from netgen.capture.headers import PROTOCOL_ICMPV6, PROTOCOL_TCP
from netgen.capture.series.first_packets import as_bins, count_packets
from netgen.capture.series.spec import GAP_NS, PACKETS, SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.counter_rng import Words, flow_keys, occurrences
from netgen.exporters.pcap.flow_file import FlowFile
from netgen.exporters.pcap.layout import Layout
from netgen.exporters.pcap.packets import ECHO_PROTOCOLS, IPV6_OVERHEAD, Bools, Ints, Packets, export_protocol
from netgen.exporters.pcap.profiles import Profiles, profiles
from netgen.exporters.pcap.repair import DISAGREE, NO_PACKET, Shape, mend

OTHER_PROTOCOL = "a protocol of which no packets are made over this IP version: written as UDP"
OTHER_ICMP = "ICMP of the other IP version"

#: What is said of bins, in words of packets.
_OF_PACKETS = {
    DISAGREE: "packets smaller than their headers made larger",
    NO_PACKET: "no packet at all: one added",
}

_MEND_BLOCK = 1024  # flows mended at a time: 4 KB each of 128 bins, and a dozen copies


@dataclasses.dataclass(frozen=True)
class Plan:
    """What will be written for every flow of a table.

    Parameters
    ----------
    spec : SeriesSpec
    shape : Shape
        The mended series and the places of packets with a role.
    seed : int
    protocol : ndarray of int64, shape (flows,)
        IP protocol that each flow is written as.
    number, occurrence : ndarray of int64, shape (flows,)
        The flow's number in the table and how often it came before; with the seed, all that a
        flow's random draws depend on.
    profiles : Profiles
        Of the classes of its UDP flows.
    begins : ndarray of int64, shape (flows, packets + 1), optional
        Of series of packets: when each comes, ns since the flow's first. Each has a bin of its own in `shape`.
    """

    spec: SeriesSpec
    shape: Shape
    seed: int
    protocol: Ints
    number: Ints
    occurrence: Ints
    profiles: Profiles
    begins: Ints | None = None

    def __len__(self) -> int:
        return len(self.number)

    @property
    def series(self) -> Ints:
        """The series as the capture will have it, shape (flows, channels, length)."""
        if self.begins is None:
            return self.shape.series
        packets = self.packets(np.arange(len(self)))
        return count_packets(packets.flow, packets.offset_ns, packets.size, packets.up, len(self), self.spec)[0]

    @property
    def totals(self) -> tuple[Ints, Ints]:
        """IP bytes and packets of each flow as the capture will have them, up and down; shape (flows, 2) each."""
        whole = self.shape.series.sum(2)
        return whole[:, :2], whole[:, 2:]

    @property
    def mended(self) -> dict[str, int]:
        """Reason -> flows whose series or protocol had to be changed for it."""
        return {reason: int(flows.sum()) for reason, flows in self.shape.reasons.items()}

    @property
    def keys(self) -> Words:
        """Keys of the flows' random draws, shape (flows,)."""
        return flow_keys(self.seed, self.number, self.occurrence)

    @property
    def packet_counts(self) -> Ints:
        """Packets of each flow, shape (flows,)."""
        counts: Ints = self.shape.count.sum((1, 2))
        return counts

    @property
    def changed(self) -> Bools:
        """Flows whose series or protocol had to be changed, shape (flows,)."""
        return np.any([np.zeros(len(self), dtype=bool), *self.shape.reasons.values()], axis=0)

    def take(self, rows: Ints) -> Plan:
        """The plan of some of the flows, in the order given."""
        return dataclasses.replace(
            self,
            shape=self.shape.take(rows),
            protocol=self.protocol[rows],
            number=self.number[rows],
            occurrence=self.occurrence[rows],
            profiles=self.profiles.take(rows),
            begins=None if self.begins is None else self.begins[rows],
        )

    def packets(self, rows: Ints) -> Packets:
        """The packets of the flows in `rows`, in that order."""
        return Layout(self, rows).packets()


def plan(table: FlowTable, *, seed: int = 0, ip: str = "auto", occurrence: Ints | None = None) -> Plan:
    """Mend the series of all flows and fix what every packet will be.

    A flow without a protocol becomes TCP; what others become, `netgen.exporters.pcap.protocols` says. Same seed and flow, same
    packets, whatever other flows the table has.

    Parameters
    ----------
    table : FlowTable
    seed : int
    ip : str
        See `netgen.exporters.pcap.options.CaptureOptions`.
    occurrence : ndarray of int64, shape (flows,), optional
        How often each flow's number came before, where the table is part of a larger one.

    Raises
    ------
    OutputError
        If a bin has more packets than nanoseconds, or a microsecond of a series of packets.
    """
    (extra, own), series = ip_overheads(table, ip), table.series()
    own_protocol = protocols_of(table)
    protocol = export_protocol(own_protocol, extra > 0)
    echo = ECHO_PROTOCOLS[own_protocol]
    reasons = {OTHER_PROTOCOL: (protocol != own_protocol) & ~echo, OTHER_ICMP: (protocol != own_protocol) & echo}
    tcp = protocol == PROTOCOL_TCP
    given = _begins(series) if table.spec.view == PACKETS else None
    series = as_bins(series, table.spec)
    even = np.arange(table.spec.length + 1)[None] * table.spec.bin_ns
    parts = [
        mend(series[part], tcp[part], even if given is None else given[part], extra[part], own[part])
        for part in (slice(at, at + _MEND_BLOCK) for at in range(0, max(len(series), 1), _MEND_BLOCK))
    ]
    shape = _join(parts)
    if given is not None:
        shape = dataclasses.replace(
            shape, reasons={_OF_PACKETS.get(each, each): at for each, at in shape.reasons.items()}
        )
    shape.reasons.update((reason, flows) for reason, flows in reasons.items() if flows.any())
    crowded = shape.count.sum(1) >= table.spec.bin_ns
    if given is None and crowded.any():
        row, where = (int(index[0]) for index in np.nonzero(crowded))
        name = int(table.table["flow"].to_numpy()[row])
        raise OutputError(
            f"flow {name} has {int(shape.count[row, :, where].sum())} packets in bin {where}, "
            f"which is {table.spec.bin_ns} ns wide: no two packets can have their own time",
            "Extract it with wider bins: --bin 1ms",
        )
    number = table.table["flow"].to_numpy().astype(np.int64)
    occurrence = occurrences(number) if occurrence is None else occurrence
    return Plan(table.spec, shape, seed, protocol, number, occurrence, profiles(table), given)


def protocols_of(table: FlowTable | FlowFile) -> Ints:
    """The flows' own IP protocols, TCP where none is known, shape (flows,)."""
    return table.table["protocol"].fill_null(PROTOCOL_TCP).to_numpy().astype(np.int64)


def ip_overheads(table: FlowTable | FlowFile, ip: str) -> tuple[Ints, Ints]:
    """Bytes that each flow's IP headers are to have beyond IPv4's, and had, where that is known; shape (flows,) each.

    Parameters
    ----------
    table : FlowTable or FlowFile
    ip : str
        See `netgen.exporters.pcap.options.CaptureOptions`.
    """
    src = table.table["src"]
    six, unknown = (each.to_numpy() for each in (pc.match_substring(src, ":").fill_null(False), src.is_null()))
    own = np.where(six | (unknown & (protocols_of(table) == PROTOCOL_ICMPV6)), IPV6_OVERHEAD, 0)
    return own if ip == "auto" else np.full_like(own, IPV6_OVERHEAD if ip == "6" else 0), own


def _begins(series: Ints) -> Ints:
    """When the packets of series (flows, 2, packets) come, and the last one once more; ns, (flows, packets + 1)."""
    times = series[:, 1].cumsum(1) * GAP_NS
    return np.concatenate([times, times[:, -1:]], axis=1)


def _join(parts: list[Shape]) -> Shape:
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in dataclasses.fields(Shape) if field.name != "reasons"]
    flows = [len(part.tcp) for part in parts]
    reasons = {
        reason: np.concatenate(
            [part.reasons.get(reason, np.zeros(n, dtype=bool)) for part, n in zip(parts, flows, strict=True)]
        )
        for reason in dict.fromkeys(reason for part in parts for reason in part.reasons)
    }
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Shape(**joined, reasons=reasons)
