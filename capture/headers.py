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

#: Linux cooked capture, versions 1 and 2 (LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2).
SLL = np.dtype([("packet_type", ">u2"), ("arphrd", ">u2"), ("address_length", ">u2"), ("src", "V8"), ("type", ">u2")])
SLL2 = np.dtype(
    [
        ("type", ">u2"),
        ("reserved", ">u2"),
        ("interface", ">u4"),
        ("arphrd", ">u2"),
        ("packet_type", "u1"),
        ("address_length", "u1"),
        ("src", "V8"),
    ]
)

#: IEEE 802.2 LLC with a SNAP header, after an 802.3 length.
SNAP = np.dtype([("llc", "V3"), ("oui", "V3"), ("type", ">u2")])

#: PPPoE session header with the PPP protocol behind it (RFC 2516).
PPPOE = np.dtype([("version_type", "u1"), ("code", "u1"), ("session", ">u2"), ("length", ">u2"), ("protocol", ">u2")])

#: Cisco HDLC.
CHDLC = np.dtype([("address", "u1"), ("control", "u1"), ("type", ">u2")])

#: First eight bytes of an IPv6 extension header; `fragment` and `id` only in a fragment header (RFC 8200).
IPV6_EXTENSION = np.dtype([("next", "u1"), ("length", "u1"), ("fragment", ">u2"), ("id", ">u4")])

#: What of TCP must be captured to know its flags and where its payload begins.
TCP_START = np.dtype(
    [("src_port", ">u2"), ("dst_port", ">u2"), ("seq", ">u4"), ("ack", ">u4"), ("offset", "u1"), ("flags", "u1")]
)

#: The ports, in the same place in TCP and UDP.
PORTS = np.dtype([("src_port", ">u2"), ("dst_port", ">u2")])

#: ICMP and ICMPv6 echo (RFC 792, RFC 4443).
ICMP = np.dtype([("type", "u1"), ("code", "u1"), ("checksum", ">u2"), ("id", ">u2"), ("seq", ">u2")])

PCAP_MAGIC_KUZNETSOV = 0xA1B2CD34

#: Record header of Kuznetsov's patched libpcap.
PCAP_RECORD_KUZNETSOV = np.dtype(
    [*PCAP_RECORD.descr, ("interface", "<u4"), ("protocol", "<u2"), ("packet_type", "u1"), ("pad", "u1")]
)

#: pcapng blocks that hold a packet, little-endian, up to the packet (draft-ietf-opsawg-pcapng).
PCAPNG_SECTION = 0x0A0D0D0A
PCAPNG_INTERFACE = 1
PCAPNG_OLD_PACKET = 2
PCAPNG_SIMPLE_PACKET = 3
PCAPNG_ENHANCED_PACKET = 6
PCAPNG_BYTE_ORDER = 0x1A2B3C4D
ENHANCED_PACKET = np.dtype(
    [
        ("type", "<u4"),
        ("total", "<u4"),
        ("interface", "<u4"),
        ("high", "<u4"),
        ("low", "<u4"),
        ("captured", "<u4"),
        ("length", "<u4"),
    ]
)
OLD_PACKET = np.dtype(
    [
        ("type", "<u4"),
        ("total", "<u4"),
        ("interface", "<u2"),
        ("drops", "<u2"),
        ("high", "<u4"),
        ("low", "<u4"),
        ("captured", "<u4"),
        ("length", "<u4"),
    ]
)
SIMPLE_PACKET = np.dtype([("type", "<u4"), ("total", "<u4"), ("length", "<u4")])

LINKTYPE_NULL = 0
LINKTYPE_PPP = 9
LINKTYPE_PPP_HDLC = 50
LINKTYPE_CHDLC = 104
LINKTYPE_LOOP = 108
LINKTYPE_SLL = 113
LINKTYPE_IPV4 = 228
LINKTYPE_IPV6 = 229
LINKTYPE_SLL2 = 276

ETHERTYPE_VLAN = 0x8100
ETHERTYPE_QINQ = 0x88A8
ETHERTYPE_QINQ_OLD = 0x9100
ETHERTYPE_MPLS = 0x8847
ETHERTYPE_MPLS_MULTICAST = 0x8848
ETHERTYPE_PPPOE = 0x8864

PROTOCOL_HOP_BY_HOP = 0
PROTOCOL_ROUTING = 43
PROTOCOL_FRAGMENT = 44
PROTOCOL_AH = 51
PROTOCOL_DESTINATION = 60


def take(data: np.ndarray, at: np.ndarray, layout: np.dtype) -> np.ndarray:
    """Headers of one layout at many places of a buffer, as one structured array.

    Parameters
    ----------
    data : ndarray of uint8, shape (bytes,)
        The buffer; contiguous.
    at : ndarray of int, shape (rows,)
        Where each header begins; the caller has checked that all of it is inside the buffer.
    layout : dtype
        The header's layout.

    Returns
    -------
    ndarray of `layout`, shape (rows,)
    """
    size = layout.itemsize
    if not at.size:
        return np.empty(0, layout)
    # gathering opaque bytes and naming them afterwards is 2.5 times faster than gathering fields
    windows = np.ndarray((data.size - size + 1,), dtype=f"V{size}", buffer=data.data, strides=(1,))
    found: np.ndarray = windows[at].view(layout)
    return found
