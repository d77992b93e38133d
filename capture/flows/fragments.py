"""Later fragments of IP datagrams, joined to the flow of the first.

Only the first fragment has ports (``docs/flows.md``, rule 3). A later one that comes before it is
held back until it does; fragments are rare, so they are handled one by one.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, OrderedDict

import numpy as np

from netgen.capture.flows.batch import FRAGMENT, PacketBatch
from netgen.capture.flows.keys import KEY
from netgen.capture.layers.dissect import FIRST_FRAGMENT
from netgen.capture.series.spec import NS

#: Parts of a datagram lie no further apart in time (RFC 791's timer has 15 s, Linux 30 s).
TOGETHER_NS = 30 * NS

#: Datagrams remembered, and packets held back, at most.
REMEMBERED = 65_536

_Datagram = tuple[int, ...]


@dataclasses.dataclass(slots=True, eq=False)
class _Packet:
    """A later fragment whose first one is not there yet."""

    time_ns: int
    size: int
    fingerprint: int
    key: bytes
    forward: bool


class FragmentReassembler:
    """Joins fragments of one capture, part by part."""

    def __init__(self) -> None:
        self._first: OrderedDict[_Datagram, tuple[int, bytes, bool]] = OrderedDict()
        self._held: OrderedDict[_Datagram, list[_Packet]] = OrderedDict()
        self._waiting = 0

    def join(self, part: PacketBatch) -> PacketBatch:
        """The part with each later fragment in the flow of its first.

        What has no first fragment yet is taken out; what was taken out before, and has one now, is put
        in behind it.
        """
        if not len(part.fragments):
            return part
        keys = _Table(part.keys)
        key_of = dict(zip(part.fragments["row"].tolist(), part.key[part.fragments["row"]].tolist(), strict=True))
        new_key = part.key.copy()
        forward = part.forward.copy()
        out = list[int]()  # rows that wait
        behind = list[tuple[int, list[_Packet]]]()
        for fragment in part.fragments.tolist():
            row, kind, version, protocol, *rest = fragment
            # in IPv6 the identification is of the two ends, and only the first part names the protocol for sure
            datagram: _Datagram = (version, protocol if version == 4 else 0, *rest)
            time_ns = int(part.time_ns[row])
            if kind == FIRST_FRAGMENT:
                own = keys.key(key_of[row])
                self._first[datagram] = (time_ns, own, bool(forward[row]))
                self._first.move_to_end(datagram)
                if len(self._first) > REMEMBERED:
                    self._first.popitem(last=False)
                held = self._held.pop(datagram, [])
                self._waiting -= len(held)
                for each in held:
                    if abs(each.time_ns - time_ns) <= TOGETHER_NS:
                        each.key, each.forward = own, bool(forward[row])
                if held:
                    behind.append((row, held))
                continue
            first = self._first.get(datagram)
            if first is not None and abs(first[0] - time_ns) <= TOGETHER_NS:
                new_key[row] = keys.row(first[1])
                forward[row] = first[2]
                continue
            own = keys.key(key_of[row])
            packet = _Packet(time_ns, int(part.size[row]), int(part.fingerprint[row]), own, bool(forward[row]))
            self._held.setdefault(datagram, []).append(packet)
            self._waiting += 1
            out.append(row)
            if self._waiting > REMEMBERED:
                _, oldest = self._held.popitem(last=False)
                self._waiting -= len(oldest)
                behind.append((row, oldest))
        part = dataclasses.replace(part, key=new_key, forward=forward, keys=keys.all())
        return self._moved(part, out, behind) if out or behind else part

    def rest(self, number: int) -> PacketBatch:
        """Fragments whose first never came, at the end of the capture; they keep their ports unknown.

        `number` is that of the capture's last packet.
        """
        held = [packet for packets in self._held.values() for packet in packets]
        self._held.clear()
        return _part(held, number)

    def _moved(self, part: PacketBatch, out: list[int], behind: list[tuple[int, list[_Packet]]]) -> PacketBatch:
        keys = _Table(part.keys)
        rows = np.array([row + 1 for row, packets in behind for _ in packets], np.int64)
        packets = [packet for _, each in behind for packet in each]
        added = {
            "number": part.number[rows - 1],  # as if they came with their first fragment
            "time_ns": [each.time_ns for each in packets],
            "size": [each.size for each in packets],
            "flags": [0] * len(packets),
            "fingerprint": [each.fingerprint for each in packets],
            "key": [keys.row(each.key) for each in packets],
            "forward": [each.forward for each in packets],
        }
        keep = np.ones(len(part), bool)
        keep[out] = False
        columns = {}
        for name, values in added.items():
            column = getattr(part, name)
            # rows to put in before are counted in the old numbering, so put in first, then take out
            columns[name] = np.insert(column, rows, np.asarray(values, column.dtype))[np.insert(keep, rows, True)]
        place = np.cumsum(np.insert(keep, rows, True)) - 1
        old = np.flatnonzero(np.insert(np.ones(len(keep), bool), rows, False))
        return dataclasses.replace(part, syn=place[old[part.syn]], keys=keys.all(), **columns)


class _Table:
    """The keys of a part, and more of them where they are asked for; few are ever looked at."""

    def __init__(self, keys: np.ndarray) -> None:
        self._keys = keys
        self._words = np.ascontiguousarray(keys).view(np.uint64).reshape(len(keys), -1)
        self._row: dict[bytes, int] = {}
        self._more: list[bytes] = []

    def key(self, row: int) -> bytes:
        """The key of a row of the part's own keys."""
        key = self._keys[row].tobytes()
        self._row[key] = row
        return key

    def row(self, key: bytes) -> int:
        """The row of a key, which is a new one where there is none."""
        found = self._row.get(key)
        if found is None:
            same = np.flatnonzero((self._words == np.frombuffer(key, np.uint64)).all(axis=1))
            if not same.size:
                self._more.append(key)
            found = self._row[key] = int(same[0]) if same.size else len(self._keys) + len(self._more) - 1
        return found

    def all(self) -> np.ndarray:
        """The part's own keys, and the new ones."""
        return np.concatenate([self._keys, np.frombuffer(b"".join(self._more), KEY)])


def _part(packets: list[_Packet], number: int) -> PacketBatch:
    keys: dict[bytes, int] = {}
    return PacketBatch(
        records=0,
        number=np.full(len(packets), number, np.int64),
        time_ns=np.array([each.time_ns for each in packets], np.int64),
        size=np.array([each.size for each in packets], np.uint32),
        flags=np.zeros(len(packets), np.uint8),
        fingerprint=np.array([each.fingerprint for each in packets], np.uint32),
        key=np.array([keys.setdefault(each.key, len(keys)) for each in packets], np.int32),
        forward=np.array([each.forward for each in packets], bool),
        keys=np.frombuffer(b"".join(keys), KEY),
        syn=np.zeros(0, np.int64),
        syn_seq=np.zeros(0, np.uint32),
        fragments=np.zeros(0, FRAGMENT),
        names=[],
        skipped=Counter(),
        notes=Counter(),
    )
