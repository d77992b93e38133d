"""Header layouts, declared once: what the reader takes apart, the exporter puts together.

Each is a NumPy structured type in network byte order, so that one view names every field of a
million headers at once. RFC numbers stand beside them.
"""

from __future__ import annotations

import numpy as np

#: Ethernet II (IEEE 802.3).
ETHERNET = np.dtype([("dst", "V6"), ("src", "V6"), ("type", ">u2")])

#: 802.1Q tag, after the Ethernet addresses' type 0x8100.
VLAN = np.dtype([("tci", ">u2"), ("type", ">u2")])

#: IPv4 without options (RFC 791).
IPV4 = np.dtype(
    [
        ("version_ihl", "u1"),
        ("tos", "u1"),
        ("length", ">u2"),
        ("id", ">u2"),
        ("fragment", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),
        ("checksum", ">u2"),
        ("src", ">u4"),
        ("dst", ">u4"),
    ]
)

#: IPv6 (RFC 8200).
IPV6 = np.dtype(
    [
        ("version_class_flow", ">u4"),
        ("length", ">u2"),
        ("next", "u1"),
        ("hops", "u1"),
        ("src", "V16"),
        ("dst", "V16"),
    ]
)

#: TCP without options (RFC 9293).
TCP = np.dtype(
    [
        ("src_port", ">u2"),
        ("dst_port", ">u2"),
        ("seq", ">u4"),
        ("ack", ">u4"),
        ("offset", "u1"),
        ("flags", "u1"),
        ("window", ">u2"),
        ("checksum", ">u2"),
        ("urgent", ">u2"),
    ]
)

#: UDP (RFC 768).
UDP = np.dtype([("src_port", ">u2"), ("dst_port", ">u2"), ("length", ">u2"), ("checksum", ">u2")])

#: Header of a classic pcap file and of its records, little-endian.
PCAP_FILE = np.dtype(
    [
        ("magic", "<u4"),
        ("major", "<u2"),
        ("minor", "<u2"),
        ("zone", "<i4"),
        ("sigfigs", "<u4"),
        ("snaplen", "<u4"),
        ("linktype", "<u4"),
    ]
)
PCAP_RECORD = np.dtype([("seconds", "<u4"), ("fraction", "<u4"), ("captured", "<u4"), ("length", "<u4")])

PCAP_MAGIC_US = 0xA1B2C3D4
PCAP_MAGIC_NS = 0xA1B23C4D

LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD

PROTOCOL_ICMP = 1
PROTOCOL_TCP = 6
PROTOCOL_UDP = 17
PROTOCOL_ICMPV6 = 58

TCP_FIN = 0x01
TCP_SYN = 0x02
TCP_RST = 0x04
TCP_PSH = 0x08
TCP_ACK = 0x10
