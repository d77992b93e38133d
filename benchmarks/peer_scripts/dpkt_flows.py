"""Count packets and bytes of each flow and direction in a capture with dpkt, in the obvious way."""

import sys
from pathlib import Path
from typing import Any

import dpkt


def main(path: str) -> None:
    flows: dict[tuple[Any, ...], list[Any]] = {}
    packets = 0
    with Path(path).open("rb") as file:
        for time, data in dpkt.pcap.Reader(file):
            ip = dpkt.ethernet.Ethernet(data).data
            if isinstance(ip, dpkt.ip.IP):
                protocol, size = ip.p, ip.len
            elif isinstance(ip, dpkt.ip6.IP6):
                protocol, size = ip.p, ip.plen + 40
            else:
                continue
            packets += 1
            ports = (ip.data.sport, ip.data.dport) if isinstance(ip.data, (dpkt.tcp.TCP, dpkt.udp.UDP)) else (0, 0)
            forward, backward = (
                (ip.src, ports[0], ip.dst, ports[1], protocol),
                (ip.dst, ports[1], ip.src, ports[0], protocol),
            )
            if forward in flows:
                flow, offset = flows[forward], 0
            elif backward in flows:
                flow, offset = flows[backward], 2
            else:
                flow, offset = flows.setdefault(forward, [0, 0, 0, 0, time, time]), 0
            flow[offset] += 1
            flow[offset + 1] += size
            flow[5] = time
    print(f"packets={packets} flows={len(flows)}")


main(sys.argv[1])
