"""Later fragments of IP datagrams, joined to the flow of their first fragment.

Only the first fragment has ports (``docs/flows.md``, rule 3). A later one that comes before it waits
for it. Fragments are rare, so they are processed one by one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict
from typing import Any

import numpy as np

from netgen.capture.flows.packet_batch import FRAGMENT, KEY, PacketBatch
from netgen.capture.layers.dissect import FIRST_FRAGMENT
from netgen.capture.series.spec import NS

#: Longest time between fragments of a datagram (RFC 791's timer has 15 s, Linux 30 s).
MAX_DISTANCE_NS = 30 * NS

#: Most datagrams that are remembered, and most packets that wait.
MAX_REMEMBERED = 65_536

_Datagram = tuple[int, ...]


@dataclasses.dataclass(slots=True, eq=False)
class _WaitingPacket:
    """A later fragment whose first one has not come yet."""

    time_ns: int
    size: int
    fingerprint: int
    key: bytes
    forward: bool


class FragmentReassembler:
    """Assigns the fragments of one capture to flows, batch by batch."""

    def __init__(self) -> None:
        self._first: OrderedDict[_Datagram, tuple[int, bytes, bool]] = OrderedDict()  # time, key and direction
        self._waiting: OrderedDict[_Datagram, list[_WaitingPacket]] = OrderedDict()
        self._waiting_count = 0

    def join(self, batch: PacketBatch) -> PacketBatch:
        """Give each later fragment the key of its first.

        Packets without a first fragment are taken out and wait. Those that waited for one in this batch are inserted
        after it.
        """
        if not len(batch.fragments):
            return batch
        keys = _KeyTable(batch.keys)
        rows = batch.fragments["row"]
        key_of_row = dict(zip(rows.tolist(), batch.key[rows].tolist(), strict=True))
        new_key, forward = batch.key.copy(), batch.forward.copy()
        taken_out = list[int]()
        inserted = list[tuple[int, list[_WaitingPacket]]]()  # packets, and the row that they come after
        for row, kind, version, protocol, *rest in batch.fragments.tolist():
            # the identification of IPv6 belongs to the two hosts, and only the first fragment has the protocol for sure
            datagram: _Datagram = (version, protocol if version == 4 else 0, *rest)
            time_ns = int(batch.time_ns[row])
            own = keys.key(key_of_row[row])
            if kind == FIRST_FRAGMENT:
                released = self._add_first(datagram, time_ns, own, bool(forward[row]))
                if released:
                    inserted.append((row, released))
                continue
            first = self._first.get(datagram)
            if first is not None and abs(first[0] - time_ns) <= MAX_DISTANCE_NS:
                new_key[row] = keys.row(first[1])
                forward[row] = first[2]
                continue
            size, fingerprint = int(batch.size[row]), int(batch.fingerprint[row])
            packet = _WaitingPacket(time_ns, size, fingerprint, own, bool(forward[row]))
            self._waiting.setdefault(datagram, []).append(packet)
            self._waiting_count += 1
            taken_out.append(row)
            if self._waiting_count > MAX_REMEMBERED:
                _, oldest = self._waiting.popitem(last=False)
                self._waiting_count -= len(oldest)
                inserted.append((row, oldest))
        batch = dataclasses.replace(batch, key=new_key, forward=forward, keys=keys.all())
        return _rearrange(batch, taken_out, inserted) if taken_out or inserted else batch

    def _add_first(self, datagram: _Datagram, time_ns: int, key: bytes, forward: bool) -> list[_WaitingPacket]:
        """Remember a first fragment. Return the packets that waited for it, with its key unless too far apart."""
        self._first[datagram] = (time_ns, key, forward)
        self._first.move_to_end(datagram)
        if len(self._first) > MAX_REMEMBERED:
            self._first.popitem(last=False)
        released = self._waiting.pop(datagram, [])
        self._waiting_count -= len(released)
        for packet in released:
            if abs(packet.time_ns - time_ns) <= MAX_DISTANCE_NS:
                packet.key, packet.forward = key, forward
        return released

    def rest(self, number: int) -> PacketBatch:
        """Return, after the last packet (`number`), the fragments without a first one, which have no ports."""
        packets = [packet for waiting in self._waiting.values() for packet in waiting]
        self._waiting.clear()
        keys: dict[bytes, int] = {}
        key = [keys.setdefault(packet.key, len(keys)) for packet in packets]
        return PacketBatch(
            records=0,
            number=np.full(len(packets), number, np.int64),
            **_columns(packets),
            key=np.array(key, np.int32),
            keys=np.frombuffer(b"".join(keys), KEY),
            syn=np.zeros(0, np.int64),
            syn_seq=np.zeros(0, np.uint32),
            fragments=np.zeros(0, FRAGMENT),
            names=[],
            skipped=Counter(),
            notes=Counter(),
        )


def _columns(packets: list[_WaitingPacket]) -> dict[str, Any]:
    return {
        "time_ns": np.array([packet.time_ns for packet in packets], np.int64),
        "size": np.array([packet.size for packet in packets], np.uint32),
        "flags": np.zeros(len(packets), np.uint8),
        "fingerprint": np.array([packet.fingerprint for packet in packets], np.uint32),
        "forward": np.array([packet.forward for packet in packets], bool),
    }


def _rearrange(
    batch: PacketBatch, taken_out: list[int], inserted: list[tuple[int, list[_WaitingPacket]]]
) -> PacketBatch:
    """Take rows out of a batch, and insert packets after others."""
    keys = _KeyTable(batch.keys)
    packets = [packet for _, waiting in inserted for packet in waiting]
    position = np.array([row + 1 for row, waiting in inserted for _ in waiting], np.int64)
    added = {
        "number": batch.number[position - 1],  # as if they came with their first fragment
        "key": np.array([keys.row(packet.key) for packet in packets], np.int32),
        **_columns(packets),
    }
    keep = np.ones(len(batch), bool)
    keep[taken_out] = False
    # positions count the rows before any is taken out, so insert first
    keep = np.insert(keep, position, True)
    columns: dict[str, Any] = {
        name: np.insert(getattr(batch, name), position, values)[keep] for name, values in added.items()
    }
    old_rows = np.flatnonzero(np.insert(np.ones(len(batch), bool), position, False))
    syn = (np.cumsum(keep) - 1)[old_rows[batch.syn]]
    return dataclasses.replace(batch, syn=syn, keys=keys.all(), **columns)


class _KeyTable:
    """The keys of a batch, to which others can be added. Few are ever looked up, so no index is built."""

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys
        self._words = np.ascontiguousarray(keys).view(np.uint64).reshape(len(keys), -1)
        self._rows: dict[bytes, int] = {}
        self._added: list[bytes] = []

    def key(self, row: int) -> bytes:
        """Return a key of the batch."""
        key: bytes = self._keys[row].tobytes()
        self._rows[key] = row
        return key

    def row(self, key: bytes) -> int:
        """Return the row of a key, and add the key if it is new."""
        if key not in self._rows:
            same = np.flatnonzero((self._words == np.frombuffer(key, np.uint64)).all(axis=1))
            if not same.size:
                self._added.append(key)
            self._rows[key] = int(same[0]) if same.size else len(self._keys) + len(self._added) - 1
        return self._rows[key]

    def all(self) -> np.ndarray:
        """Return the keys of the batch, and the added ones after them."""
        return np.concatenate([self._keys, np.frombuffer(b"".join(self._added), KEY)])
