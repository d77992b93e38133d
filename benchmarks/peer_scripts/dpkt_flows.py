"""Flows of a capture with dpkt, as one would write it: packets and bytes in each direction."""

import sys
from pathlib import Path
from typing import Any

import dpkt


def main(path: Any) -> None:
    flows = {}
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
            there, back = (ip.src, ports[0], ip.dst, ports[1], protocol), (ip.dst, ports[1], ip.src, ports[0], protocol)
            if there in flows:
                flow, way = flows[there], 0
            elif back in flows:
                flow, way = flows[back], 2
            else:
                flow, way = flows.setdefault(there, [0, 0, 0, 0, time, time]), 0
            flow[way] += 1
            flow[way + 1] += size
            flow[5] = time
    print(f"packets={packets} flows={len(flows)}")


main(sys.argv[1])
