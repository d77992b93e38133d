"""Tunnels: packets inside packets.

Each step begins at what the outer IP carries, or at what its UDP does, and goes on to the packet
inside as a link layer goes on to IP; `netgen.capture.layers.links.walk` takes it from there.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture import headers
from netgen.capture.layers.cursor import LINK, NONE, OK, UNFRAGMENTED, Cursor, HeaderColumns
from netgen.capture.layers.header_steps import Step, before, raw

#: Tunnels inside each other that are entered.
MAX_TUNNELS = 4

#: Extension headers of GTP-U followed before giving up.
MAX_EXTENSIONS = 8

_U1 = np.dtype("u1")
_ETHERNET = LINK + headers.LINKTYPE_ETHERNET

# GRE: bits of the flags, and what they say follows
_GRE_CHECKSUM, _GRE_ROUTING, _GRE_KEY, _GRE_SEQUENCE, _GRE_ACK = 0x8000, 0x4000, 0x2000, 0x1000, 0x0080
_GRE_VERSION = 0x0007
_GTP_DATA, _GTP_LONGER, _GTP_EXTENDED = 0xFF, 0x07, 0x04
_TEREDO_FROM, _TEREDO_PROOF = 0, 1


def _gre(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.GRE)
    flags, kind = head["flags"].astype(np.int64), head["type"].astype(np.int32)
    known = ((flags & _GRE_VERSION) <= 1) & ((flags & _GRE_ROUTING) == 0)
    here, flags, kind = here[known], flags[known], kind[known]
    for bit in (_GRE_CHECKSUM, _GRE_KEY, _GRE_SEQUENCE):
        rows.skip(here[(flags & bit) != 0], 4)
    # an acknowledgement number only in version 1, PPTP's
    rows.skip(here[(flags & (_GRE_ACK | _GRE_VERSION)) == (_GRE_ACK | 1)], 4)
    rows.expect(here, kind)
    # ERSPAN: type II has a header of its own and GRE's sequence number, type I neither
    mirrored = kind == headers.ETHERTYPE_ERSPAN
    rows.skip(here[mirrored & ((flags & _GRE_SEQUENCE) != 0)], headers.ERSPAN2.itemsize)
    rows.expect(here[mirrored], _ETHERNET)
    third, head = rows.head(here[kind == headers.ETHERTYPE_ERSPAN3], headers.ERSPAN3)
    rows.skip(third[(head["flags"] & 1) != 0], 8)
    rows.expect(third, _ETHERNET)
    # Cisco: metadata with the type before it, not behind as on Ethernet; packets redirected to a cache
    tagged, inner = rows.number(here[kind == headers.ETHERTYPE_CISCO_METADATA], headers.GRE_METADATA, "type")
    rows.expect(tagged, inner)
    redirected = here[kind == headers.ETHERTYPE_REDIRECTED]
    raw(rows, redirected)
    redirected = redirected[(rows.kind[redirected] == NONE) & (rows.reason[redirected] == OK)]
    rows.skip(redirected, headers.REDIRECTION.itemsize)
    raw(rows, redirected)


def _vxlan(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.VXLAN)
    rows.expect(here[(head["flags"] & 0x08) != 0], _ETHERNET)  # the network's number is valid


def _geneve(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.GENEVE)
    good = head["options"] >> 6 == 0  # the version
    here, head = here[good], head[good]
    rows.skip(here, (head["options"] & 0x3F).astype(np.int64) * 4)
    rows.expect(here, head["type"])


def _gtp(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.GTP)
    good = (head["flags"] >> 4 == 3) & (head["type"] == _GTP_DATA)  # version 1, and not the charging protocol
    here, flags = here[good], head["flags"][good]
    extended = np.zeros(len(rows), bool)
    extended[here] = (flags & _GTP_EXTENDED) != 0
    longer = (flags & _GTP_LONGER) != 0
    raw(rows, here[~longer])
    here, options = rows.head(here[longer], headers.GTP_OPTIONS)
    following = np.where(extended[here], options["next"], 0)
    for _ in range(MAX_EXTENSIONS):
        raw(rows, here[following == 0])
        # an extension's first byte is its length in words of 4, its last says what kind the next one is
        here, words = rows.head(here[following != 0], _U1, move=False)
        here, words = here[words > 0], words[words > 0]
        if not here.size:
            return
        rows.skip(here, words.astype(np.int64) * 4 - 1)
        here, following = rows.head(here, _U1)


def _teredo(rows: Cursor, here: np.ndarray) -> None:
    # who sent it and where it came from may stand before the packet
    here, head = rows.head(here, headers.TEREDO_AUTHENTICATION, move=False)
    proof = head["kind"] == _TEREDO_PROOF
    size = head["id_length"].astype(np.int64) + head["value_length"] + headers.TEREDO_AUTHENTICATION.itemsize
    rows.skip(here[proof], size[proof] + 9)  # a nonce and a byte
    here, head = rows.head(here, headers.TEREDO_ORIGIN, move=False)
    rows.skip(here[head["kind"] == _TEREDO_FROM], headers.TEREDO_ORIGIN.itemsize)
    here, first = rows.head(here, _U1, move=False)
    rows.expect(here[first >> 4 == 6], headers.ETHERTYPE_IPV6)


@dataclasses.dataclass(frozen=True)
class Tunnel:
    """A way to carry packets in IP.

    Parameters
    ----------
    name : str
        As it stands in the account's notes.
    step : callable
        Goes from the tunnel's header to the one behind it.
    protocol : int, optional
        IP protocol; by default UDP.
    port : int, optional
        UDP's destination port.
    both : bool
        Whether packets from this port are of the tunnel, too.
    """

    name: str
    step: Step
    protocol: int = headers.PROTOCOL_UDP
    port: int = 0
    both: bool = False

    def of(self, fields: HeaderColumns) -> np.ndarray:
        """Which packets say that they are of this tunnel; shape (rows,), bool."""
        found = fields.protocol == self.protocol
        if self.port:
            ported = fields.dst_port == self.port
            found &= (ported | (fields.src_port == self.port)) if self.both else ported
        return found


TUNNELS = (
    Tunnel("IPv4 in IP", before(0, headers.ETHERTYPE_IPV4), headers.PROTOCOL_IPV4),
    Tunnel("IPv6 in IP", before(0, headers.ETHERTYPE_IPV6), headers.PROTOCOL_IPV6),
    Tunnel("GRE", _gre, headers.PROTOCOL_GRE),
    Tunnel("EtherIP", before(headers.ETHERIP.itemsize, _ETHERNET), headers.PROTOCOL_ETHERIP),
    Tunnel("MPLS in IP", before(0, headers.ETHERTYPE_MPLS), headers.PROTOCOL_MPLS),
    Tunnel("VXLAN", _vxlan, port=headers.PORT_VXLAN),
    Tunnel("Geneve", _geneve, port=headers.PORT_GENEVE),
    Tunnel("GTP-U", _gtp, port=headers.PORT_GTP),
    Tunnel("Teredo", _teredo, port=headers.PORT_TEREDO, both=True),
)
_BY_PORT = tuple(tunnel for tunnel in TUNNELS if tunnel.port)


def by_port(fields: HeaderColumns) -> np.ndarray:
    """Which packets have a port of a tunnel.

    Parameters
    ----------
    fields : Fields
        Columns of packets.

    Returns
    -------
    ndarray of bool, shape (rows,)
    """
    found = np.zeros(len(fields.protocol), bool)
    for tunnel in _BY_PORT:
        found |= tunnel.of(fields)
    return found


def inside(rows: Cursor, fields: HeaderColumns) -> list[tuple[str, np.ndarray, Cursor]]:
    """Packets that are tunnels, each with what is inside.

    Parameters
    ----------
    rows : Rows
        Rows at what IP carries.
    fields : Fields
        Their columns.

    Returns
    -------
    list of (str, ndarray of int64, Rows)
        A tunnel's name, the rows of its packets, and these standing behind its header.
    """
    found = []
    # parts of a datagram are not put together, so neither is what they carry
    whole = (rows.reason == OK) & (fields.fragment == UNFRAGMENTED)
    for tunnel in TUNNELS:
        here = np.flatnonzero(whole & tunnel.of(fields))
        if not here.size:
            continue
        part = rows.some(here)
        part.kind[:] = NONE
        part.vlan[:] = -1
        every = np.arange(len(here))
        if tunnel.port:
            part.skip(every, headers.UDP.itemsize)
        tunnel.step(part, every)
        found.append((tunnel.name, here, part))
    return found
