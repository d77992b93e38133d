"""IP and its transport: what the headers of each packet say, and what is inside a tunnel."""

from __future__ import annotations

import numpy as np

from netgen.capture import headers
from netgen.capture.headers import gather, protocol_mask
from netgen.capture.layers import tunnels
from netgen.capture.layers.cursor import (
    BAD_IP,
    CUT,
    FIRST_FRAGMENT,
    LATER_FRAGMENT,
    OK,
    UNFRAGMENTED,
    Cursor,
    HeaderColumns,
)
from netgen.capture.layers.fingerprint import WORDS, fingerprint, transport_words
from netgen.capture.layers.links import walk
from netgen.capture.native.packets import parse_headers

#: IPv6 extension headers followed before giving up.
MAX_EXTENSIONS = 8

# extension headers of IPv6; what may be inside a packet whose length is left to the network card
_EXTENSIONS = protocol_mask(
    headers.PROTOCOL_HOP_BY_HOP,
    headers.PROTOCOL_ROUTING,
    headers.PROTOCOL_FRAGMENT,
    headers.PROTOCOL_AH,
    headers.PROTOCOL_DESTINATION,
)
_OFFLOADED = protocol_mask(headers.PROTOCOL_HOP_BY_HOP, headers.PROTOCOL_TCP, headers.PROTOCOL_UDP)


def internet(rows: Cursor, *, levels: int = 0) -> HeaderColumns:
    """What IP and transport say at each of some rows.

    Parameters
    ----------
    rows : Rows
        Each at a header of IP. Those that are no good get their `reason`, those replaced by a packet
        inside another its `vlan`.
    levels : int
        Tunnels inside each other that are entered.

    Returns
    -------
    Fields
        Columns of shape (rows,), of no meaning for rows with a `reason`.
    """
    fields = HeaderColumns.empty(len(rows))
    done, _ = parse_headers(rows.data, rows.at, rows.end - rows.at, rows.kind, fields.columns())
    rest = np.flatnonzero(~done)
    if rest.size:
        part = rows.some(rest)
        start = part.at.copy()
        found = stepwise(part)
        if levels:
            _enter(part, found, start, levels)
        _put(rows, fields, rest, part, found)
    tunnelled = np.flatnonzero(done & tunnels.by_port(fields)) if levels else rest[:0]
    if tunnelled.size:
        part, found = rows.some(tunnelled), fields.some(tunnelled)
        start = part.at
        part.end = np.minimum(part.end, start + found.size)
        part.at = found.payload_at - headers.UDP.itemsize
        _enter(part, found, start, levels)
        _put(rows, fields, tunnelled, part, found)
    return fields


def _put(rows: Cursor, fields: HeaderColumns, here: np.ndarray, part: Cursor, found: HeaderColumns) -> None:
    """Put what was found at some rows, taken apart on their own, back among the others."""
    fields.put(here, found)
    rows.reason[here], rows.vlan[here] = part.reason, part.vlan
    rows.notes += part.notes


def _enter(rows: Cursor, fields: HeaderColumns, start: np.ndarray, levels: int) -> None:
    """Replace packets by those inside them; they stand at what IP carries, and their IP headers at `start`."""
    rows.wire_end = np.minimum(rows.wire_end, start + fields.size)
    for name, here, inside in tunnels.inside(rows, fields):
        walk(inside)
        ip = np.flatnonzero(inside.reason == OK)
        inside = inside.some(ip)
        room = inside.wire_end - inside.at
        found = internet(inside, levels=levels - 1)
        # a packet that claims to be longer than what is around it is none
        good = np.flatnonzero((inside.reason == OK) & (found.size <= room))
        replaced = here[ip[good]]
        fields.put(replaced, found.some(good))
        rows.vlan[replaced] = inside.vlan[good]
        rows.notes += inside.notes
        rows.notes[f"inside {name}"] += len(good)
        rows.notes[f"{name} without an IP packet inside"] += len(here) - len(good)


