"""Records to packets: link layer, IP and transport headers as columns, a chunk at a time.

Every step works on the rows of a chunk that need it: the link layer moves `at` to the next header
and says what comes there (an EtherType); tags and tunnels of the link do the same, until IP is
reached. A row that cannot go on gets the reason why, so that each packet is either in the columns
or in the account.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

import numpy as np

from capture import headers
from capture.headers import take
from capture.reader import NO_INTERFACE, Chunk

#: Tags, labels and extension headers followed before giving up.
MAX_LAYERS = 8

#: A wire length from here on is not believed (CAPTURE.md, 4.2).
MAX_WIRE = 1 << 18

#: IP bytes above which a packet was put together by the network card (offload).
MTU = 1500

# why a packet is in no flow; OK means it is
OK, UNKNOWN_LINK, NO_IDB, NOT_IP, CUT, BAD_IP = range(6)
REASONS = {
    NO_IDB: "interface not declared",
    NOT_IP: "not IP",
    CUT: "header cut short",
    BAD_IP: "bad IP header",
}

# what part of an IP datagram a packet is
WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT = range(3)

_LLC = 0  # EtherTypes below 0x600 are lengths: an LLC header follows
_NONE = -1

_FAMILIES_IPV6 = (10, 24, 28, 30)  # Linux, BSDs, FreeBSD, Darwin
_PPP_TO_ETHERTYPE = {
    0x0021: headers.ETHERTYPE_IPV4,
    0x0057: headers.ETHERTYPE_IPV6,
    0x0281: headers.ETHERTYPE_MPLS,
    0x0283: headers.ETHERTYPE_MPLS_MULTICAST,
}
_EXTENSIONS = (
    headers.PROTOCOL_HOP_BY_HOP,
    headers.PROTOCOL_ROUTING,
    headers.PROTOCOL_FRAGMENT,
    headers.PROTOCOL_AH,
    headers.PROTOCOL_DESTINATION,
)
_OFFLOADED = (headers.PROTOCOL_HOP_BY_HOP, headers.PROTOCOL_TCP, headers.PROTOCOL_UDP)
_U1, _U2, _U4 = np.dtype("u1"), np.dtype(">u2"), np.dtype(">u4")


@dataclasses.dataclass(frozen=True, slots=True)
class Packets:
    """The IP packets of a chunk as columns, each of shape (packets,).

    Parameters
    ----------
    number : ndarray of int64
        Packet number in the file.
    time_ns : ndarray of int64
        Nanoseconds since 1970.
    size : ndarray of int64
        IP bytes, whatever was captured of them.
    version, protocol, flags : ndarray of uint8
        IP version, IP protocol, TCP flags (0 where there are none).
    vlan : ndarray of int32
        Outer VLAN number plus 4096 times the inner one, -1 for none.
    src_high, src_low, dst_high, dst_low : ndarray of uint64
        Addresses; an IPv4 address is the low 32 bits.
    src_port, dst_port : ndarray of int32
        Ports of TCP and UDP; the id of an ICMP echo, twice; -1 for a later fragment, else 0.
    payload_at, payload_length : ndarray of int64
        Where in the chunk's data the payload of TCP or UDP is, and how much of it was captured.
    seq : ndarray of uint32
        TCP sequence number (0 where there is none).
    fragment : ndarray of uint8
        `WHOLE`, `FIRST_FRAGMENT` or `LATER_FRAGMENT`.
    fragment_id : ndarray of uint32
        IP identification of a fragment, else 0.
    skipped, notes : Counter
        Records that are no such packet, by reason; oddities that lost nothing.
    """

    number: np.ndarray
    time_ns: np.ndarray
    size: np.ndarray
    version: np.ndarray
    protocol: np.ndarray
    flags: np.ndarray
    vlan: np.ndarray
    src_high: np.ndarray
    src_low: np.ndarray
    dst_high: np.ndarray
    dst_low: np.ndarray
    src_port: np.ndarray
    dst_port: np.ndarray
    payload_at: np.ndarray
    payload_length: np.ndarray
    seq: np.ndarray
    fragment: np.ndarray
    fragment_id: np.ndarray
    skipped: Counter[str]
    notes: Counter[str]

    def __len__(self) -> int:
        return len(self.number)


def dissect(chunk: Chunk) -> Packets:
    """The IP packets among a chunk's records, and why the others are none.

    Parameters
    ----------
    chunk : Chunk
        Records as `capture.reader.CaptureFile.chunks` yields them.

    Returns
    -------
    Packets
        One row a packet; ``len(packets) + packets.skipped.total() == len(chunk)``.
    """
    rows = _Rows(chunk)
    skipped: Counter[str] = Counter()
    for linktype in np.unique(chunk.linktype).tolist():
        here = np.flatnonzero(chunk.linktype == linktype)
        if linktype in _LINKS:
            _LINKS[linktype](rows, here)
        elif linktype == NO_INTERFACE:
            rows.reason[here] = NO_IDB
        else:
            rows.reason[here] = UNKNOWN_LINK
            skipped[f"link type {linktype} is not read"] += len(here)
    _tags(rows)
    _ipv4(rows)
    _ipv6(rows)
    _transport(rows)
    for reason, text in REASONS.items():
        skipped[text] += int((rows.reason == reason).sum())
    keep = np.flatnonzero(rows.reason == OK)
    size = rows.size[keep]
    notes = rows.notes
    notes["over 1500 bytes (offload)"] += int((size > MTU).sum())
    return Packets(
        number=chunk.number[keep],
        time_ns=chunk.time_ns[keep],
        size=size,
        skipped=+skipped,
        notes=+notes,
        **{name: getattr(rows, name)[keep] for name in _KEPT},
    )


_KEPT = (
    *("version", "protocol", "flags", "vlan", "src_high", "src_low", "dst_high", "dst_low"),
    *("src_port", "dst_port", "payload_at", "payload_length", "seq", "fragment", "fragment_id"),
)


class _Rows:
    """Where each row of a chunk stands while it is taken apart."""

    def __init__(self, chunk: Chunk) -> None:
        n = len(chunk)
        self.data = chunk.data
        self.at = chunk.offset.copy()
        self.end = chunk.offset + chunk.captured
        believed = np.where(chunk.length < MAX_WIRE, chunk.length, 0)
        self.wire_end = chunk.offset + np.maximum(chunk.captured, believed)
        self.kind = np.full(n, _NONE, np.int32)
        self.reason = np.zeros(n, np.uint8)
        self.vlan = np.full(n, -1, np.int32)
        self.size = np.zeros(n, np.int64)
        self.version, self.protocol, self.flags = np.zeros((3, n), np.uint8)
        self.src_high, self.src_low, self.dst_high, self.dst_low = np.zeros((4, n), np.uint64)
        self.src_port, self.dst_port = np.zeros((2, n), np.int32)
        self.payload_at, self.payload_length = np.zeros((2, n), np.int64)
        self.seq, self.fragment_id = np.zeros((2, n), np.uint32)
        self.fragment = np.zeros(n, np.uint8)
        self.notes: Counter[str] = Counter()

    def head(self, rows: np.ndarray, layout: np.dtype, *, move: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """The header at each of `rows`, and the rows that have one; the others are cut short."""
        at = self.at[rows]
        whole = at + layout.itemsize <= self.end[rows]
        if not whole.all():
            self.reason[rows[~whole]] = CUT
            rows, at = rows[whole], at[whole]
        if move:
            self.at[rows] = at + layout.itemsize
        return rows, take(self.data, at, layout)

    def going(self, kind: int) -> np.ndarray:
        """Rows without a fault at which a header of this EtherType is next."""
        return np.flatnonzero((self.kind == kind) & (self.reason == OK))


# -- link layers: each moves `at` past its header and sets `kind` ---------------------------------


def _typed(layout: np.dtype) -> Callable[[_Rows, np.ndarray], None]:
    """A header of fixed length whose field `type` is an EtherType."""

    def step(rows: _Rows, here: np.ndarray) -> None:
        here, head = rows.head(here, layout)
        rows.kind[here] = head["type"]

    return step


def _always(kind: int) -> Callable[[_Rows, np.ndarray], None]:
    """No header at all."""

    def step(rows: _Rows, here: np.ndarray) -> None:
        rows.kind[here] = kind

    return step


def _raw(rows: _Rows, here: np.ndarray) -> None:
    here, first = rows.head(here, _U1, move=False)
    version = first >> 4
    kind = np.where(version == 6, headers.ETHERTYPE_IPV6, _NONE)
    rows.kind[here] = np.where(version == 4, headers.ETHERTYPE_IPV4, kind)


def _loopback(rows: _Rows, here: np.ndarray) -> None:
    here, family = rows.head(here, _U4)
    # in the byte order of whoever captured it, which is the one in which it is small
    family = np.minimum(family.astype(np.uint32), family.astype(np.uint32).byteswap())
    kind = np.where(np.isin(family, _FAMILIES_IPV6), headers.ETHERTYPE_IPV6, _NONE)
    rows.kind[here] = np.where(family == 2, headers.ETHERTYPE_IPV4, kind)


def _ppp(rows: _Rows, here: np.ndarray) -> None:
    here, first = rows.head(here, _U2, move=False)
    cisco = np.isin(first, (0x0F00, 0x8F00))
    _chdlc(rows, here[cisco])
    rows.at[here[first == 0xFF03]] += 2
    here, first = rows.head(here[~cisco], _U1, move=False)
    short = (first & 1).astype(bool)  # protocol field compressed to one byte
    for part, layout in ((here[short], _U1), (here[~short], _U2)):
        part, protocol = rows.head(part, layout)
        rows.kind[part] = _ppp_kind(protocol)


def _ppp_kind(protocol: np.ndarray) -> np.ndarray:
    kind = np.full(len(protocol), _NONE, np.int32)
    for number, ethertype in _PPP_TO_ETHERTYPE.items():
        kind[protocol == number] = ethertype
    return kind


_chdlc = _typed(headers.CHDLC)

_LINKS: dict[int, Callable[[_Rows, np.ndarray], None]] = {
    headers.LINKTYPE_ETHERNET: _typed(headers.ETHERNET),
    headers.LINKTYPE_SLL: _typed(headers.SLL),
    headers.LINKTYPE_SLL2: _typed(headers.SLL2),
    headers.LINKTYPE_NULL: _loopback,
    headers.LINKTYPE_LOOP: _loopback,
    headers.LINKTYPE_RAW: _raw,
    12: _raw,  # DLT_RAW itself, where it was written unmapped
    14: _raw,  # the same on OpenBSD
    headers.LINKTYPE_IPV4: _always(headers.ETHERTYPE_IPV4),
    headers.LINKTYPE_IPV6: _always(headers.ETHERTYPE_IPV6),
    headers.LINKTYPE_PPP: _ppp,
    headers.LINKTYPE_PPP_HDLC: _ppp,
    headers.LINKTYPE_CHDLC: _chdlc,
}


# -- tags between link layer and IP ------------------------------------------------------------


def _tags(rows: _Rows) -> None:
    """Follow VLAN tags, SNAP, PPPoE and MPLS to IP; what ends elsewhere is not IP."""
    rows.kind[(rows.kind > _NONE) & (rows.kind < 0x600)] = _LLC
    done = (headers.ETHERTYPE_IPV4, headers.ETHERTYPE_IPV6)
    for _ in range(MAX_LAYERS):
        todo = np.flatnonzero((rows.reason == OK) & (rows.kind != done[0]) & (rows.kind != done[1]))
        if not todo.size:
            return
        kind = rows.kind[todo]
        rows.kind[todo] = _NONE
        for number, layer in _TAGS.items():
            here = todo[kind == number]
            if here.size:
                layer(rows, here)
        rows.reason[todo[(rows.kind[todo] == _NONE) & (rows.reason[todo] == OK)]] = NOT_IP
    rows.reason[(rows.reason == OK) & (rows.kind != done[0]) & (rows.kind != done[1])] = NOT_IP


def _vlan(rows: _Rows, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.VLAN)
    number = (head["tci"] & 0xFFF).astype(np.int32)
    before = rows.vlan[here]
    inner = np.where(before < 4096, before + 4096 * number, before)
    # number 0 only carries a priority: it names no VLAN
    rows.vlan[here] = np.where(number == 0, before, np.where(before < 0, number, inner))
    kind = head["type"].astype(np.int32)
    rows.kind[here] = np.where(kind < 0x600, _LLC, kind)


def _snap(rows: _Rows, here: np.ndarray) -> None:
    at = rows.at[here]
    here = here[at + headers.SNAP.itemsize <= rows.end[here]]
    head = take(rows.data, rows.at[here], headers.SNAP)
    snap = (head["llc"] == np.void(b"\xaa\xaa\x03")) & (head["oui"] == np.void(b"\0\0\0")) & (head["type"] >= 0x600)
    rows.at[here[snap]] += headers.SNAP.itemsize
    rows.kind[here[snap]] = head["type"][snap]


def _pppoe(rows: _Rows, here: np.ndarray) -> None:
    here, head = rows.head(here, headers.PPPOE)
    rows.kind[here] = _ppp_kind(head["protocol"])


def _mpls(rows: _Rows, here: np.ndarray) -> None:
    here, label = rows.head(here, _U4)
    bottom = (label & 0x100).astype(bool)
    rows.kind[here[~bottom]] = headers.ETHERTYPE_MPLS
    # nothing names what follows the last label: its first four bits do, unless it is no IP
    _raw(rows, here[bottom])


_TAGS: dict[int, Callable[[_Rows, np.ndarray], None]] = {
    _LLC: _snap,
    headers.ETHERTYPE_VLAN: _vlan,
    headers.ETHERTYPE_QINQ: _vlan,
    headers.ETHERTYPE_QINQ_OLD: _vlan,
    headers.ETHERTYPE_PPPOE: _pppoe,
    headers.ETHERTYPE_MPLS: _mpls,
    headers.ETHERTYPE_MPLS_MULTICAST: _mpls,
}


# -- IP and transport --------------------------------------------------------------------------


def _ipv4(rows: _Rows) -> None:
    here, head = rows.head(rows.going(headers.ETHERTYPE_IPV4), headers.IPV4, move=False)
    at = rows.at[here]
    header = (head["version_ihl"] & 15).astype(np.int64) * 4
    length = head["length"].astype(np.int64)
    # a length of 0 is left to the network card (segmentation offload): take what was on the wire
    rows.notes["IP length 0 (offload)"] += int((length == 0).sum())
    length = np.where(length == 0, rows.wire_end[here] - at, length)
    rows.reason[here[at + header > rows.end[here]]] = CUT
    rows.reason[here[(head["version_ihl"] >> 4 != 4) | (header < 20) | (length < header)]] = BAD_IP
    rows.version[here] = 4
    rows.size[here] = length
    rows.protocol[here] = head["protocol"]
    rows.src_low[here] = head["src"]
    rows.dst_low[here] = head["dst"]
    place = head["fragment"]
    # offset, and the bit that says that more follow
    kind = np.where(place & 0x1FFF, LATER_FRAGMENT, np.where(place & 0x2000, FIRST_FRAGMENT, WHOLE))
    rows.fragment[here] = kind
    rows.fragment_id[here] = np.where(kind == WHOLE, 0, head["id"])
    rows.at[here] = at + header
    rows.end[here] = np.minimum(rows.end[here], at + length)  # what follows is padding


def _ipv6(rows: _Rows) -> None:
    here, head = rows.head(rows.going(headers.ETHERTYPE_IPV6), headers.IPV6)
    at = rows.at[here]
    length = head["length"].astype(np.int64)
    # a jumbogram (RFC 2675), or left to the network card
    unknown = (length == 0) & np.isin(head["next"], _OFFLOADED)
    rows.notes["IP length 0 (offload)"] += int(unknown.sum())
    length = np.where(unknown, rows.wire_end[here] - at, length)
    rows.reason[here[head["version_class_flow"] >> 28 != 6]] = BAD_IP
    rows.version[here] = 6
    rows.size[here] = length + headers.IPV6.itemsize
    rows.protocol[here] = head["next"]
    for side in ("src", "dst"):
        words = np.ascontiguousarray(head[side]).view(">u8").reshape(-1, 2)
        getattr(rows, f"{side}_high")[here] = words[:, 0]
        getattr(rows, f"{side}_low")[here] = words[:, 1]
    rows.end[here] = np.minimum(rows.end[here], at + length)
    for _ in range(MAX_LAYERS):
        here = here[(rows.reason[here] == OK) & np.isin(rows.protocol[here], _EXTENSIONS) & ~(rows.fragment[here] == LATER_FRAGMENT)]
        if not here.size:
            return
        at = rows.at[here]
        here, head = rows.head(here, headers.IPV6_EXTENSION, move=False)
        kind = rows.protocol[here]
        units = head["length"].astype(np.int64)
        step = np.where(kind == headers.PROTOCOL_AH, (units + 2) * 4, (units + 1) * 8)
        fragment = kind == headers.PROTOCOL_FRAGMENT
        place = head["fragment"]
        found = np.where(place >> 3, LATER_FRAGMENT, np.where(place & 1, FIRST_FRAGMENT, WHOLE))
        rows.fragment[here] = np.where(fragment, found, rows.fragment[here])
        rows.fragment_id[here] = np.where(fragment & (found != WHOLE), head["id"], rows.fragment_id[here])
        rows.at[here] += np.where(fragment, 8, step)
        rows.protocol[here] = head["next"]
        rows.reason[here[rows.at[here] > rows.end[here]]] = CUT
    rows.reason[here[np.isin(rows.protocol[here], _EXTENSIONS) & ~(rows.fragment[here] == LATER_FRAGMENT)]] = BAD_IP


def _transport(rows: _Rows) -> None:
    alive = rows.reason == OK
    whole = rows.fragment != LATER_FRAGMENT
    rows.notes["later fragments"] += int((alive & ~whole).sum())
    ported = (rows.protocol == headers.PROTOCOL_TCP) | (rows.protocol == headers.PROTOCOL_UDP)
    later = alive & ~whole & ported
    rows.src_port[later] = rows.dst_port[later] = -1
    alive &= whole
    here, head = rows.head(np.flatnonzero(alive & ported), headers.PORTS, move=False)
    rows.src_port[here] = head["src_port"]
    rows.dst_port[here] = head["dst_port"]

    udp = here[rows.protocol[here] == headers.PROTOCOL_UDP]
    rows.payload_at[udp] = rows.at[udp] + headers.UDP.itemsize
    rows.payload_length[udp] = np.maximum(rows.end[udp] - rows.payload_at[udp], 0)

    here = here[rows.protocol[here] == headers.PROTOCOL_TCP]
    whole = rows.at[here] + headers.TCP_START.itemsize <= rows.end[here]
    rows.notes["TCP without its flags"] += int((~whole).sum())
    here = here[whole]
    head = take(rows.data, rows.at[here], headers.TCP_START)
    rows.flags[here] = head["flags"]
    rows.seq[here] = head["seq"]
    rows.payload_at[here] = rows.at[here] + (head["offset"] >> 4).astype(np.int64) * 4
    rows.payload_length[here] = np.maximum(rows.end[here] - rows.payload_at[here], 0)

    v4 = (rows.protocol == headers.PROTOCOL_ICMP) & (rows.version == 4)
    v6 = (rows.protocol == headers.PROTOCOL_ICMPV6) & (rows.version == 6)
    here = np.flatnonzero(alive & (v4 | v6))
    here = here[rows.at[here] + headers.ICMP.itemsize <= rows.end[here]]
    head = take(rows.data, rows.at[here], headers.ICMP)
    echo = np.isin(head["type"], (0, 8)) & v4[here] | np.isin(head["type"], (128, 129)) & v6[here]
    rows.src_port[here[echo]] = rows.dst_port[here[echo]] = head["id"][echo]
