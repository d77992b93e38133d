"""Records to a batch of packets: parse headers, find server names, make the keys of flows, in this order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from netgen.capture import headers
from netgen.capture.flows.packet_batch import FRAGMENT, FlowKeys, PacketBatch
from netgen.capture.formats.records import RecordBatch
from netgen.capture.layers.dissect import UNFRAGMENTED, PacketColumns, dissect
from netgen.capture.names.finder import NameFinder, ServerName

_SYN_AND_ACK = headers.TCP_SYN | headers.TCP_ACK
_MAX_SIZE = 2**31 - 1  # bytes; the highest bit is for the direction

#: Columns of a `PacketBatch` that are joined from those of its record batches.
_COLUMN_TYPES: dict[str, npt.DTypeLike] = {
    "number": np.int64,
    "time_ns": np.int64,
    "size": np.uint32,
    "flags": np.uint8,
    "fingerprint": np.uint32,
    "forward": np.bool_,
    "syn": np.int64,
    "syn_seq": np.uint32,
    "fragments": FRAGMENT,
}


def read_batch(chunks: Iterable[RecordBatch], finder: NameFinder, *, decapsulate: bool = False) -> PacketBatch:
    """Read the packets of records in the file's order; `finder` looks for server names, also across batches.

    With `decapsulate`, the packet inside a tunnel counts instead of the one around it.
    """
    records = packet_count = 0
    skipped, notes = Counter[str](), Counter[str]()
    names = list[ServerName]()
    columns = list[tuple[np.ndarray, ...]]()
    flow_keys = FlowKeys()
    for chunk in chunks:
        packets = dissect(chunk, decapsulate=decapsulate)
        records += len(chunk)
        skipped += packets.skipped
        notes += packets.notes
        names += finder.find(chunk.data, packets)
        columns.append(_columns(packets, flow_keys.add(packets), packet_count))
        packet_count += len(packets)
    if columns:
        joined = columns[0] if len(columns) == 1 else [np.concatenate(column) for column in zip(*columns, strict=True)]
    else:
        joined = [np.zeros(0, kind) for kind in _COLUMN_TYPES.values()]
    named: dict[str, Any] = dict(zip(_COLUMN_TYPES, joined, strict=True))
    key, keys = flow_keys.factorize()
    return PacketBatch(records=records, key=key, keys=keys, names=names, skipped=skipped, notes=notes, **named)


def _columns(packets: PacketColumns, forward: np.ndarray, before: int) -> tuple[np.ndarray, ...]:
    """Return the columns of some packets, with `before` packets before them in the batch."""
    syn = np.flatnonzero((packets.flags & _SYN_AND_ACK) == headers.TCP_SYN)
    rows = np.flatnonzero(packets.fragment != UNFRAGMENTED)
    fragments = np.empty(len(rows), FRAGMENT)
    fragments["row"] = rows + before
    fragments["kind"], fragments["id"] = packets.fragment[rows], packets.fragment_id[rows]
    for name in ("version", "protocol", "src_high", "src_low", "dst_high", "dst_low", "vlan"):
        fragments[name] = getattr(packets, name)[rows]
    size = np.minimum(packets.size, _MAX_SIZE).astype(np.uint32)
    columns = packets.number, packets.time_ns, size, packets.flags, packets.fingerprint, forward
    return *columns, syn + before, packets.seq[syn], fragments
