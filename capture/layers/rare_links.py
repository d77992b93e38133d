"""Rare link layers and tags, each with the layout of its header."""

from __future__ import annotations

import numpy as np

from netgen.capture import headers
from netgen.capture.headers import layout
from netgen.capture.layers.cursor import LINK, LLC, NONE, Cursor
from netgen.capture.layers.header_steps import (
    ADDRESS_FAMILIES,
    ETHERNET_LINK,
    PPP_PROTOCOLS,
    U1,
    U2,
    Step,
    add_vlan,
    fixed,
    host_order,
    llc,
    raw_ip,
    sized,
    snap,
    to_kinds,
    typed,
)

_IPV4, _IPV6 = headers.ETHERTYPE_IPV4, headers.ETHERTYPE_IPV6

#: Payload types of Frame Relay (RFC 2427).
_NETWORK_LAYERS = {0xCC: _IPV4, 0x8E: _IPV6, 0xCF: LINK + headers.LINKTYPE_PPP}
_SNAP_ID, _UNNUMBERED = 0x80, 0x03

#: ARCNET's types (RFC 1201, RFC 1051); those from 0xF0 on have no split flag and sequence number.
_ARCNET_TYPES = {0xD4: _IPV4, 0xC4: _IPV6, 0xF0: _IPV4}
_ARCNET_UNSPLIT = 0xF0
_ARCNET_SPLIT = layout("flag u1, sequence >u2")

_TOKEN_RING = layout("access u1, control u1, dst V6, routed u1, src V5")
_FDDI = layout("control u1, dst V6, src V6")
_SUNATM = layout("flags u1, path u1, channel >u2")
_JUNIPER = layout("magic V3, flags u1")
_JUNIPER_MAGIC = np.void(b"MGC")
#: DOCSIS cable modems, up to the extended header or the header check sequence (2 bytes).
_DOCSIS = layout("control u1, extended u1, length >u2")
_PFLOG = layout("length u1, family u1")
_ENC = layout("family >u4, spi >u4, flags >u4")
_IPNET = layout("version u1, family u1, hook >u2, length >u4, interface >u4, group >u4, src_zone >u4, dst_zone >u4")

_NFLOG = layout("family u1, version u1, resource >u2")
_NFLOG_FIELD = layout("length <u2, type <u2")
_NFLOG_PAYLOAD, _MAX_NFLOG_FIELDS = 9, 32

#: IEEE 802.3br: delimiters of express frames, and of a frame's first part.
_MPACKET = layout("preamble V7, delimiter u1")
_FRAME_STARTS = (0xD5, 0xE6, 0x4C, 0x7F, 0xB3)

_MACSEC = layout("flags u1, length u1, number >u4")
#: Cisco's metadata with one option, a security group.
_CISCO_METADATA = layout("version u1, length u1, option >u2, group >u2, type >u2")
#: Arista's time stamps: bytes by version.
_ARISTA = layout("subtype >u2, version >u2")
_ARISTA_STAMPS = {0x10: 8, 0x20: 6}
#: Network service header (RFC 8300); the low six bits of `length` are its length in words of 4 bytes.
_NSH = layout("length >u2, metadata u1, next u1, path >u4")
_NSH_PROTOCOLS = {1: _IPV4, 2: _IPV6, 3: ETHERNET_LINK, 5: headers.ETHERTYPE_MPLS}


def _frame_relay(cursor: Cursor, rows: np.ndarray) -> None:
    ended = []
    for _ in range(4):  # the lowest bit marks the last byte of the address
        rows, byte = cursor.read_header(rows, U1)
        is_last = (byte & 1).astype(bool)
        ended.append(rows[is_last])
        rows = rows[~is_last]
    rows, control = cursor.read_header(np.sort(np.concatenate(ended)), U1, advance=False)
    is_framed = control == _UNNUMBERED
    cisco, kind = cursor.read_header(rows[~is_framed], U2)
    cursor.set_next(cisco, kind)
    cursor.advance(rows[is_framed], 1)
    rows, pad = cursor.read_header(rows[is_framed], U1, advance=False)
    cursor.advance(rows[pad == 0], 1)
    rows, network_layer = cursor.read_header(rows, U1)
    cursor.set_next(rows, to_kinds(network_layer, _NETWORK_LAYERS))
    snap(cursor, rows[network_layer == _SNAP_ID])


