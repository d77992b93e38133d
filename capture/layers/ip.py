"""IP and transport headers, and the packets inside tunnels."""

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
from netgen.capture.layers.fingerprint import fingerprint, transport_words
from netgen.capture.layers.links import walk_link_layers
from netgen.capture.native.packets import parse_headers

#: IPv6 extension headers in a packet, at most.
MAX_EXTENSIONS = 8

_EXTENSIONS = protocol_mask(
    headers.PROTOCOL_HOP_BY_HOP,
    headers.PROTOCOL_ROUTING,
    headers.PROTOCOL_FRAGMENT,
    headers.PROTOCOL_AH,
    headers.PROTOCOL_DESTINATION,
)
#: What an IPv6 packet may carry that leaves its length to the network card.
_OFFLOADED = protocol_mask(headers.PROTOCOL_HOP_BY_HOP, headers.PROTOCOL_TCP, headers.PROTOCOL_UDP)


def read_ip(cursor: Cursor, *, levels: int = 0) -> HeaderColumns:
    """Read the IP and transport headers of all rows, and enter so many levels of tunnels.

    Bad rows get a `reason`, which makes their columns meaningless; rows replaced by a packet inside them get its
    `vlan`.
    """
    columns = HeaderColumns.empty(len(cursor))
    captured = cursor.end - cursor.at
    parsed, _ = parse_headers(cursor.data, cursor.at, captured, cursor.kind, columns.columns())
    others = np.flatnonzero(~parsed)
    if others.size:
        subset = cursor.take(others)
        start = subset.at.copy()
        sub_columns = read_stepwise(subset)
        if levels:
            _decapsulate(subset, sub_columns, start, levels)
        _assign(cursor, columns, others, subset, sub_columns)
    tunnelled = np.flatnonzero(parsed & tunnels.has_tunnel_port(columns)) if levels else others[:0]
    if tunnelled.size:
        subset, sub_columns = cursor.take(tunnelled), columns.take(tunnelled)
        start = subset.at
        subset.end = np.minimum(subset.end, start + sub_columns.size)
        subset.at = sub_columns.payload_at - headers.UDP.itemsize
        _decapsulate(subset, sub_columns, start, levels)
        _assign(cursor, columns, tunnelled, subset, sub_columns)
    return columns


def _assign(
    cursor: Cursor, columns: HeaderColumns, rows: np.ndarray, subset: Cursor, sub_columns: HeaderColumns
) -> None:
    """Write the results of some rows, read on their own, back to the whole."""
    columns.assign(rows, sub_columns)
    cursor.reason[rows], cursor.vlan[rows] = subset.reason, subset.vlan
    cursor.notes += subset.notes


def _decapsulate(cursor: Cursor, columns: HeaderColumns, start: np.ndarray, levels: int) -> None:
    """Replace packets by those inside; rows are behind their IP header, which began at `start`."""
    cursor.wire_end = np.minimum(cursor.wire_end, start + columns.size)
    for name, rows, inside in tunnels.open_tunnels(cursor, columns):
        walk_link_layers(inside)
        is_ip = np.flatnonzero(inside.reason == OK)
        inside = inside.take(is_ip)
        room = inside.wire_end - inside.at
        inside_columns = read_ip(inside, levels=levels - 1)
        # a packet that claims to be longer than the one around it is not a packet
        good = np.flatnonzero((inside.reason == OK) & (inside_columns.size <= room))
        replaced = rows[is_ip[good]]
        columns.assign(replaced, inside_columns.take(good))
        cursor.vlan[replaced] = inside.vlan[good]
        cursor.notes += inside.notes
        cursor.notes[f"inside {name}"] += len(good)
        cursor.notes[f"{name} without an IP packet inside"] += len(rows) - len(good)


