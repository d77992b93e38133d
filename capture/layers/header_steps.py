"""Steps that several link layers, tags and tunnels share: most headers are little more than their layout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from netgen.capture import headers
from netgen.capture.layers.cursor import LINK, NONE, Cursor

#: Reads one kind of header at the rows that stand at one, moves them behind it, and says what comes there.
Step = Callable[[Cursor, np.ndarray], None]

#: Kinds of header by PPP's own numbers.
PPP_PROTOCOLS = {
    0x0021: headers.ETHERTYPE_IPV4,
    0x0057: headers.ETHERTYPE_IPV6,
    0x0281: headers.ETHERTYPE_MPLS,
    0x0283: headers.ETHERTYPE_MPLS_MULTICAST,
}
_PPP_FRAMED, _PPP_CISCO = 0xFF03, (0x0F00, 0x8F00)
_U1, _U2 = np.dtype("u1"), np.dtype(">u2")


def named(numbers: np.ndarray, names: dict[int, int]) -> np.ndarray:
    """The kinds of header that a protocol's own numbers stand for."""
    kind = np.full(len(numbers), NONE, np.int32)
    for number, name in names.items():
        kind[numbers == number] = name
    return kind


def typed(layout: np.dtype, names: dict[int, int] | None = None, field: str = "type") -> Step:
    """A header of fixed length, one field of which says what comes: an EtherType unless `names` says it."""

    def step(rows: Cursor, here: np.ndarray) -> None:
        here, kind = rows.number(here, layout, field)
        rows.expect(here, kind if names is None else named(kind, names))

    return step


def before(size: int, kind: int) -> Step:
    """A header of fixed length before another one that is always there."""

    def step(rows: Cursor, here: np.ndarray) -> None:
        rows.skip(here, size)
        rows.expect(here, kind)

    return step


def counted(layout: np.dtype, kind: int | None = None) -> Step:
    """A header that tells its own length, before a fixed kind or the link type it names."""

    def step(rows: Cursor, here: np.ndarray) -> None:
        here, head = rows.head(here, layout, move=False)
        length = head["length"].astype(np.int64)
        good = length >= layout.itemsize
        here, head = here[good], head[good]
        rows.skip(here, length[good])
        # a number too large to be a link type stays one that is not read
        rows.expect(here, LINK + np.minimum(head["linktype"], 0xFFFF).astype(np.int32) if kind is None else kind)

    return step


def raw(rows: Cursor, here: np.ndarray) -> None:
    """No header at all: the first four bits of an IP header are its version."""
    here, first = rows.head(here, _U1, move=False)
    rows.expect(here, named(first >> 4, {4: headers.ETHERTYPE_IPV4, 6: headers.ETHERTYPE_IPV6}))


def ppp(rows: Cursor, here: np.ndarray) -> None:
    """PPP, framed as by HDLC or not, with long or short protocol numbers; or Cisco's HDLC in its place."""
    here, first = rows.head(here, _U2, move=False)
    cisco = (first == _PPP_CISCO[0]) | (first == _PPP_CISCO[1])
    rows.expect(here[cisco], LINK + headers.LINKTYPE_CHDLC)
    rows.skip(here[first == _PPP_FRAMED], _U2.itemsize)
    here, first = rows.head(here[~cisco], _U1, move=False)
    short = (first & 1).astype(bool)  # protocol field compressed to one byte
    for part, layout in ((here[short], _U1), (here[~short], _U2)):
        part, protocol = rows.head(part, layout)
        rows.expect(part, named(protocol, PPP_PROTOCOLS))


#: Ethernet, wherever a frame of it begins.
ethernet = typed(headers.ETHERNET)
