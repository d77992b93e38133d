"""Header layouts, shared by the reader, which parses them, and the exporter, which writes them.

Each is a NumPy structured type in network byte order, so that one view names every field of a
million headers. Layouts of rare link layers are in `netgen.capture.layers.rare_links`.
"""

from __future__ import annotations

import numpy as np


def layout(fields: str) -> np.dtype[np.void]:
    """Return a layout of fields, each written as a name and a NumPy type."""
    return np.dtype([(name, kind) for name, kind in (field.split() for field in fields.split(","))])


# -- IP and transport ------------------------------------------------------------------------------

#: IPv4 without options (RFC 791).
IPV4 = layout(
    "version_ihl u1, tos u1, length >u2, id >u2, fragment >u2, ttl u1, protocol u1, checksum >u2, src >u4, dst >u4"
)

#: IPv6 (RFC 8200).
IPV6 = layout("version_class_flow >u4, length >u2, next u1, hops u1, src V16, dst V16")

#: First eight bytes of an IPv6 extension header; `fragment` and `id` only in a fragment header (RFC 8200).
IPV6_EXTENSION = layout("next u1, length u1, fragment >u2, id >u4")

#: TCP without options (RFC 9293).
TCP = layout("src_port >u2, dst_port >u2, seq >u4, ack >u4, offset u1, flags u1, window >u2, checksum >u2, urgent >u2")

#: The part of TCP that gives the flags and the start of the payload.
TCP_START = np.dtype(TCP.descr[:6])

#: UDP (RFC 768).
UDP = layout("src_port >u2, dst_port >u2, length >u2, checksum >u2")

#: The ports, in the same place in TCP, UDP, UDP-Lite, SCTP and DCCP.
PORTS = layout("src_port >u2, dst_port >u2")

#: ICMP and ICMPv6 echo (RFC 792, RFC 4443).
ICMP = layout("type u1, code u1, checksum >u2, id >u2, seq >u2")

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD

PROTOCOL_HOP_BY_HOP = 0
PROTOCOL_ICMP = 1
PROTOCOL_IGMP = 2
PROTOCOL_IPV4 = 4
PROTOCOL_TCP = 6
PROTOCOL_UDP = 17
PROTOCOL_DCCP = 33
PROTOCOL_IPV6 = 41
PROTOCOL_ROUTING = 43
PROTOCOL_FRAGMENT = 44
PROTOCOL_GRE = 47
PROTOCOL_ESP = 50
PROTOCOL_AH = 51
PROTOCOL_ICMPV6 = 58
PROTOCOL_DESTINATION = 60
PROTOCOL_ETHERIP = 97
PROTOCOL_SCTP = 132
PROTOCOL_UDP_LITE = 136
PROTOCOL_MPLS = 137

TCP_FIN = 0x01
TCP_SYN = 0x02
TCP_RST = 0x04
TCP_PSH = 0x08
TCP_ACK = 0x10


def protocol_mask(*numbers: int) -> np.ndarray:
    """Return a table of all IP protocols with some marked; shape (256,), bool."""
    table = np.zeros(256, bool)
    table[list(numbers)] = True
    return table


#: Protocols that begin with two ports.
HAS_PORTS = protocol_mask(PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_DCCP, PROTOCOL_SCTP, PROTOCOL_UDP_LITE)

# -- files -----------------------------------------------------------------------------------------

#: Header of a classic pcap file and of its records, little-endian.
PCAP_FILE = layout("magic <u4, major <u2, minor <u2, zone <i4, sigfigs <u4, snaplen <u4, linktype <u4")
PCAP_RECORD = layout("seconds <u4, fraction <u4, captured <u4, length <u4")

#: Record header of Kuznetsov's patched libpcap.
PCAP_RECORD_KUZNETSOV = np.dtype(
    [*PCAP_RECORD.descr, ("interface", "<u4"), ("protocol", "<u2"), ("packet_type", "u1"), ("pad", "u1")]
)

PCAP_MAGIC_US = 0xA1B2C3D4
PCAP_MAGIC_NS = 0xA1B23C4D
PCAP_MAGIC_KUZNETSOV = 0xA1B2CD34

#: pcapng blocks that hold a packet, little-endian, up to the packet (draft-ietf-opsawg-pcapng).
ENHANCED_PACKET = layout("type <u4, total <u4, interface <u4, high <u4, low <u4, captured <u4, length <u4")
OLD_PACKET = layout("type <u4, total <u4, interface <u2, drops <u2, high <u4, low <u4, captured <u4, length <u4")
SIMPLE_PACKET = layout("type <u4, total <u4, length <u4")

PCAPNG_SECTION = 0x0A0D0D0A
PCAPNG_INTERFACE = 1
PCAPNG_OLD_PACKET = 2
PCAPNG_SIMPLE_PACKET = 3
PCAPNG_ENHANCED_PACKET = 6
PCAPNG_BYTE_ORDER = 0x1A2B3C4D

# -- link layers -----------------------------------------------------------------------------------

#: Ethernet II (IEEE 802.3).
ETHERNET = layout("dst V6, src V6, type >u2")