def read_stepwise(cursor: Cursor) -> HeaderColumns:
    """Read the headers of any packets, one header after the other, without entering tunnels.

    Afterwards rows without a `reason` are behind their IP header, and end where IP does.
    """
    columns = HeaderColumns.zeros(len(cursor))
    identification = np.zeros(len(cursor), np.uint32)
    _read_ipv4(cursor, columns, identification)
    _read_ipv6(cursor, columns, identification)
    _read_transport(cursor, columns)
    has_transport = (cursor.reason == OK) & (columns.fragment != LATER_FRAGMENT)
    words = transport_words(cursor.data, cursor.at, np.where(has_transport, cursor.end, 0), columns.protocol)
    columns.fingerprint = fingerprint(identification, words, columns.protocol, columns.size)
    return columns


def _read_ipv4(cursor: Cursor, columns: HeaderColumns, identification: np.ndarray) -> None:
    rows = np.flatnonzero(cursor.kind == headers.ETHERTYPE_IPV4)
    rows, header = cursor.read_header(rows, headers.IPV4, advance=False)
    at = cursor.at[rows]
    header_size = (header["version_ihl"] & 15).astype(np.int64) * 4
    # a length of 0 is left to the network card (segmentation offload): take the bytes on the wire
    offloaded = header["length"] == 0
    length = np.where(offloaded, cursor.wire_end[rows] - at, header["length"])
    cursor.reason[rows[at + header_size > cursor.end[rows]]] = CUT
    bad = (header["version_ihl"] >> 4 != 4) | (header_size < headers.IPV4.itemsize) | (length < header_size)
    cursor.reason[rows[bad]] = BAD_IP
    _note_offload(cursor, rows[offloaded])
    columns.version[rows] = 4
    columns.size[rows] = length
    columns.protocol[rows] = header["protocol"]
    columns.src_low[rows] = header["src"]
    columns.dst_low[rows] = header["dst"]
    # offset, and the bit that says that more fragments follow
    field = header["fragment"].astype(np.uint32)
    fragment = np.where(field & 0x1FFF, LATER_FRAGMENT, np.where(field & 0x2000, FIRST_FRAGMENT, UNFRAGMENTED))
    columns.fragment[rows] = fragment
    columns.fragment_id[rows] = np.where(fragment == UNFRAGMENTED, 0, header["id"])
    identification[rows] = header["id"] | (field & 0x1FFF) << np.uint32(16)
    cursor.at[rows] = at + header_size
    cursor.end[rows] = np.minimum(cursor.end[rows], at + length)  # padding follows


def _read_ipv6(cursor: Cursor, columns: HeaderColumns, identification: np.ndarray) -> None:
    rows, header = cursor.read_header(np.flatnonzero(cursor.kind == headers.ETHERTYPE_IPV6), headers.IPV6)
    at = cursor.at[rows]
    # a jumbogram (RFC 2675), or left to the network card
    offloaded = (header["length"] == 0) & _OFFLOADED[header["next"]]
    length = np.where(offloaded, cursor.wire_end[rows] - at, header["length"])
    cursor.reason[rows[header["version_class_flow"] >> 28 != 6]] = BAD_IP
    _note_offload(cursor, rows[offloaded])
    columns.version[rows] = 6
    columns.size[rows] = length + headers.IPV6.itemsize
    columns.protocol[rows] = header["next"]
    for side in ("src", "dst"):
        halves = np.ascontiguousarray(header[side]).view(">u8").reshape(-1, 2)
        getattr(columns, f"{side}_high")[rows], getattr(columns, f"{side}_low")[rows] = halves.T
    cursor.end[rows] = np.minimum(cursor.end[rows], at + length)
    for _ in range(MAX_EXTENSIONS):
        rows = rows[_has_extension(cursor, columns, rows)]
        if not rows.size:
            return
        rows, header = cursor.read_header(rows, headers.IPV6_EXTENSION, advance=False)
        kind, units = columns.protocol[rows], header["length"].astype(np.int64)
        size = np.where(kind == headers.PROTOCOL_AH, (units + 2) * 4, (units + 1) * 8)
        is_fragment, offset = kind == headers.PROTOCOL_FRAGMENT, header["fragment"] >> 3
        fragment = np.where(offset, LATER_FRAGMENT, np.where(header["fragment"] & 1, FIRST_FRAGMENT, UNFRAGMENTED))
        numbered = rows[is_fragment & (fragment != UNFRAGMENTED)]
        columns.fragment[rows[is_fragment]] = fragment[is_fragment]
        columns.fragment_id[numbered] = header["id"][is_fragment & (fragment != UNFRAGMENTED)]
        identification[rows[is_fragment]] = (header["id"] ^ offset)[is_fragment]
        cursor.at[rows] += np.where(is_fragment, 8, size)
        columns.protocol[rows] = header["next"]
        cursor.reason[rows[cursor.at[rows] > cursor.end[rows]]] = CUT
    cursor.reason[rows[_has_extension(cursor, columns, rows)]] = BAD_IP


