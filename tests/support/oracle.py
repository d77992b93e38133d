"""A second implementation of docs/flows.md in plain Python, packet by packet.

It is slow and simple on purpose and shares no code with capture/: it reads files and headers itself, and
keeps a dict of flows.

    PYTHONPATH=tests python -m support.oracle CAPTURE...      prints the flows
"""

from __future__ import annotations

import dataclasses
import ipaddress
import sys
from collections.abc import Iterable
from pathlib import Path

from support.oracle_packets import (
    BLOCK,
    FIN,
    FRAGMENT_NS,
    ICMP,
    ICMPV6,
    IDLE_NS,
    LINKTYPES,
    RST,
    TCP,
    UDP,
    NotIPError,
    Packet,
    Record,
    find_ip,
    packet,
    records,
)

__all__ = [
    "BLOCK",
    "FIN",
    "FRAGMENT_NS",
    "ICMP",
    "ICMPV6",
    "IDLE_NS",
    "LINKTYPES",
    "RST",
    "TCP",
    "UDP",
    "NotIPError",
    "Packet",
    "Record",
    "assemble",
    "find_ip",
    "flows_of",
    "packet",
    "records",
]


@dataclasses.dataclass
class Flow:
    """The packets of one flow, in file order."""

    packets: list[Packet]
    numbers: list[int]  # numbers of the IP packets in the capture, from 0
    first_ns: int  # the clock at the first and the last packet
    last_ns: int

    def ends_before(self, new: Packet, clock_ns: int, idle_ns: int, active_ns: int | None) -> bool:
        """Tell whether `new`, a packet with the same key, begins another flow."""
        if clock_ns - self.last_ns > idle_ns:
            return True
        if active_ns is not None and clock_ns - self.first_ns > active_ns:
            return True
        if not new.opens:
            return False
        own = [ip_packet for ip_packet in self.packets if ip_packet.sender == new.sender]
        syns = [ip_packet.seq for ip_packet in own if ip_packet.opens]
        if syns and syns[-1] == new.seq:
            return False
        return bool(own) or any(ip_packet.flags & (FIN | RST) for ip_packet in self.packets)

    @property
    def initiator(self) -> Packet:
        """Return a packet as the initiator sent it."""
        for ip_packet in self.packets:
            if ip_packet.opens:
                return ip_packet
        for ip_packet in self.packets:
            if ip_packet.answers:
                assert ip_packet.ports
                return dataclasses.replace(ip_packet, src=ip_packet.dst, dst=ip_packet.src, ports=ip_packet.ports[::-1])
        return self.packets[0]

    def row(self) -> tuple[object, ...]:
        """Return protocol, 5-tuple, VLAN, start, duration, packets, bytes, and bytes and packets up and down."""
        one = self.initiator
        up = [ip_packet.size for ip_packet in self.packets if ip_packet.sender == one.sender]
        down = [ip_packet.size for ip_packet in self.packets if ip_packet.sender != one.sender]
        times = [ip_packet.time_ns for ip_packet in self.packets]
        return (
            one.protocol,
            str(ipaddress.ip_address(one.src)),
            one.sender[1],
            str(ipaddress.ip_address(one.dst)),
            one.receiver[1],
            one.vlan[0] if one.vlan else None,
            min(times),
            max(times) - min(times),
            len(self.packets),
            sum(up) + sum(down),
            *(sum(up), sum(down), len(up), len(down)),
        )


class Clock:
    """The capture's clock: elapsed time, which never runs back."""

    def __init__(self, idle_ns: int) -> None:
        self.idle_ns = idle_ns
        self.shows: int | None = None
        self.gone_ns = 0
        self.block: list[int] = []
        self.number = 0

    def see(self, time_ns: int, record: int) -> int:
        """Return the nanoseconds by which the clock has advanced, including this packet."""
        if (record - 1) // BLOCK != self.number:
            stamps = [stamp for stamp in self.block if stamp != 0]
            if stamps and self.shows is not None and max(stamps) < self.shows - self.idle_ns:
                self.shows = max(stamps)
            self.block, self.number = [], (record - 1) // BLOCK
        if time_ns != 0:
            if self.shows is not None:
                self.gone_ns += max(time_ns - self.shows, 0)
            self.shows = time_ns if self.shows is None else max(time_ns, self.shows)
        self.block.append(time_ns)
        return self.gone_ns


def join_fragments(packets: list[Packet]) -> list[tuple[int, Packet]]:
    """Give later fragments the ports of their first, and move those that came before it to just after it."""
    last: dict[tuple[object, ...], Packet] = {}
    waiting: dict[tuple[object, ...], list[tuple[int, Packet]]] = {}
    joined = list[tuple[int, Packet]]()

    def as_of(first: Packet, ip_packet: Packet) -> Packet:
        if abs(first.time_ns - ip_packet.time_ns) > FRAGMENT_NS:
            return ip_packet
        return dataclasses.replace(ip_packet, ports=first.ports, protocol=first.protocol)

    for number, ip_packet in enumerate(packets):
        datagram = ip_packet.src, ip_packet.dst, ip_packet.vlan, ip_packet.fragment
        if ip_packet.fragment is None:
            joined.append((number, ip_packet))
        elif ip_packet.ports is not None:
            last[datagram] = ip_packet
            joined.append((number, ip_packet))
            for early, one in waiting.pop(datagram, []):
                joined.append((early, dataclasses.replace(as_of(ip_packet, one), record=ip_packet.record)))
        else:
            assigned = as_of(last[datagram], ip_packet) if datagram in last else ip_packet
            if assigned is ip_packet:
                waiting.setdefault(datagram, []).append((number, ip_packet))
            else:
                joined.append((number, assigned))
    rest = [one for held in waiting.values() for one in held]
    return joined + [(number, dataclasses.replace(one, record=packets[-1].record)) for number, one in rest]


def assemble(packets: Iterable[Packet], idle_ns: int = IDLE_NS, active_ns: int | None = None) -> list[Flow]:
    """Assemble packets in file order into flows, in the order of their first packets."""
    flows: list[Flow] = []
    newest: dict[tuple[object, ...], Flow] = {}
    clock = Clock(idle_ns)
    for number, ip_packet in join_fragments(list(packets)):
        now_ns = clock.see(ip_packet.time_ns, ip_packet.record)
        flow = newest.get(ip_packet.key)
        if flow is None or flow.ends_before(ip_packet, now_ns, idle_ns, active_ns):
            flow = newest[ip_packet.key] = Flow([], [], now_ns, now_ns)
            flows.append(flow)
        flow.packets.append(ip_packet)
        flow.numbers.append(number)
        flow.last_ns = now_ns
    return flows


def ip_packets(read: Iterable[Record]) -> list[Packet]:
    """List the IP packets among records."""
    packets = []
    for number, record in enumerate(read, start=1):
        try:
            packets.append(dataclasses.replace(packet(record), record=number))
        except NotIPError:
            continue
    return packets


def flows_of(path: Path, idle_ns: int = IDLE_NS, active_ns: int | None = None) -> list[Flow]:
    """List the flows of a capture file."""
    return assemble(ip_packets(records(path)), idle_ns, active_ns)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        for flow in flows_of(Path(name)):
            print(*flow.row())
