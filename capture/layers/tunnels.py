"""Tunnels: packets inside packets.

Each step begins behind the outer IP or UDP header, and goes on to the packet inside as a link layer goes
on to IP; `netgen.capture.layers.links.walk_link_layers` takes it from there.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture import headers
from netgen.capture.layers.cursor import NONE, OK, UNFRAGMENTED, Cursor, HeaderColumns
from netgen.capture.layers.header_steps import ETHERNET_LINK, U1, Step, fixed, raw_ip

#: Tunnels inside each other that netgen enters.
MAX_TUNNELS = 4

#: Extension headers of GTP-U, at most.
MAX_EXTENSIONS = 8

# GRE: bits of the flags, each for a word of 4 bytes that follows
_GRE_CHECKSUM, _GRE_ROUTING, _GRE_KEY, _GRE_SEQUENCE, _GRE_ACK = 0x8000, 0x4000, 0x2000, 0x1000, 0x0080
_GRE_VERSION = 0x0007
_GTP_DATA, _GTP_HAS_OPTIONS, _GTP_HAS_EXTENSIONS = 0xFF, 0x07, 0x04
_TEREDO_IS_ORIGIN, _TEREDO_IS_AUTHENTICATION = 0, 1


def _gre(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, headers.GRE)
    flags, kind = header["flags"].astype(np.int64), header["type"].astype(np.int32)
    known = ((flags & _GRE_VERSION) <= 1) & ((flags & _GRE_ROUTING) == 0)
    rows, flags, kind = rows[known], flags[known], kind[known]
    for bit in (_GRE_CHECKSUM, _GRE_KEY, _GRE_SEQUENCE):
        cursor.advance(rows[(flags & bit) != 0], 4)
    # an acknowledgement number only in version 1, PPTP's
    cursor.advance(rows[(flags & (_GRE_ACK | _GRE_VERSION)) == (_GRE_ACK | 1)], 4)
    cursor.set_next(rows, kind)
    # ERSPAN: type II has a header of its own and GRE's sequence number, type I neither
    is_erspan = kind == headers.ETHERTYPE_ERSPAN
    cursor.advance(rows[is_erspan & ((flags & _GRE_SEQUENCE) != 0)], headers.ERSPAN2.itemsize)
    cursor.set_next(rows[is_erspan], ETHERNET_LINK)
    erspan3, header = cursor.read_header(rows[kind == headers.ETHERTYPE_ERSPAN3], headers.ERSPAN3)
    cursor.advance(erspan3[(header["flags"] & 1) != 0], 8)
    cursor.set_next(erspan3, ETHERNET_LINK)
    # Cisco: metadata after its type, not before as on Ethernet; packets redirected to a cache
    metadata = rows[kind == headers.ETHERTYPE_CISCO_METADATA]
    cursor.set_next(*cursor.read_field(metadata, headers.GRE_METADATA, "type"))
    redirected = rows[kind == headers.ETHERTYPE_REDIRECTED]
    raw_ip(cursor, redirected)
    redirected = redirected[(cursor.kind[redirected] == NONE) & (cursor.reason[redirected] == OK)]
    cursor.advance(redirected, headers.REDIRECTION.itemsize)
    raw_ip(cursor, redirected)


def _vxlan(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, headers.VXLAN)
    cursor.set_next(rows[(header["flags"] & 0x08) != 0], ETHERNET_LINK)  # the network number is valid


def _geneve(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, headers.GENEVE)
    good = header["options"] >> 6 == 0  # the version
    rows, header = rows[good], header[good]
    cursor.advance(rows, (header["options"] & 0x3F).astype(np.int64) * 4)
    cursor.set_next(rows, header["type"])


def _gtp(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, headers.GTP)
    good = (header["flags"] >> 4 == 3) & (header["type"] == _GTP_DATA)  # version 1, and not the charging protocol
    rows, flags = rows[good], header["flags"][good]
    has_extensions = np.zeros(len(cursor), bool)
    has_extensions[rows] = (flags & _GTP_HAS_EXTENSIONS) != 0
    has_options = (flags & _GTP_HAS_OPTIONS) != 0
    raw_ip(cursor, rows[~has_options])
    rows, options = cursor.read_header(rows[has_options], headers.GTP_OPTIONS)
    extension = np.where(has_extensions[rows], options["next"], 0)
    for _ in range(MAX_EXTENSIONS):
        raw_ip(cursor, rows[extension == 0])
        # an extension's first byte is its length in words of 4 bytes, its last byte the kind of the next one
        rows, words = cursor.read_header(rows[extension != 0], U1, advance=False)
        rows, words = rows[words > 0], words[words > 0]
        cursor.advance(rows, words.astype(np.int64) * 4 - 1)
        rows, extension = cursor.read_header(rows, U1)


def _teredo(cursor: Cursor, rows: np.ndarray) -> None:
    # an authentication and the packet's origin may come before the packet
    rows, header = cursor.read_header(rows, headers.TEREDO_AUTHENTICATION, advance=False)
    is_authentication = header["kind"] == _TEREDO_IS_AUTHENTICATION
    size = header["id_length"].astype(np.int64) + header["value_length"] + headers.TEREDO_AUTHENTICATION.itemsize
    cursor.advance(rows[is_authentication], size[is_authentication] + 9)  # a nonce and a byte
    rows, header = cursor.read_header(rows, headers.TEREDO_ORIGIN, advance=False)
    cursor.advance(rows[header["kind"] == _TEREDO_IS_ORIGIN], headers.TEREDO_ORIGIN.itemsize)
    rows, first = cursor.read_header(rows, U1, advance=False)
    cursor.set_next(rows[first >> 4 == 6], headers.ETHERTYPE_IPV6)


@dataclasses.dataclass(frozen=True)
class Tunnel:
    """A way to carry packets in IP."""

    name: str  # in the notes of the read report
    step: Step  # reads the tunnel's header
    protocol: int = headers.PROTOCOL_UDP  # IP protocol
    port: int = 0  # destination port of UDP
    is_symmetric: bool = False  # whether `port` as the source port also marks the tunnel

    def matches(self, columns: HeaderColumns) -> np.ndarray:
        """Return which packets look like this tunnel; shape (packets,), bool."""
        matches = columns.protocol == self.protocol
        if self.is_symmetric:
            matches &= (columns.dst_port == self.port) | (columns.src_port == self.port)
        elif self.port:
            matches &= columns.dst_port == self.port
        return matches


TUNNELS = (
    Tunnel("IPv4 in IP", fixed(0, headers.ETHERTYPE_IPV4), headers.PROTOCOL_IPV4),
    Tunnel("IPv6 in IP", fixed(0, headers.ETHERTYPE_IPV6), headers.PROTOCOL_IPV6),
    Tunnel("GRE", _gre, headers.PROTOCOL_GRE),
    Tunnel("EtherIP", fixed(headers.ETHERIP.itemsize, ETHERNET_LINK), headers.PROTOCOL_ETHERIP),
    Tunnel("MPLS in IP", fixed(0, headers.ETHERTYPE_MPLS), headers.PROTOCOL_MPLS),
    Tunnel("VXLAN", _vxlan, port=headers.PORT_VXLAN),
    Tunnel("Geneve", _geneve, port=headers.PORT_GENEVE),
    Tunnel("GTP-U", _gtp, port=headers.PORT_GTP),
    Tunnel("Teredo", _teredo, port=headers.PORT_TEREDO, is_symmetric=True),
)


def has_tunnel_port(columns: HeaderColumns) -> np.ndarray:
    """Return which packets have a tunnel's UDP port; shape (packets,), bool."""
    return np.logical_or.reduce([tunnel.matches(columns) for tunnel in TUNNELS if tunnel.port])


def open_tunnels(cursor: Cursor, columns: HeaderColumns) -> list[tuple[str, np.ndarray, Cursor]]:
    """Find the tunnels among some packets, whose rows of `cursor` are behind their IP headers, and read their headers.

    Return each tunnel's name, the rows of its packets, and a cursor over these rows behind the tunnel's header.
    """
    # netgen does not join the fragments of a datagram, and so does not read what they carry
    is_complete = (cursor.reason == OK) & (columns.fragment == UNFRAGMENTED)
    opened = []
    for tunnel in TUNNELS:
        rows = np.flatnonzero(is_complete & tunnel.matches(columns))
        if not rows.size:
            continue
        inside = cursor.take(rows)
        inside.kind[:] = NONE
        inside.vlan[:] = -1
        every = np.arange(len(rows))
        if tunnel.port:
            inside.advance(every, headers.UDP.itemsize)
        tunnel.step(inside, every)
        opened.append((tunnel.name, rows, inside))
    return opened