def _note_offload(cursor: Cursor, rows: np.ndarray) -> None:
    cursor.notes["IP length 0 (offload)"] += int(np.count_nonzero(cursor.reason[rows] == OK))


def _has_extension(cursor: Cursor, columns: HeaderColumns, rows: np.ndarray) -> np.ndarray:
    """Return which of some rows are at an IPv6 extension header."""
    is_extension = _EXTENSIONS[columns.protocol[rows]] & (columns.fragment[rows] != LATER_FRAGMENT)
    return is_extension & (cursor.reason[rows] == OK)


def _read_transport(cursor: Cursor, columns: HeaderColumns) -> None:
    good = cursor.reason == OK
    is_later = columns.fragment == LATER_FRAGMENT
    cursor.notes["later fragments"] += int((good & is_later).sum())
    columns.src_port[is_later] = columns.dst_port[is_later] = -1
    good &= ~is_later
    rows = np.flatnonzero(good & headers.HAS_PORTS[columns.protocol])
    rows, header = cursor.read_header(rows, headers.PORTS, advance=False)
    columns.src_port[rows], columns.dst_port[rows] = header["src_port"], header["dst_port"]
    protocol = columns.protocol[rows]
    udp = rows[protocol == headers.PROTOCOL_UDP]
    _set_payload(cursor, columns, udp, cursor.at[udp] + headers.UDP.itemsize)
    _read_tcp(cursor, columns, rows[protocol == headers.PROTOCOL_TCP])
    # ICMP counts in IPv4 only, ICMPv6 in IPv6 only
    is_v4 = columns.version == 4
    is_icmp = columns.protocol == np.where(is_v4, headers.PROTOCOL_ICMP, headers.PROTOCOL_ICMPV6)
    rows = np.flatnonzero(good & is_icmp & (cursor.at + headers.ICMP.itemsize <= cursor.end))
    header = gather(cursor.data, cursor.at[rows], headers.ICMP)
    is_echo = np.where(is_v4[rows], (header["type"] & 0xF7) == 0, (header["type"] & 0xFE) == 128)
    echo = rows[is_echo]
    columns.src_port[echo] = columns.dst_port[echo] = header["id"][is_echo]


def _read_tcp(cursor: Cursor, columns: HeaderColumns, rows: np.ndarray) -> None:
    complete = cursor.at[rows] + headers.TCP_START.itemsize <= cursor.end[rows]
    cursor.notes["TCP without its flags"] += int((~complete).sum())
    rows = rows[complete]
    header = gather(cursor.data, cursor.at[rows], headers.TCP_START)
    columns.flags[rows], columns.seq[rows] = header["flags"], header["seq"]
    _set_payload(cursor, columns, rows, cursor.at[rows] + (header["offset"] >> 4).astype(np.int64) * 4)


def _set_payload(cursor: Cursor, columns: HeaderColumns, rows: np.ndarray, at: np.ndarray) -> None:
    columns.payload_at[rows] = at
    columns.payload_length[rows] = np.maximum(cursor.end[rows] - at, 0)
