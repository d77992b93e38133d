"""Link layers, and the tags between them and IP.

Each step reads one header at the rows that stand at it, moves them behind it, and says what comes
there. `walk` takes the steps until every row is at IP or has a reason why not. Most headers are a
layout with the EtherType in it; `LAYERS` declares which.
"""

from __future__ import annotations

import numpy as np

from netgen.capture import headers
from netgen.capture.formats.records import NO_INTERFACE
from netgen.capture.layers import wireless
from netgen.capture.layers.cursor import LINK, LLC, NO_IDB, NONE, NOT_IP, OK, TYPES, UNKNOWN_LINK, Cursor
from netgen.capture.layers.header_steps import PPP_PROTOCOLS, Step, before, counted, ethernet, named, ppp, raw, typed
from netgen.capture.layers.tags import TAGS, tag

#: Headers, tags and labels followed before giving up.
MAX_LAYERS = 10

_U1, _U2, _U4 = np.dtype("u1"), np.dtype(">u2"), np.dtype(">u4")
_IPV4, _IPV6 = headers.ETHERTYPE_IPV4, headers.ETHERTYPE_IPV6
_ETHERNET = LINK + headers.LINKTYPE_ETHERNET

_FAMILIES = {2: _IPV4, **dict.fromkeys((10, 24, 26, 28, 30), _IPV6)}  # Linux, BSDs, Solaris, FreeBSD, Darwin
_NETWORK_LAYERS = {0xCC: _IPV4, 0x8E: _IPV6, 0xCF: LINK + headers.LINKTYPE_PPP}  # RFC 2427
_SNAP_ID, _UNNUMBERED = 0x80, 0x03
_ARCNET = {0xD4: _IPV4, 0xC4: _IPV6, 0xF0: _IPV4}
_ARCNET_OLD, _ARCNET_EXCEPTION = 0xF0, 0xFF  # types from 0xF0 on have no sequence number
_NFLOG_PAYLOAD, _NFLOG_FIELDS = 9, 32
_SNAP_SAPS, _IP_SAPS = np.void(b"\xaa\xaa"), np.void(b"\x06\x06")
_ORGANIZATIONS = np.void(b"\0\0\0"), np.void(b"\0\0\xf8")  # whose types are EtherTypes
_JUNIPER = np.void(b"MGC")
_WHOLE_FRAME = (0xD5, 0xE6, 0x4C, 0x7F, 0xB3)  # delimiters of express frames, and of a frame's first part


def walk(rows: Cursor) -> None:
    """Follow link layers and tags to IP; what ends elsewhere is not IP.

    Parameters
    ----------
    rows : Rows
        Rows of a chunk, each at a header of its `kind`. Afterwards each is at a header of IP, or has
        a `reason`.
    """
    todo = np.arange(len(rows))
    for _ in range(MAX_LAYERS):
        if not todo.size:
            return
        kinds = rows.kind[todo] if len(todo) < len(rows) else rows.kind
        rows.expect(todo, np.full(len(todo), NONE, np.int32))
        constant = bool((kinds == kinds[0]).all())
        if not constant:
            kinds[(kinds >= LLC) & (kinds < TYPES)] = LLC
        for number in [int(kinds[0])] if constant else np.unique(kinds).tolist():
            here = todo if constant else todo[kinds == number]
            step = LAYERS.get(LLC if LLC <= number < TYPES else number)
            if step is not None:
                step(rows, here)
            elif number >= LINK:
                rows.reason[here] = UNKNOWN_LINK
                rows.unread[number - LINK] += len(here)
            elif number == LINK + NO_INTERFACE:
                rows.reason[here] = NO_IDB
        elsewhere = (rows.kind != _IPV4) & (rows.kind != _IPV6)
        if not elsewhere.any():
            return
        todo = np.flatnonzero(elsewhere & (rows.reason == OK))
        lost = rows.kind[todo] == NONE
        rows.reason[todo[lost]] = NOT_IP
        todo = todo[~lost]
    rows.reason[todo] = NOT_IP


def _loopback(rows: Cursor, here: np.ndarray) -> None:
    here, family = rows.head(here, _U4)
    rows.expect(here, named(_small(family), _FAMILIES))


def _enc(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.ENC)
    rows.expect(here, named(_small(head["family"]), _FAMILIES))


def _small(number: np.ndarray) -> np.ndarray:
    """Numbers in the byte order of whoever captured them, which is the one in which they are small."""
    number = number.astype(np.uint32)
    found: np.ndarray = np.minimum(number, number.byteswap())
    return found


# -- link layers with more to them -----------------------------------------------------------------