def stepwise(rows: Cursor) -> HeaderColumns:
    """The same as `internet`, for any packet, header by header; tunnels are not entered.

    Afterwards rows without a `reason` stand at what IP carries, and end where it does.
    """
    fields = HeaderColumns.zeros(len(rows))
    identification = np.zeros(len(rows), np.uint32)
    _ipv4(rows, fields, identification)
    _ipv6(rows, fields, identification)
    _transport(rows, fields)
    there = np.flatnonzero((rows.reason == OK) & (fields.fragment != LATER_FRAGMENT))
    words = np.zeros((WORDS, len(rows)), np.uint32)
    words[:, there] = transport_words(rows.data, rows.at[there], rows.end[there], fields.protocol[there])
    fields.fingerprint = fingerprint(identification, list(words), fields.protocol, fields.size)
    return fields


def _ipv4(rows: Cursor, fields: HeaderColumns, identification: np.ndarray) -> None:
    here, head = rows.head(np.flatnonzero(rows.kind == headers.ETHERTYPE_IPV4), headers.IPV4, move=False)
    at = rows.at[here]
    header = (head["version_ihl"] & 15).astype(np.int64) * 4
    length = head["length"].astype(np.int64)
    # a length of 0 is left to the network card (segmentation offload): take what was on the wire
    unknown = length == 0
    if unknown.any():
        length = np.where(unknown, rows.wire_end[here] - at, length)
    rows.reason[here[at + header > rows.end[here]]] = CUT
    rows.reason[here[(head["version_ihl"] >> 4 != 4) | (header < headers.IPV4.itemsize) | (length < header)]] = BAD_IP
    rows.notes["IP length 0 (offload)"] += int(np.count_nonzero(unknown & (rows.reason[here] == OK)))
    fields.version[here] = 4
    fields.size[here] = length
    fields.protocol[here] = head["protocol"]
    fields.src_low[here] = head["src"]
    fields.dst_low[here] = head["dst"]
    place = head["fragment"].astype(np.uint32)
    # offset, and the bit that says that more follow
    kind = np.where(place & 0x1FFF, LATER_FRAGMENT, np.where(place & 0x2000, FIRST_FRAGMENT, UNFRAGMENTED))
    fields.fragment[here] = kind
    fields.fragment_id[here] = np.where(kind == UNFRAGMENTED, 0, head["id"])
    identification[here] = head["id"] | (place & 0x1FFF) << np.uint32(16)
    rows.at[here] = at + header
    rows.end[here] = np.minimum(rows.end[here], at + length)  # what follows is padding


def _ipv6(rows: Cursor, fields: HeaderColumns, identification: np.ndarray) -> None:
    here, head = rows.head(np.flatnonzero(rows.kind == headers.ETHERTYPE_IPV6), headers.IPV6)
    if not here.size:
        return
    at = rows.at[here]
    length = head["length"].astype(np.int64)
    # a jumbogram (RFC 2675), or left to the network card
    unknown = (length == 0) & _OFFLOADED[head["next"]]
    if unknown.any():
        length = np.where(unknown, rows.wire_end[here] - at, length)
    rows.reason[here[head["version_class_flow"] >> 28 != 6]] = BAD_IP
    rows.notes["IP length 0 (offload)"] += int(np.count_nonzero(unknown & (rows.reason[here] == OK)))
    fields.version[here] = 6
    fields.size[here] = length + headers.IPV6.itemsize
    fields.protocol[here] = head["next"]
    for side in ("src", "dst"):
        high, low = np.ascontiguousarray(head[side]).view(">u8").reshape(-1, 2).T
        getattr(fields, f"{side}_high")[here] = high
        getattr(fields, f"{side}_low")[here] = low
    rows.end[here] = np.minimum(rows.end[here], at + length)
    for _ in range(MAX_EXTENSIONS):
        here = here[_extended(rows, fields, here)]
        if not here.size:
            return
        here, head = rows.head(here, headers.IPV6_EXTENSION, move=False)
        kind = fields.protocol[here]
        units = head["length"].astype(np.int64)
        step = np.where(kind == headers.PROTOCOL_AH, (units + 2) * 4, (units + 1) * 8)
        fragment = kind == headers.PROTOCOL_FRAGMENT
        place = head["fragment"]
        found = np.where(place >> 3, LATER_FRAGMENT, np.where(place & 1, FIRST_FRAGMENT, UNFRAGMENTED))
        fields.fragment[here] = np.where(fragment, found, fields.fragment[here])
        fields.fragment_id[here] = np.where(fragment & (found != UNFRAGMENTED), head["id"], fields.fragment_id[here])
        identification[here] = np.where(fragment, head["id"] ^ (place >> 3), identification[here])
        rows.at[here] += np.where(fragment, 8, step)
        fields.protocol[here] = head["next"]
        rows.reason[here[rows.at[here] > rows.end[here]]] = CUT
    rows.reason[here[_extended(rows, fields, here)]] = BAD_IP


