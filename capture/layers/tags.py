"""Tags and labels between the link layer and IP: VLAN, PPPoE, MPLS and the rarer ones."""

from __future__ import annotations

import numpy as np

from netgen.capture import headers
from netgen.capture.headers import gather
from netgen.capture.layers.cursor import LINK, NONE, OK, Cursor
from netgen.capture.layers.header_steps import PPP_PROTOCOLS, Step, before, ethernet, named, ppp, raw, typed

_U2, _U4 = np.dtype(">u2"), np.dtype(">u4")
_ARISTA_STAMPS = {0x10: 8, 0x20: 6}
_NEXT_SERVICE = {
    1: headers.ETHERTYPE_IPV4,
    2: headers.ETHERTYPE_IPV6,
    3: LINK + headers.LINKTYPE_ETHERNET,
    5: headers.ETHERTYPE_MPLS,
}


def _vlan(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.VLAN)
    tag(rows, here, head["tci"])
    rows.expect(here, head["type"])


def tag(rows: Cursor, here: np.ndarray, control: np.ndarray) -> None:
    """Keep the VLAN's number, behind the outer one if there is one."""
    number = (control & 0xFFF).astype(np.int32)
    before = rows.vlan[here]
    inner = np.where(before < 4096, before + 4096 * number, before)
    # number 0 only carries a priority: it names no VLAN
    rows.vlan[here] = np.where(number == 0, before, np.where(before < 0, number, inner))


def _mpls(rows: Cursor, here: np.ndarray) -> None:
    here, label = rows.head(here, _U4)
    bottom = (label & 0x100).astype(bool)
    rows.expect(here[~bottom], headers.ETHERTYPE_MPLS)
    # nothing names what follows the last label: its first four bits do if it is IP
    here = here[bottom]
    raw(rows, here)
    here = here[(rows.kind[here] == NONE) & (rows.reason[here] == OK)]
    if here.size:
        _pseudowire(rows, here)


def _pseudowire(rows: Cursor, here: np.ndarray) -> None:
    """An Ethernet frame behind an MPLS label, with or without a control word: known by its EtherType."""
    for size in (4, 0):
        at = rows.at[here] + size
        whole = at + headers.ETHERNET.itemsize <= rows.end[here]
        kind = gather(rows.data, at[whole], headers.ETHERNET)["type"]
        found = here[whole][np.isin(kind, _KNOWN)]
        if size:
            found = found[rows.data[rows.at[found]] >> 4 == 0]  # a control word's first four bits
        rows.skip(found, size)
        rows.expect(found, LINK + headers.LINKTYPE_ETHERNET)
        here = here[rows.kind[here] == NONE]


def _macsec(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.MACSEC)
    clear = (head["flags"] & 0x0C) == 0
    rows.skip(here[(head["flags"] & 0x20) != 0], 8)  # identifier of the channel
    here, kind = rows.head(here[clear], _U2)
    rows.expect(here, kind)


def _cisco_metadata(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.CISCO_METADATA)
    one = head["length"] == 1
    rows.expect(here[one], head["type"][one])


def _arista(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.ARISTA)
    size = named(head["version"] & 0xFF, _ARISTA_STAMPS)
    good = (size > 0) & (head["subtype"] == 1)
    here = here[good]
    rows.skip(here, size[good])
    here, kind = rows.head(here, _U2)
    rows.expect(here, kind)


def _nsh(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.NSH, move=False)
    size = (head["length"] & 0x3F).astype(np.int64) * 4
    good = size >= headers.NSH.itemsize
    here = here[good]
    rows.skip(here, size[good])
    rows.expect(here, named(head["next"][good], _NEXT_SERVICE))


#: The step for each EtherType that is not IP itself.
TAGS: dict[int, Step] = {
    headers.ETHERTYPE_BRIDGED: ethernet,
    headers.ETHERTYPE_VLAN: _vlan,
    headers.ETHERTYPE_QINQ: _vlan,
    headers.ETHERTYPE_QINQ_OLD: _vlan,
    headers.ETHERTYPE_PPPOE: typed(headers.PPPOE, PPP_PROTOCOLS, "protocol"),
    headers.ETHERTYPE_PPP: ppp,
    headers.ETHERTYPE_MPLS: _mpls,
    headers.ETHERTYPE_MPLS_MULTICAST: _mpls,
    headers.ETHERTYPE_MACSEC: _macsec,
    headers.ETHERTYPE_BACKBONE: before(headers.BACKBONE.itemsize, LINK + headers.LINKTYPE_ETHERNET),
    headers.ETHERTYPE_FABRICPATH: before(headers.FABRICPATH.itemsize, LINK + headers.LINKTYPE_ETHERNET),
    headers.ETHERTYPE_CISCO_METADATA: _cisco_metadata,
    headers.ETHERTYPE_HSR: typed(headers.HSR),
    headers.ETHERTYPE_NSH: _nsh,
    headers.ETHERTYPE_ARISTA: _arista,
}
_KNOWN = (headers.ETHERTYPE_IPV4, headers.ETHERTYPE_IPV6, *TAGS)
