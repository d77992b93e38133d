"""Records to packets: link layer, IP and transport headers as columns, a chunk at a time.

Link layers and tags are followed to IP (`netgen.capture.layers.links`); there the headers of the usual packets are
read at once (`netgen.capture.native.packets.parse_headers`) and the others step by step (`netgen.capture.layers.ip`). Each record is either
in the columns or in the account, with the reason why not.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from netgen.capture.formats.records import RecordBatch
from netgen.capture.headers import LINKTYPE_ETHERNET
from netgen.capture.layers.cursor import (
    FIRST_FRAGMENT,
    HEADER_COLUMNS,
    LATER_FRAGMENT,
    OK,
    REASONS,
    UNFRAGMENTED,
    Cursor,
    HeaderColumns,
)
from netgen.capture.layers.ip import internet
from netgen.capture.layers.links import walk
from netgen.capture.layers.tunnels import MAX_TUNNELS
from netgen.capture.native import packets as native_packets

__all__ = ["FIRST_FRAGMENT", "LATER_FRAGMENT", "UNFRAGMENTED", "PacketColumns", "dissect"]

#: IP bytes above which a packet was put together by the network card (offload).
MTU = 1500


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PacketColumns:
    """The IP packets of a chunk as columns, each of shape (packets,); some may be the chunk's own.

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
        Ports of TCP, UDP, UDP-Lite, SCTP and DCCP; the id of an ICMP echo, twice; -1 for a later
        fragment, else 0.
    payload_at, payload_length : ndarray of int64
        Where in the chunk's data the payload of TCP or UDP is, and how much of it was captured.
    seq : ndarray of uint32
        TCP sequence number (0 where there is none).
    fragment : ndarray of uint8
        `UNFRAGMENTED`, `FIRST_FRAGMENT` or `LATER_FRAGMENT`.
    fragment_id : ndarray of uint32
        IP identification of a fragment, else 0.
    fingerprint : ndarray of uint32
        The same for two records of one packet, whatever became of its link layer and TTL between
        them; mostly not for two packets of a flow. 0 where a packet has nothing to be told by.
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
    fingerprint: np.ndarray
    skipped: Counter[str]
    notes: Counter[str]

    def __len__(self) -> int:
        return len(self.number)


def dissect(chunk: RecordBatch, *, decapsulate: bool = False) -> PacketColumns:
    """The IP packets among a chunk's records, and why the others are none.

    Parameters
    ----------
    chunk : Chunk
        Records as `netgen.capture.formats.reader.CaptureFile.chunks` yields them.
    inner : bool
        Whether the packet inside a tunnel (IP in IP, GRE, VXLAN, Geneve, GTP-U, Teredo; up to four in
        each other) takes the place of the one around it. `PacketColumns.notes` counts them, and those whose
        inside is cut or no IP, which stay as they are.

    Returns
    -------
    Packets
        One row a packet; ``len(packets) + packets.skipped.total() == len(chunk)``.
    """
    found = None if decapsulate else _common(chunk)
    if found is None:
        found = _any(Cursor.of(chunk), MAX_TUNNELS if decapsulate else 0)
    keep, fields = found.keep, found.fields
    found.notes["over 1500 bytes (offload)"] += int(np.count_nonzero(fields.size > MTU))
    return PacketColumns(
        number=chunk.number if keep is None else chunk.number.take(keep),
        time_ns=chunk.time_ns if keep is None else chunk.time_ns.take(keep),
        vlan=found.vlan,
        skipped=found.skipped,
        notes=+found.notes,
        **{name: getattr(fields, name) for name in HEADER_COLUMNS},
    )


@dataclasses.dataclass(slots=True, eq=False)
class _Found:
    """Those of some rows that are packets (None: all), what they say, and what became of the others."""

    keep: np.ndarray | None
    fields: HeaderColumns
    vlan: np.ndarray
    skipped: Counter[str]
    notes: Counter[str]


def _common(chunk: RecordBatch) -> _Found | None:
    """What compiled code finds at once where nearly all is plain packets on Ethernet; None: it is not the way to go."""
    if not len(chunk) or (chunk.linktype != LINKTYPE_ETHERNET).any():
        return None
    fields = HeaderColumns.empty(len(chunk))
    done, count = native_packets.parse_headers(chunk.data, chunk.offset, chunk.captured, None, fields.columns())
    vlan = np.full(len(chunk), -1, np.int32)
    if count == len(chunk):
        return _Found(None, fields, vlan, Counter(), Counter())
    others = np.flatnonzero(~done)
    found = _any(Cursor.of(chunk).some(others), 0)
    kept = others if found.keep is None else others[found.keep]
    fields.put(kept, found.fields)
    vlan[kept], done[kept] = found.vlan, True
    if not found.skipped:
        return dataclasses.replace(found, keep=None, fields=fields, vlan=vlan)
    *columns, vlan = native_packets.compact_columns([*fields.columns(), vlan], done)
    fields = HeaderColumns(**dict(zip(HEADER_COLUMNS, columns, strict=True)))
    return dataclasses.replace(found, keep=np.flatnonzero(done), fields=fields, vlan=vlan)


def _any(rows: Cursor, levels: int) -> _Found:
    """What is found step by step, whatever the link layers, with so many tunnels inside each other entered."""
    walk(rows)
    skipped = _skipped(rows)
    keep = np.flatnonzero(rows.reason == OK) if skipped else None
    ip = rows if keep is None else rows.some(keep)
    fields = internet(ip, levels=levels)
    vlan = ip.vlan
    bad = _skipped(ip)
    if bad:
        good = np.flatnonzero(ip.reason == OK)
        fields, vlan = fields.some(good), vlan.take(good)
        keep = good if keep is None else keep[good]
    notes = rows.notes if ip is rows else rows.notes + ip.notes
    return _Found(keep, fields, vlan, skipped + bad, notes)


def _skipped(rows: Cursor) -> Counter[str]:
    """Rows that are no IP packet, by reason."""
    skipped: Counter[str] = Counter()
    if rows.reason.any():
        for number, count in rows.unread.items():
            skipped[f"link type {number} is not read"] += count
        count_of = np.bincount(rows.reason).tolist()
        for reason, text in REASONS.items():
            if reason < len(count_of) and count_of[reason]:
                skipped[text] += count_of[reason]
    return skipped