def _extended(rows: Cursor, fields: HeaderColumns, here: np.ndarray) -> np.ndarray:
    """At which of some rows an extension header of IPv6 is next."""
    more = _EXTENSIONS[fields.protocol[here]] & (fields.fragment[here] != LATER_FRAGMENT)
    found: np.ndarray = more & (rows.reason[here] == OK)
    return found


def _transport(rows: Cursor, fields: HeaderColumns) -> None:
    good = rows.reason == OK
    later = fields.fragment == LATER_FRAGMENT
    ported = headers.HAS_PORTS[fields.protocol]
    if later.any():
        rows.notes["later fragments"] += int((good & later).sum())
        fields.src_port[later] = fields.dst_port[later] = -1
        good &= ~later
    here, head = rows.head(np.flatnonzero(good & ported), headers.PORTS, move=False)
    if here.size:
        fields.src_port[here] = head["src_port"]
        fields.dst_port[here] = head["dst_port"]
        protocol = fields.protocol[here]
        _udp(rows, fields, here[protocol == headers.PROTOCOL_UDP])
        _tcp(rows, fields, here[protocol == headers.PROTOCOL_TCP])
    # ICMP counts in IPv4, ICMPv6 in IPv6 only
    v4 = fields.version == 4
    icmp = fields.protocol == np.where(v4, headers.PROTOCOL_ICMP, headers.PROTOCOL_ICMPV6)
    here = np.flatnonzero(good & icmp & (rows.at + headers.ICMP.itemsize <= rows.end))
    if here.size:
        head = gather(rows.data, rows.at[here], headers.ICMP)
        echo = np.where(v4[here], (head["type"] & 0xF7) == 0, (head["type"] & 0xFE) == 128)
        fields.src_port[here[echo]] = fields.dst_port[here[echo]] = head["id"][echo]


def _udp(rows: Cursor, fields: HeaderColumns, here: np.ndarray) -> None:
    at = rows.at[here] + headers.UDP.itemsize
    fields.payload_at[here] = at
    fields.payload_length[here] = np.maximum(rows.end[here] - at, 0)


def _tcp(rows: Cursor, fields: HeaderColumns, here: np.ndarray) -> None:
    whole = rows.at[here] + headers.TCP_START.itemsize <= rows.end[here]
    rows.notes["TCP without its flags"] += int((~whole).sum())
    here = here[whole]
    head = gather(rows.data, rows.at[here], headers.TCP_START)
    fields.flags[here] = head["flags"]
    fields.seq[here] = head["seq"]
    at = rows.at[here] + (head["offset"] >> 4).astype(np.int64) * 4
    fields.payload_at[here] = at
    fields.payload_length[here] = np.maximum(rows.end[here] - at, 0)
