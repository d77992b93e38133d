"""Steps that link layers, tags and tunnels share: most headers are little more than their layout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from netgen.capture import headers
from netgen.capture.layers.cursor import LINK, MIN_ETHERTYPE, NONE, Cursor

#: Reads one kind of header at the rows that are at one, moves them behind it, and sets what comes next.
Step = Callable[[Cursor, np.ndarray], None]

U1, U2, U4 = np.dtype("u1"), np.dtype(">u2"), np.dtype(">u4")
ETHERNET_LINK = LINK + headers.LINKTYPE_ETHERNET

#: Kinds of header by IP version, by address family (Linux; the BSDs, Solaris, FreeBSD, Darwin), by PPP protocol.
IP_VERSIONS = {4: headers.ETHERTYPE_IPV4, 6: headers.ETHERTYPE_IPV6}
ADDRESS_FAMILIES = {2: headers.ETHERTYPE_IPV4, **dict.fromkeys((10, 24, 26, 28, 30), headers.ETHERTYPE_IPV6)}
PPP_PROTOCOLS = {
    0x0021: headers.ETHERTYPE_IPV4,
    0x0057: headers.ETHERTYPE_IPV6,
    0x0281: headers.ETHERTYPE_MPLS,
    0x0283: headers.ETHERTYPE_MPLS_MULTICAST,
}

_UNNUMBERED = 0x03  # LLC frames without a sequence number
_SNAP_SAPS, _IP_SAPS = np.void(b"\xaa\xaa"), np.void(b"\x06\x06")
_ETHERTYPE_ORGANIZATIONS = np.void(b"\0\0\0"), np.void(b"\0\0\xf8")
_PPP_FRAMED, _PPP_CISCO = 0xFF03, (0x0F00, 0x8F00)


def to_kinds(numbers: np.ndarray, kinds: dict[int, int]) -> np.ndarray:
    """Translate a protocol's own numbers to kinds of header; `NONE` for numbers not in `kinds`."""
    result = np.full(len(numbers), NONE, np.int32)
    for number, kind in kinds.items():
        result[numbers == number] = kind
    return result


def host_order(number: np.ndarray) -> np.ndarray:
    """Return small numbers written in either byte order: that of the capturing host makes them small."""
    number = number.astype(np.uint32)
    return np.minimum(number, number.byteswap())


def typed(layout: np.dtype, kinds: dict[int, int] | None = None, field: str = "type") -> Step:
    """Make the step of a header of fixed length with a field that names what follows: an EtherType, or by `kinds`."""

    def step(cursor: Cursor, rows: np.ndarray) -> None:
        rows, number = cursor.read_field(rows, layout, field)
        cursor.set_next(rows, number if kinds is None else to_kinds(number, kinds))

    return step


def fixed(size: int, kind: int) -> Step:
    """Make the step of a header of fixed length that one kind of header always follows."""

    def step(cursor: Cursor, rows: np.ndarray) -> None:
        cursor.advance(rows, size)
        cursor.set_next(rows, kind)

    return step


def sized(layout: np.dtype, kind: int | None = None) -> Step:
    """Make the step of a header with its own length, before one kind of header or the link type that it names."""

    def step(cursor: Cursor, rows: np.ndarray) -> None:
        rows, header = cursor.read_header(rows, layout, advance=False)
        length = header["length"].astype(np.int64)
        good = length >= layout.itemsize
        rows, header = rows[good], header[good]
        cursor.advance(rows, length[good])
        # a number too large for a link type remains one that is not read
        cursor.set_next(rows, LINK + np.minimum(header["linktype"], 0xFFFF).astype(np.int32) if kind is None else kind)

    return step


def raw_ip(cursor: Cursor, rows: np.ndarray) -> None:
    """Tell IPv4 from IPv6 by the first four bits; there is no header."""
    rows, first = cursor.read_header(rows, U1, advance=False)
    cursor.set_next(rows, to_kinds(first >> 4, IP_VERSIONS))


def ppp(cursor: Cursor, rows: np.ndarray) -> None:
    """Read PPP, framed as by HDLC or not, with long or short protocol numbers; or Cisco's HDLC in its place."""
    rows, first = cursor.read_header(rows, U2, advance=False)
    is_cisco = np.isin(first, _PPP_CISCO)
    cursor.set_next(rows[is_cisco], LINK + headers.LINKTYPE_CHDLC)
    cursor.advance(rows[first == _PPP_FRAMED], U2.itemsize)
    rows, first = cursor.read_header(rows[~is_cisco], U1, advance=False)
    is_short = (first & 1).astype(bool)  # a protocol number compressed to one byte
    for selected, layout in ((rows[is_short], U1), (rows[~is_short], U2)):
        selected, protocol = cursor.read_header(selected, layout)
        cursor.set_next(selected, to_kinds(protocol, PPP_PROTOCOLS))


def llc(cursor: Cursor, rows: np.ndarray) -> None:
    """Read IEEE 802.2 LLC, and SNAP behind it; a frame too short for it is not IP."""
    rows = rows[cursor.at[rows] + headers.LLC.itemsize <= cursor.end[rows]]
    rows, header = cursor.read_header(rows, headers.LLC)
    is_plain = header["control"] == _UNNUMBERED
    cursor.set_next(rows[is_plain & (header["saps"] == _IP_SAPS)], headers.ETHERTYPE_IPV4)  # RFC 948
    snap(cursor, rows[is_plain & (header["saps"] == _SNAP_SAPS)])


def snap(cursor: Cursor, rows: np.ndarray) -> None:
    """Read SNAP, whose type is an EtherType for two organizations."""
    rows, header = cursor.read_header(rows, headers.SNAP)
    zero, bridge = (header["organization"] == organization for organization in _ETHERTYPE_ORGANIZATIONS)
    good = (zero | bridge) & (header["type"] >= MIN_ETHERTYPE)
    cursor.set_next(rows[good], header["type"][good])


def add_vlan(cursor: Cursor, rows: np.ndarray, control: np.ndarray) -> None:
    """Store a VLAN number, as the inner one if there is an outer one."""
    number = (control & 0xFFF).astype(np.int32)
    outer = cursor.vlan[rows]
    inner = np.where(outer < 4096, outer + 4096 * number, outer)
    # number 0 carries a priority, and no VLAN
    cursor.vlan[rows] = np.where(number == 0, outer, np.where(outer < 0, number, inner))


#: Ethernet, wherever a frame begins.
ethernet = typed(headers.ETHERNET)