def _atm_clip(cursor: Cursor, rows: np.ndarray) -> None:
    raw_ip(cursor, rows)
    cursor.set_next(rows[cursor.kind[rows] == NONE], LLC)


def _sunatm(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _SUNATM)
    kind = header["flags"] & 0x0F
    cursor.advance(rows[kind == 1], 2)  # number of the client of an emulated LAN
    cursor.set_next(rows, to_kinds(kind, {1: ETHERNET_LINK, 2: LLC}))


def _token_ring(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _TOKEN_RING)
    routed = rows[(header["routed"] & 0x80) != 0]
    cursor.set_next(rows[(header["control"] & 0xC0) == 0x40], LLC)
    routed, route = cursor.read_header(routed, U1, advance=False)
    cursor.advance(routed, (route & 0x1F).astype(np.int64))


def _fddi(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _FDDI)
    cursor.set_next(rows[(header["control"] & 0xF8) == 0x50], LLC)


def _arcnet(header_layout: np.dtype) -> Step:
    def step(cursor: Cursor, rows: np.ndarray) -> None:
        rows, header = cursor.read_header(rows, header_layout)
        cursor.set_next(rows, to_kinds(header["type"], _ARCNET_TYPES))
        rows, split = cursor.read_header(rows[header["type"] < _ARCNET_UNSPLIT], _ARCNET_SPLIT)
        flag = split["flag"]
        cursor.advance(rows[flag == 0xFF], 1 + _ARCNET_SPLIT.itemsize)  # an exception packet
        cursor.set_next(rows[(flag != 0xFF) & (flag % 2 == 0) & (flag > 0)], NONE)  # a later part

    return step


def _juniper_ethernet(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _JUNIPER)
    has_ethernet = (header["magic"] == _JUNIPER_MAGIC) & ((header["flags"] & 0x02) == 0)
    rows, flags = rows[has_ethernet], header["flags"][has_ethernet]
    cursor.set_next(rows, ETHERNET_LINK)
    extended, length = cursor.read_header(rows[(flags & 0x80) != 0], U2)
    cursor.advance(extended, length.astype(np.int64))


def _docsis(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _DOCSIS)
    extended = (header["control"] & 1) * header["extended"].astype(np.int64)
    cursor.advance(rows, extended + 2)  # the header check sequence
    cursor.set_next(rows[header["control"] >> 6 == 0], ETHERNET_LINK)


def _enc(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _ENC)
    cursor.set_next(rows, to_kinds(host_order(header["family"]), ADDRESS_FAMILIES))


def _pflog(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _PFLOG, advance=False)
    length = header["length"].astype(np.int64)
    cursor.advance(rows, length + -length % 4)
    cursor.set_next(rows, to_kinds(header["family"], ADDRESS_FAMILIES))


def _nflog(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _NFLOG)
    family = np.zeros(len(cursor), np.uint8)
    family[rows] = header["family"]
    for _ in range(_MAX_NFLOG_FIELDS):
        rows, field = cursor.read_header(rows, _NFLOG_FIELD, advance=False)
        length = field["length"].astype(np.int64)
        is_payload = field["type"] == _NFLOG_PAYLOAD
        payload = rows[is_payload]
        cursor.advance(payload, _NFLOG_FIELD.itemsize)
        cursor.set_next(payload, to_kinds(family[payload], ADDRESS_FAMILIES))
        has_more = ~is_payload & (length >= _NFLOG_FIELD.itemsize)
        rows = rows[has_more]
        cursor.advance(rows, (length + -length % 4)[has_more])


def _mpacket(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _MPACKET)
    cursor.set_next(rows[np.isin(header["delimiter"], _FRAME_STARTS)], ETHERNET_LINK)


def _marvell(header_layout: np.dtype) -> Step:
    """Make the step of Marvell's switch tag, of which one bit says that it holds a VLAN."""

    def step(cursor: Cursor, rows: np.ndarray) -> None:
        rows, header = cursor.read_header(rows, header_layout)
        has_vlan = (header["tag"] & 0x20000000) != 0
        add_vlan(cursor, rows[has_vlan], header["tag"][has_vlan])
        cursor.set_next(rows, header["type"])

    return step