def _llc(rows: Cursor, here: np.ndarray) -> None:
    here = here[rows.at[here] + headers.LLC.itemsize <= rows.end[here]]  # one that is not there names no IP
    here, head = rows.head(here, headers.LLC)
    plain = head["control"] == _UNNUMBERED
    rows.expect(here[plain & (head["saps"] == _IP_SAPS)], _IPV4)  # RFC 948
    _snap(rows, here[plain & (head["saps"] == _SNAP_SAPS)])


def _snap(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.SNAP)
    named = (head["organization"] == _ORGANIZATIONS[0]) | (head["organization"] == _ORGANIZATIONS[1])
    good = named & (head["type"] >= TYPES)
    rows.expect(here[good], head["type"][good])


def _frame_relay(rows: Cursor, here: np.ndarray) -> None:
    ended = []
    for _ in range(4):  # the lowest bit marks the last byte of the address
        here, byte = rows.head(here, _U1)
        last = (byte & 1).astype(bool)
        ended.append(here[last])
        here = here[~last]
    here, control = rows.head(np.sort(np.concatenate(ended)), _U1, move=False)
    framed = control == _UNNUMBERED
    cisco, kind = rows.head(here[~framed], _U2)
    rows.expect(cisco, kind)
    rows.skip(here[framed], 1)
    here, pad = rows.head(here[framed], _U1, move=False)
    rows.skip(here[pad == 0], 1)
    here, layer = rows.head(here, _U1)
    rows.expect(here, named(layer, _NETWORK_LAYERS))
    _snap(rows, here[layer == _SNAP_ID])


def _atm_clip(rows: Cursor, here: np.ndarray) -> None:
    raw(rows, here)
    here = here[rows.kind[here] == NONE]
    rows.expect(here, LLC)


def _sunatm(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.SUNATM)
    kind = head["flags"] & 0x0F
    rows.skip(here[kind == 1], 2)  # an emulated LAN's client
    rows.expect(here, named(kind, {1: _ETHERNET, 2: LLC}))


def _token_ring(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.TOKEN_RING)
    routed = here[(head["routed"] & 0x80) != 0]
    rows.expect(here[(head["control"] & 0xC0) == 0x40], LLC)
    routed, route = rows.head(routed, _U1, move=False)
    rows.skip(routed, (route & 0x1F).astype(np.int64))


def _fddi(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.FDDI)
    rows.expect(here[(head["control"] & 0xF8) == 0x50], LLC)


def _arcnet(layout: np.dtype) -> Step:
    def step(rows: Cursor, here: np.ndarray) -> None:
        here, head = rows.head(here, layout)
        rows.expect(here, named(head["type"], _ARCNET))
        here, split = rows.head(here[head["type"] < _ARCNET_OLD], headers.ARCNET_SPLIT)
        exception = split["flag"] == _ARCNET_EXCEPTION
        rows.skip(here[exception], 1 + headers.ARCNET_SPLIT.itemsize)
        rows.expect(here[~exception & (split["flag"] % 2 == 0) & (split["flag"] > 0)], NONE)  # a later part

    return step


def _juniper_ethernet(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.JUNIPER)
    good = (head["magic"] == _JUNIPER) & ((head["flags"] & 0x02) == 0)  # and the frame is whole
    here, flags = here[good], head["flags"][good]
    rows.expect(here, _ETHERNET)
    extended, length = rows.head(here[(flags & 0x80) != 0], _U2)
    rows.skip(extended, length.astype(np.int64))


def _docsis(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.DOCSIS)
    extended = (head["control"] & 1) * head["extended"].astype(np.int64)
    rows.skip(here, extended + 2)  # and the check sequence
    rows.expect(here[head["control"] >> 6 == 0], _ETHERNET)


def _pflog(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.PFLOG, move=False)
    length = head["length"].astype(np.int64)
    rows.skip(here, length + -length % 4)
    rows.expect(here, named(head["family"], _FAMILIES))


def _nflog(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.NFLOG)
    family = np.zeros(len(rows), np.uint8)
    family[here] = head["family"]
    for _ in range(_NFLOG_FIELDS):
        here, field = rows.head(here, headers.NFLOG_FIELD, move=False)
        length = field["length"].astype(np.int64)
        payload = here[field["type"] == _NFLOG_PAYLOAD]
        rows.skip(payload, headers.NFLOG_FIELD.itemsize)
        rows.expect(payload, named(family[payload], _FAMILIES))
        more = (field["type"] != _NFLOG_PAYLOAD) & (length >= headers.NFLOG_FIELD.itemsize)
        here = here[more]
        rows.skip(here, (length + -length % 4)[more])


def _mpacket(rows: Cursor, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.MPACKET)
    rows.expect(here[np.isin(head["delimiter"], _WHOLE_FRAME)], _ETHERNET)


