"""Count packets and bytes of each flow and direction in a capture with scapy, in the obvious way."""

import sys
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether  # noqa: F401 - registers the link layer
from scapy.utils import PcapReader


def main(path: str) -> None:
    flows: dict[tuple[Any, ...], list[Any]] = {}
    packets = 0
    with PcapReader(path) as reader:
        for packet in reader:
            if IP in packet:
                ip = packet[IP]
                protocol, size = ip.proto, ip.len
            elif IPv6 in packet:
                ip = packet[IPv6]
                protocol, size = ip.nh, ip.plen + 40
            else:
                continue
            packets += 1
            kind = TCP if TCP in ip else UDP if UDP in ip else None
            ports = (ip[kind].sport, ip[kind].dport) if kind else (0, 0)
            forward, backward = (
                (ip.src, ports[0], ip.dst, ports[1], protocol),
                (ip.dst, ports[1], ip.src, ports[0], protocol),
            )
            if forward in flows:
                flow, offset = flows[forward], 0
            elif backward in flows:
                flow, offset = flows[backward], 2
            else:
                flow, offset = flows.setdefault(forward, [0, 0, 0, 0, packet.time, packet.time]), 0
            flow[offset] += 1
            flow[offset + 1] += size
            flow[5] = packet.time
    print(f"packets={packets} flows={len(flows)}")


main(sys.argv[1])