def _macsec(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _MACSEC)
    is_clear = (header["flags"] & 0x0C) == 0
    cursor.advance(rows[(header["flags"] & 0x20) != 0], 8)  # identifier of the channel
    cursor.set_next(*cursor.read_header(rows[is_clear], U2))


def _cisco_metadata(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _CISCO_METADATA)
    is_single = header["length"] == 1
    cursor.set_next(rows[is_single], header["type"][is_single])


def _arista(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _ARISTA)
    size = to_kinds(header["version"] & 0xFF, _ARISTA_STAMPS)
    good = (size > 0) & (header["subtype"] == 1)
    rows = rows[good]
    cursor.advance(rows, size[good])
    cursor.set_next(*cursor.read_header(rows, U2))


def _nsh(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, _NSH, advance=False)
    size = (header["length"] & 0x3F).astype(np.int64) * 4
    good = size >= _NSH.itemsize
    rows = rows[good]
    cursor.advance(rows, size[good])
    cursor.set_next(rows, to_kinds(header["next"][good], _NSH_PROTOCOLS))


#: The step for each link type (LINKTYPE_ number).
RARE_LINKS: dict[int, Step] = {
    6: _token_ring,
    7: _arcnet(layout("src u1, dst u1, type u1")),  # ARCNET, as the BSDs write it
    8: fixed(16, LINK + headers.LINKTYPE_RAW),  # SLIP
    10: _fddi,
    11: llc,  # DLT_ATM_RFC1483, where it was written unmapped
    51: typed(headers.PPPOE, PPP_PROTOCOLS, "protocol"),
    100: llc,  # ATM (RFC 1483)
    106: _atm_clip,  # Linux' classical IP over ATM
    107: _frame_relay,
    109: _enc,  # OpenBSD's log of IPsec
    117: _pflog,  # OpenBSD's packet filter
    122: fixed(16, LLC),  # IP over Fibre Channel (RFC 2625)
    123: _sunatm,
    129: _arcnet(layout("src u1, dst u1, offset >u2, type u1")),  # ARCNET, as Linux writes it
    138: typed(layout("dst V8, src V8, type >u2")),  # Apple's IP over IEEE 1394 (RFC 2734)
    143: _docsis,
    166: fixed(2, LINK + headers.LINKTYPE_PPP),  # pppd: 0xFF03 with the first byte a direction
    178: _juniper_ethernet,
    204: fixed(1, LINK + headers.LINKTYPE_PPP),  # these three begin with a direction
    205: fixed(1, LINK + headers.LINKTYPE_CHDLC),
    206: fixed(1, LINK + 107),
    226: typed(_IPNET, ADDRESS_FAMILIES, "family"),  # Solaris' IPNET
    239: _nflog,  # Linux' netfilter log
    240: fixed(4, ETHERNET_LINK),  # netANALYZER
    242: typed(layout("route V40, type >u2, reserved >u2")),  # IP over InfiniBand (RFC 4391)
    258: sized(layout("length <u4, type <u4, linktype <u4")),  # Apple's packet tap
    274: _mpacket,
    281: typed(layout("dst V6, src V6, tag >u4, type >u2")),  # Broadcom's switch tag
    282: fixed(4, ETHERNET_LINK),  # the same before the frame
    284: _marvell(layout("dst V6, src V6, tag >u4, type >u2")),  # DSA
    285: _marvell(layout("dst V6, src V6, edsa >u2, reserved >u2, tag >u4, type >u2")),  # EDSA
}

#: The step for each EtherType.
RARE_TAGS: dict[int, Step] = {
    0x88E5: _macsec,  # IEEE 802.1AE
    0x88E7: fixed(4, ETHERNET_LINK),  # service tag of a provider's backbone bridge (IEEE 802.1ah)
    0x8903: fixed(2, ETHERNET_LINK),  # Cisco's FabricPath
    headers.ETHERTYPE_CISCO_METADATA: _cisco_metadata,
    0x892F: typed(layout("path_size >u2, sequence >u2, type >u2")),  # HSR, a redundant ring (IEC 62439-3)
    0x894F: _nsh,
    0xD28B: _arista,
}