def _switch(layout: np.dtype) -> Step:
    """Marvell's tag, of which one bit says that it holds a VLAN's too."""

    def step(rows: Cursor, here: np.ndarray) -> None:
        here, head = rows.head(here, layout)
        tagged = (head["tag"] & 0x20000000) != 0
        tag(rows, here[tagged], head["tag"][tagged])
        rows.expect(here, head["type"])

    return step


_LINKS: dict[int, Step] = {
    headers.LINKTYPE_NULL: _loopback,
    headers.LINKTYPE_ETHERNET: ethernet,
    headers.LINKTYPE_TOKEN_RING: _token_ring,
    headers.LINKTYPE_ARCNET: _arcnet(headers.ARCNET),
    headers.LINKTYPE_SLIP: before(16, LINK + headers.LINKTYPE_RAW),
    headers.LINKTYPE_PPP: ppp,
    headers.LINKTYPE_FDDI: _fddi,
    11: _llc,  # DLT_ATM_RFC1483 itself, where it was written unmapped
    12: raw,  # the same of DLT_RAW
    14: raw,  # and on OpenBSD
    headers.LINKTYPE_PPP_HDLC: ppp,
    headers.LINKTYPE_PPP_ETHER: typed(headers.PPPOE, PPP_PROTOCOLS, "protocol"),
    headers.LINKTYPE_ATM_RFC1483: _llc,
    headers.LINKTYPE_RAW: raw,
    headers.LINKTYPE_CHDLC: typed(headers.CHDLC),
    headers.LINKTYPE_WLAN: wireless.wlan,
    headers.LINKTYPE_ATM_CLIP: _atm_clip,
    headers.LINKTYPE_FRAME_RELAY: _frame_relay,
    headers.LINKTYPE_LOOP: _loopback,
    headers.LINKTYPE_ENC: _enc,
    headers.LINKTYPE_SLL: typed(headers.SLL),
    headers.LINKTYPE_PFLOG: _pflog,
    headers.LINKTYPE_PRISM: wireless.prism,
    headers.LINKTYPE_FIBRE_CHANNEL: before(headers.FIBRE_CHANNEL.itemsize, LLC),
    headers.LINKTYPE_SUNATM: _sunatm,
    headers.LINKTYPE_RADIOTAP: wireless.radiotap,
    headers.LINKTYPE_ARCNET_LINUX: _arcnet(headers.ARCNET_LINUX),
    headers.LINKTYPE_FIREWIRE: typed(headers.FIREWIRE),
    headers.LINKTYPE_DOCSIS: _docsis,
    headers.LINKTYPE_AVS: counted(headers.AVS, LINK + headers.LINKTYPE_WLAN),
    headers.LINKTYPE_PPP_PPPD: before(2, LINK + headers.LINKTYPE_PPP),  # 0xFF03, the first byte a direction
    headers.LINKTYPE_JUNIPER_ETHER: _juniper_ethernet,
    headers.LINKTYPE_PPI: counted(headers.PPI),
    headers.LINKTYPE_PPP_WITH_DIR: before(1, LINK + headers.LINKTYPE_PPP),
    headers.LINKTYPE_CHDLC_WITH_DIR: before(1, LINK + headers.LINKTYPE_CHDLC),
    headers.LINKTYPE_FRAME_RELAY_WITH_DIR: before(1, LINK + headers.LINKTYPE_FRAME_RELAY),
    headers.LINKTYPE_IPNET: typed(headers.IPNET, _FAMILIES, "family"),
    headers.LINKTYPE_IPV4: before(0, _IPV4),
    headers.LINKTYPE_IPV6: before(0, _IPV6),
    headers.LINKTYPE_NFLOG: _nflog,
    headers.LINKTYPE_NETANALYZER: before(4, _ETHERNET),
    headers.LINKTYPE_INFINIBAND: typed(headers.INFINIBAND),
    headers.LINKTYPE_PKTAP: counted(headers.PKTAP),
    headers.LINKTYPE_MPACKET: _mpacket,
    headers.LINKTYPE_SLL2: typed(headers.SLL2),
    headers.LINKTYPE_BROADCOM: typed(headers.DSA),
    headers.LINKTYPE_BROADCOM_PREPENDED: before(4, _ETHERNET),
    headers.LINKTYPE_DSA: _switch(headers.DSA),
    headers.LINKTYPE_EDSA: _switch(headers.EDSA),
}

#: The step for each kind of header; at IP, a row stays.
LAYERS: dict[int, Step] = {
    LLC: _llc,
    _IPV4: before(0, _IPV4),
    _IPV6: before(0, _IPV6),
    **TAGS,
    **{LINK + number: step for number, step in _LINKS.items()},
}
