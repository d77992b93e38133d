"""Records to packets: link layer, IP and transport headers as columns, a batch of records at a time.

netgen follows link layers and tags to IP (`netgen.capture.layers.links`). It parses the headers of usual
packets at once (`netgen.capture.native.packets.parse_headers`), the others step by step
(`netgen.capture.layers.ip`). Each record becomes a packet or is counted with the reason why not.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from netgen.capture.formats.records import RecordBatch
from netgen.capture.headers import LINKTYPE_ETHERNET
from netgen.capture.layers.cursor import (
    FIRST_FRAGMENT,
    LATER_FRAGMENT,
    OK,
    REASONS,
    UNFRAGMENTED,
    Cursor,
    HeaderColumns,
)
from netgen.capture.layers.ip import read_ip
from netgen.capture.layers.links import walk_link_layers
from netgen.capture.layers.tunnels import MAX_TUNNELS
from netgen.capture.native import packets as native_packets
from netgen.capture.native.layouts import HEADER_FIELDS

__all__ = ["FIRST_FRAGMENT", "LATER_FRAGMENT", "UNFRAGMENTED", "PacketColumns", "dissect"]

#: IP bytes above which the network card put a packet together (offload).
MTU = 1500


@dataclasses.dataclass(slots=True, eq=False)
class PacketColumns(HeaderColumns):
    """The IP packets of a batch as columns, each of shape (packets,); some may be the batch's own."""

    number: np.ndarray  # int64: packet number in the file
    time_ns: np.ndarray  # int64: nanoseconds since 1970
    vlan: np.ndarray  # int32: outer VLAN plus 4096 times the inner one, -1 for none
    skipped: Counter[str]  # records that are not such a packet, by reason
    notes: Counter[str]  # oddities that lost nothing

    def __len__(self) -> int:
        return len(self.number)


def dissect(batch: RecordBatch, *, decapsulate: bool = False) -> PacketColumns:
    """Find the IP packets among a batch of records; ``len(packets) + packets.skipped.total() == len(batch)``.

    With `decapsulate`, the packet inside a tunnel is taken in place of the one around it (IP in IP, GRE, VXLAN, Geneve,
    GTP-U, Teredo; up to four levels). `PacketColumns.notes` counts these packets, and tunnels without a complete IP
    packet inside, which stay as they are.
    """
    if decapsulate or not len(batch) or (batch.linktype != LINKTYPE_ETHERNET).any():
        kept, columns, vlan, skipped, notes = _read(Cursor.of(batch), MAX_TUNNELS if decapsulate else 0)
    else:
        kept, columns, vlan, skipped, notes = _read_ethernet(batch)
    notes["over 1500 bytes (offload)"] += int(np.count_nonzero(columns.size > MTU))
    return PacketColumns(
        **{name: getattr(columns, name) for name in HEADER_FIELDS},
        number=batch.number if kept is None else batch.number.take(kept),
        time_ns=batch.time_ns if kept is None else batch.time_ns.take(kept),
        vlan=vlan,
        skipped=skipped,
        notes=+notes,
    )


#: Rows that are packets (None: all), their columns and VLANs; reasons of the others, and notes.
_Result = tuple[np.ndarray | None, HeaderColumns, np.ndarray, Counter[str], Counter[str]]


def _read_ethernet(batch: RecordBatch) -> _Result:
    """Parse usual packets at once, and read the others step by step."""
    columns = HeaderColumns.empty(len(batch))
    parsed, count = native_packets.parse_headers(batch.data, batch.offset, batch.captured, None, columns.columns())
    vlan = np.full(len(batch), -1, np.int32)
    if count == len(batch):
        return None, columns, vlan, Counter(), Counter()
    others = np.flatnonzero(~parsed)
    kept, other_columns, other_vlan, skipped, notes = _read(Cursor.of(batch, others), 0)
    rows = others if kept is None else others[kept]
    columns.assign(rows, other_columns)
    vlan[rows], parsed[rows] = other_vlan, True
    if not skipped:
        return None, columns, vlan, skipped, notes
    *compact, vlan = native_packets.compact_columns([*columns.columns(), vlan], parsed)
    return np.flatnonzero(parsed), HeaderColumns(*compact), vlan, skipped, notes


def _read(cursor: Cursor, levels: int) -> _Result:
    """Read headers step by step, behind any link layer, with so many levels of tunnels."""
    walk_link_layers(cursor)
    skipped = _skipped(cursor)
    kept = np.flatnonzero(cursor.reason == OK) if skipped else None
    ip = cursor if kept is None else cursor.take(kept)
    columns = read_ip(ip, levels=levels)
    vlan = ip.vlan
    bad = _skipped(ip)
    if bad:
        good = np.flatnonzero(ip.reason == OK)
        columns, vlan = columns.take(good), vlan.take(good)
        kept = good if kept is None else kept[good]
    return kept, columns, vlan, skipped + bad, cursor.notes if ip is cursor else cursor.notes + ip.notes


def _skipped(cursor: Cursor) -> Counter[str]:
    """Count the rows that are not IP packets by reason."""
    counts = dict(enumerate(np.bincount(cursor.reason).tolist()))
    skipped = Counter({f"link type {number} is not read": count for number, count in cursor.unread.items()})
    return +(skipped + Counter({text: counts.get(reason, 0) for reason, text in REASONS.items()}))