#: IEEE 802.2 LLC, after an 802.3 length, and the SNAP header that may follow it.
LLC = layout("saps V2, control u1")
SNAP = layout("organization V3, type >u2")

#: Linux cooked capture, versions 1 and 2 (LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2).
SLL = layout("packet_type >u2, arphrd >u2, address_length >u2, src V8, type >u2")
SLL2 = layout(
    "type >u2, reserved >u2, interface >u4, arphrd >u2, packet_type u1, address_length u1, src V8",
)

#: Cisco HDLC.
CHDLC = layout("address u1, control u1, type >u2")

#: IEEE 802.11 data frames; a fourth address, QoS and HT control may follow.
WLAN = layout("control <u2, duration <u2, dst V6, src V6, third V6, sequence <u2")
WLAN_QOS = layout("control <u2")

#: Headers of monitor mode before 802.11: radiotap, AVS; PPI before any link layer.
RADIOTAP = layout("version u1, pad u1, length <u2, present <u4")
AVS = layout("version >u4, length >u4")
PPI = layout("version u1, flags u1, length <u2, linktype <u4")

LINKTYPE_NULL = 0
LINKTYPE_ETHERNET = 1
LINKTYPE_PPP = 9
LINKTYPE_PPP_HDLC = 50
LINKTYPE_RAW = 101
LINKTYPE_CHDLC = 104
LINKTYPE_WLAN = 105
LINKTYPE_LOOP = 108
LINKTYPE_SLL = 113
LINKTYPE_PRISM = 119
LINKTYPE_RADIOTAP = 127
LINKTYPE_AVS = 163
LINKTYPE_PPI = 192
LINKTYPE_IPV4 = 228
LINKTYPE_IPV6 = 229
LINKTYPE_SLL2 = 276

# -- tags between link layer and IP ----------------------------------------------------------------

#: 802.1Q tag, after the Ethernet addresses' type 0x8100.
VLAN = layout("tci >u2, type >u2")

#: PPPoE session header with the PPP protocol behind it (RFC 2516).
PPPOE = layout("version_type u1, code u1, session >u2, length >u2, protocol >u2")

ETHERTYPE_BRIDGED = 0x6558
ETHERTYPE_VLAN = 0x8100
ETHERTYPE_MPLS = 0x8847
ETHERTYPE_MPLS_MULTICAST = 0x8848
ETHERTYPE_PPPOE = 0x8864
ETHERTYPE_PPP = 0x880B
ETHERTYPE_QINQ = 0x88A8
ETHERTYPE_CISCO_METADATA = 0x8909
ETHERTYPE_QINQ_OLD = 0x9100

# -- tunnels ---------------------------------------------------------------------------------------

#: GRE (RFC 2784, RFC 2890, RFC 2637): flags say which words of 4 bytes follow.
GRE = layout("flags >u2, type >u2")

#: Cisco's metadata behind GRE, and the header of a redirected packet (WCCP) that may be there.
GRE_METADATA = layout("type >u2, version u1, length u1, option >u2, group >u2")
REDIRECTION = layout("flags u1, service u1, buckets >u2")

#: VXLAN (RFC 7348), Geneve (RFC 8926; the low six bits of `options` count words of 4 bytes).
VXLAN = layout("flags u1, reserved V3, network >u4")
GENEVE = layout("options u1, flags u1, type >u2, network >u4")

#: GTP-U (3GPP TS 29.281), and the four bytes that follow where one of three flags is set.
GTP = layout("flags u1, type u1, length >u2, tunnel >u4")
GTP_OPTIONS = layout("sequence >u2, number u1, next u1")

#: Teredo (RFC 4380): where the packet came from, and the start of the authentication, before IPv6.
TEREDO_ORIGIN = layout("kind >u2, port >u2, address >u4")
TEREDO_AUTHENTICATION = layout("kind >u2, id_length u1, value_length u1")

#: ERSPAN, types II and III, behind GRE; the lowest bit of `flags` says that 8 bytes more follow.
ERSPAN2 = layout("version_vlan >u2, session >u2, index >u4")
ERSPAN3 = layout("version_vlan >u2, session >u2, time >u4, group >u2, flags >u2")

#: Ethernet in IP (RFC 3378).
ETHERIP = layout("version >u2")

ETHERTYPE_REDIRECTED = 0x883E
ETHERTYPE_ERSPAN = 0x88BE
ETHERTYPE_ERSPAN3 = 0x22EB

PORT_VXLAN = 4789
PORT_GENEVE = 6081
PORT_GTP = 2152
PORT_TEREDO = 3544


def gather(data: np.ndarray, at: np.ndarray, layout: np.dtype) -> np.ndarray:
    """Read headers of one layout at many positions of a buffer (uint8, contiguous); shape (rows,).

    The caller has checked that each header ends inside the buffer.
    """
    size = layout.itemsize
    if not at.size:
        return np.empty(0, layout)
    # to gather opaque bytes and name them afterwards is 2.5 times faster than to gather fields
    windows = np.ndarray((data.size - size + 1,), dtype=f"V{size}", buffer=data.data, strides=(1,))
    return windows[at].view(layout)
