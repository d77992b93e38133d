"""The common link layers, and the tags between them and IP.

Each step reads one header, moves its rows behind it, and sets what comes next. `walk_link_layers` takes
steps until every row is at IP or has a reason why not. `LAYERS` lists the steps.
"""

from __future__ import annotations

import numpy as np

from netgen.capture import headers
from netgen.capture.factorize import unique
from netgen.capture.formats.records import NO_INTERFACE
from netgen.capture.headers import gather
from netgen.capture.layers import wireless
from netgen.capture.layers.cursor import LINK, LLC, MIN_ETHERTYPE, NO_IDB, NONE, NOT_IP, OK, UNKNOWN_LINK, Cursor
from netgen.capture.layers.header_steps import (
    ADDRESS_FAMILIES,
    ETHERNET_LINK,
    PPP_PROTOCOLS,
    U4,
    Step,
    add_vlan,
    ethernet,
    fixed,
    host_order,
    llc,
    ppp,
    raw_ip,
    sized,
    to_kinds,
    typed,
)
from netgen.capture.layers.rare_links import RARE_LINKS, RARE_TAGS

#: Headers, tags and labels before IP, at most.
MAX_LAYERS = 10

_IP = (headers.ETHERTYPE_IPV4, headers.ETHERTYPE_IPV6)


def walk_link_layers(cursor: Cursor) -> None:
    """Follow link layers and tags from a header of each row's `kind` to IP, or to a `reason` why it is not."""
    rows = np.arange(len(cursor))
    for _ in range(MAX_LAYERS):
        if not rows.size:
            return
        kinds = cursor.kind[rows]
        cursor.set_next(rows, np.full(len(rows), NONE, np.int32))
        kinds[(kinds >= LLC) & (kinds < MIN_ETHERTYPE)] = LLC
        for kind in unique(kinds).tolist():
            _take_step(cursor, rows[kinds == kind], kind)
        rows = np.flatnonzero((cursor.kind != _IP[0]) & (cursor.kind != _IP[1]) & (cursor.reason == OK))
        is_lost = cursor.kind[rows] == NONE
        cursor.reason[rows[is_lost]] = NOT_IP
        rows = rows[~is_lost]
    cursor.reason[rows] = NOT_IP


def _take_step(cursor: Cursor, rows: np.ndarray, kind: int) -> None:
    """Read one header at rows that are all at a header of this kind."""
    if kind in LAYERS:
        LAYERS[kind](cursor, rows)
    elif kind == LINK + NO_INTERFACE:
        cursor.reason[rows] = NO_IDB
    elif kind >= LINK:
        cursor.reason[rows] = UNKNOWN_LINK
        cursor.unread[kind - LINK] += len(rows)


def _loopback(cursor: Cursor, rows: np.ndarray) -> None:
    rows, family = cursor.read_header(rows, U4)
    cursor.set_next(rows, to_kinds(host_order(family), ADDRESS_FAMILIES))


def _vlan(cursor: Cursor, rows: np.ndarray) -> None:
    rows, header = cursor.read_header(rows, headers.VLAN)
    add_vlan(cursor, rows, header["tci"])
    cursor.set_next(rows, header["type"])


def _mpls(cursor: Cursor, rows: np.ndarray) -> None:
    rows, label = cursor.read_header(rows, U4)
    is_bottom = (label & 0x100).astype(bool)
    cursor.set_next(rows[~is_bottom], headers.ETHERTYPE_MPLS)
    # nothing names what follows the last label; IP shows in its first four bits
    rows = rows[is_bottom]
    raw_ip(cursor, rows)
    _pseudowire(cursor, rows[(cursor.kind[rows] == NONE) & (cursor.reason[rows] == OK)])


def _pseudowire(cursor: Cursor, rows: np.ndarray) -> None:
    """Find an Ethernet frame behind an MPLS label, with or without a control word, by its EtherType."""
    for control_size in (4, 0):
        at = cursor.at[rows] + control_size
        complete = at + headers.ETHERNET.itemsize <= cursor.end[rows]
        kind = gather(cursor.data, at[complete], headers.ETHERNET)["type"]
        frames = rows[complete][np.isin(kind, list(_ETHERTYPES))]
        if control_size:  # a control word begins with four bits of 0
            frames = frames[cursor.data[cursor.at[frames]] >> 4 == 0]
        cursor.advance(frames, control_size)
        cursor.set_next(frames, ETHERNET_LINK)
        rows = rows[cursor.kind[rows] == NONE]


#: The step for each EtherType; at IP, a row stays.
_ETHERTYPES: dict[int, Step] = {
    headers.ETHERTYPE_IPV4: fixed(0, headers.ETHERTYPE_IPV4),
    headers.ETHERTYPE_IPV6: fixed(0, headers.ETHERTYPE_IPV6),
    headers.ETHERTYPE_BRIDGED: ethernet,
    headers.ETHERTYPE_VLAN: _vlan,
    headers.ETHERTYPE_QINQ: _vlan,
    headers.ETHERTYPE_QINQ_OLD: _vlan,
    headers.ETHERTYPE_PPPOE: typed(headers.PPPOE, PPP_PROTOCOLS, "protocol"),
    headers.ETHERTYPE_PPP: ppp,
    headers.ETHERTYPE_MPLS: _mpls,
    headers.ETHERTYPE_MPLS_MULTICAST: _mpls,
    **RARE_TAGS,
}

_LINKS: dict[int, Step] = {
    headers.LINKTYPE_NULL: _loopback,
    headers.LINKTYPE_ETHERNET: ethernet,
    headers.LINKTYPE_PPP: ppp,
    headers.LINKTYPE_PPP_HDLC: ppp,
    headers.LINKTYPE_RAW: raw_ip,
    12: raw_ip,  # DLT_RAW, where it was written unmapped
    14: raw_ip,  # and on OpenBSD
    headers.LINKTYPE_CHDLC: typed(headers.CHDLC),
    headers.LINKTYPE_LOOP: _loopback,
    headers.LINKTYPE_SLL: typed(headers.SLL),
    headers.LINKTYPE_SLL2: typed(headers.SLL2),
    headers.LINKTYPE_IPV4: fixed(0, headers.ETHERTYPE_IPV4),
    headers.LINKTYPE_IPV6: fixed(0, headers.ETHERTYPE_IPV6),
    headers.LINKTYPE_WLAN: wireless.wlan,
    headers.LINKTYPE_PRISM: wireless.prism,
    headers.LINKTYPE_RADIOTAP: wireless.radiotap,
    headers.LINKTYPE_AVS: sized(headers.AVS, LINK + headers.LINKTYPE_WLAN),
    headers.LINKTYPE_PPI: sized(headers.PPI),
    **RARE_LINKS,
}

#: The step for each kind of header.
LAYERS: dict[int, Step] = {LLC: llc, **_ETHERTYPES, **{LINK + number: step for number, step in _LINKS.items()}}
