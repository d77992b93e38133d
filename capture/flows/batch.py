"""Packets of a stretch of a capture, reduced to what flows are made of.

This is what travels from a worker process to the one that assembles: some 25 bytes a packet, each
distinct 5-tuple once, and the rare things (SYNs, fragments, names) beside it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

import numpy as np

from netgen.capture import headers
from netgen.capture.flows.keys import Keys
from netgen.capture.formats.records import RecordBatch
from netgen.capture.layers.dissect import UNFRAGMENTED, PacketColumns, dissect
from netgen.capture.names.finder import NameFinder, ServerName

#: A packet that is part of a datagram: its row, what part, and what its other parts share.
FRAGMENT = np.dtype(
    [
        ("row", "<i8"),
        ("kind", "u1"),
        ("version", "u1"),
        ("protocol", "u1"),
        ("id", "<u4"),
        ("src_high", "u8"),
        ("src_low", "u8"),
        ("dst_high", "u8"),
        ("dst_low", "u8"),
        ("vlan", "<i4"),
    ]
)

_SYN = headers.TCP_SYN | headers.TCP_ACK


@dataclasses.dataclass(eq=False)
class PacketBatch:
    """IP packets of a stretch of a capture, in the file's order.

    Parameters
    ----------
    records : int
        Records read, whether IP or not.
    number : ndarray of int64, shape (packets,)
        Packet number, from 1 at the beginning of the stretch.
    time_ns : ndarray of int64, shape (packets,)
        Nanoseconds since 1970.
    size : ndarray of uint32, shape (packets,)
        IP bytes.
    flags : ndarray of uint8, shape (packets,)
        TCP flags.
    fingerprint : ndarray of uint32, shape (packets,)
        Equal for repeats of a packet; 0: nothing to go by.
    key : ndarray of int32, shape (packets,)
        Row of `keys`.
    forward : ndarray of bool, shape (packets,)
        Whether the packet goes from end `a` of its key to end `b`.
    keys : ndarray of `KEY`
        The distinct keys.
    syn, syn_seq : ndarray of int64 and uint32, shape (SYNs,)
        Rows of SYNs without ACK, and their sequence numbers.
    fragments : ndarray of `FRAGMENT`
        Rows that are parts of datagrams.
    names : list of Name
        Names that became known here, or, as far as they began here, in the packets behind.
    skipped, notes : Counter
        Records that are no IP packet, by reason; oddities that lost nothing.
    """

    records: int
    number: np.ndarray
    time_ns: np.ndarray
    size: np.ndarray
    flags: np.ndarray
    fingerprint: np.ndarray
    key: np.ndarray
    forward: np.ndarray
    keys: np.ndarray
    syn: np.ndarray
    syn_seq: np.ndarray
    fragments: np.ndarray
    names: list[ServerName]
    skipped: Counter[str]
    notes: Counter[str]

    def __len__(self) -> int:
        return len(self.number)


def read_batch(chunks: Iterable[RecordBatch], finder: NameFinder, *, inner: bool = False) -> PacketBatch:
    """The packets of some chunks as one part.

    Parameters
    ----------
    chunks : iterable of Chunk
        In the file's order.
    finder : NameFinder
        Looks for names; what it has begun to see goes on with the next part.
    inner : bool
        Whether the packet inside a tunnel counts in place of the one around it.
    """
    records = 0
    skipped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    names = list[ServerName]()
    columns: list[tuple[np.ndarray, ...]] = []
    keys_seen = Keys()
    before = 0
    for chunk in chunks:
        packets = dissect(chunk, decapsulate=inner)
        records += len(chunk)
        skipped += packets.skipped
        notes += packets.notes
        names += finder.find(chunk.data, packets)
        columns.append(_columns(packets, keys_seen.add(packets), before))
        before += len(packets)
    if columns:
        joined = columns[0] if len(columns) == 1 else [np.concatenate(each) for each in zip(*columns, strict=True)]
    else:
        joined = [np.zeros(0, kind) for kind in _KINDS]
    number, time_ns, size, flags, fingerprint, forward, syn, syn_seq, fragments = joined
    key, keys = keys_seen.coded()
    return PacketBatch(
        records=records,
        number=number,
        time_ns=time_ns,
        size=size,
        flags=flags,
        fingerprint=fingerprint,
        key=key,
        forward=forward,
        keys=keys,
        syn=syn,
        syn_seq=syn_seq,
        fragments=fragments,
        names=names,
        skipped=skipped,
        notes=notes,
    )


_KINDS = (np.int64, np.int64, np.uint32, np.uint8, np.uint32, np.bool_, np.int64, np.uint32, FRAGMENT)


def _columns(packets: PacketColumns, forward: np.ndarray, before: int) -> tuple[np.ndarray, ...]:
    """The columns of a chunk, rows counted from `before`."""
    syn = np.flatnonzero((packets.flags & _SYN) == headers.TCP_SYN)
    size = np.minimum(packets.size, 2**31 - 1).astype(np.uint32)
    return (
        packets.number,
        packets.time_ns,
        size,
        packets.flags,
        packets.fingerprint,
        forward,
        syn + before,
        packets.seq[syn],
        _fragments(packets, before),
    )


def _fragments(packets: PacketColumns, before: int) -> np.ndarray:
    rows = np.flatnonzero(packets.fragment != UNFRAGMENTED)
    out = np.empty(len(rows), FRAGMENT)
    out["row"] = rows + before
    out["kind"], out["id"] = packets.fragment[rows], packets.fragment_id[rows]
    for name in ("version", "protocol", "src_high", "src_low", "dst_high", "dst_low", "vlan"):
        out[name] = getattr(packets, name)[rows]
    return out
