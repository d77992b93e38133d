"""Packets to flows: grouped, ordered in time, split where a flow ends, and given a direction.

A flow is a bidirectional 5-tuple, with VLAN, ended by an idle timeout or, in TCP, by a new SYN
after a FIN or RST; the ACKs that trail a FIN stay with the flow they close. Its initiator is who
sent the SYN, or who a SYN-ACK answers, or else who sent the first packet.
"""

from __future__ import annotations

import dataclasses
import socket
from collections import Counter

import numpy as np
import pyarrow as pa

from capture import headers
from capture.dissect import Packets
from capture.errors import InputError
from capture.series import NS

IDLE_TIMEOUT_NS = 120 * NS
BY = ("flow", "host", "capture")

#: What tells two flows apart, ends in canonical order: the smaller address and port is `a`.
_KEY = np.dtype(
    [
        ("a_high", "u8"),
        ("a_low", "u8"),
        ("b_high", "u8"),
        ("b_low", "u8"),
        ("a_port", "<i4"),
        ("b_port", "<i4"),
        ("vlan", "<i4"),
        ("version", "u1"),
        ("protocol", "u1"),
    ]
)


@dataclasses.dataclass(frozen=True)
class Flows:
    """Flows, hosts or whole captures of one file, and the packets in them.

    Parameters
    ----------
    flow : ndarray of int64, shape (packets,)
        Row of the flow each packet belongs to; packets in order of flow and time.
    offset_ns : ndarray of int64, shape (packets,)
        Time since the flow's first packet.
    size : ndarray of int64, shape (packets,)
        IP bytes.
    up : ndarray of bool, shape (packets,)
        True for packets from the initiator of their flow.
    start_ns, duration_ns, packets, bytes : ndarray of int64, shape (flows,)
        Totals.
    columns : dict of str to list, each of length flows
        ``protocol, src, src_port, dst, dst_port, vlan, name`` as in the flow table; None: not known
        or not the same for all of the row.
    """

    flow: np.ndarray
    offset_ns: np.ndarray
    size: np.ndarray
    up: np.ndarray
    start_ns: np.ndarray
    duration_ns: np.ndarray
    packets: np.ndarray
    bytes: np.ndarray
    columns: dict[str, list[int | str | None]]

    def __len__(self) -> int:
        return len(self.start_ns)

    def keep(self, rows: np.ndarray) -> Flows:
        """The flows of a boolean mask, numbered anew, with their packets."""
        if rows.all():
            return self
        inside = rows[self.flow]
        number = np.cumsum(rows) - 1
        return Flows(
            flow=number[self.flow[inside]],
            offset_ns=self.offset_ns[inside],
            size=self.size[inside],
            up=self.up[inside],
            start_ns=self.start_ns[rows],
            duration_ns=self.duration_ns[rows],
            packets=self.packets[rows],
            bytes=self.bytes[rows],
            columns={
                name: [value for value, kept in zip(values, rows.tolist(), strict=True) if kept]
                for name, values in self.columns.items()
            },
        )


class Assembler:
    """Collects the packets of one capture file, then makes its flows.

    Parameters
    ----------
    idle_timeout_ns : int
        A flow that is silent for longer has ended.
    by : {"flow", "host", "capture"}
        One row a flow, one an initiating address, or one for the whole file.

    Attributes
    ----------
    notes : Counter
        ``"time runs backwards"``: packets stamped earlier than the one before them in the file.
    """

    def __init__(self, *, idle_timeout_ns: int = IDLE_TIMEOUT_NS, by: str = "flow") -> None:
        if by not in BY:
            raise InputError(f"flows cannot be made by {by!r}", f"Choose one of {', '.join(BY)}")
        if idle_timeout_ns <= 0:
            raise InputError(f"an idle timeout of {idle_timeout_ns} ns cannot be used", "Take one such as 120s")
        self.by = by
        self.idle_timeout_ns = idle_timeout_ns
        self.notes: Counter[str] = Counter()
        self._keys: dict[bytes, int] = {}
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._names: list[tuple[int, str]] = []
        self._count = 0
        self._last_ns: int | None = None

    def add(self, packets: Packets, names: dict[int, str] | None = None) -> None:
        """Take a chunk's packets, in the file's order.

        Parameters
        ----------
        packets : Packets
            As `capture.dissect.dissect` gives them.
        names : dict of int to str, optional
            TLS server names, by the row of `packets` that asks for them.
        """
        if not len(packets):
            return
        backwards = int((np.diff(packets.time_ns) < 0).sum())
        if self._last_ns is not None:
            backwards += int(packets.time_ns[0] < self._last_ns)
        self._last_ns = int(packets.time_ns[-1])
        self.notes["time runs backwards"] += backwards
        key, forward = _keys(packets)
        coded = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(_KEY.itemsize), len(key), [None, pa.py_buffer(key)]
        ).dictionary_encode()
        # a key's number is its place among the keys of the whole file
        known = self._keys
        number = np.array([known.setdefault(each, len(known)) for each in coded.dictionary.to_pylist()], np.int64)
        self._parts.append(
            (
                number[coded.indices.to_numpy()],
                forward,
                packets.time_ns,
                packets.size.astype(np.int64),
                packets.flags,
            )
        )
        self._names += [(self._count + row, name) for row, name in (names or {}).items()]
        self._count += len(packets)

    def finish(self) -> Flows:
        """The flows of all packets taken, numbered by the time of their first packet."""
        if not self._parts:
            empty = np.zeros(0, np.int64)
            return Flows(empty, empty, empty, empty.astype(bool), empty, empty, empty, empty, {n: [] for n in _COLUMNS})
        key, forward, time_ns, size, flags = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        self._parts.clear()
        order = np.lexsort((time_ns, key))  # stable: equal times stay in the file's order
        key, forward, time_ns, size, flags = (column[order] for column in (key, forward, time_ns, size, flags))
        first = _first_packets(key, time_ns, flags, self.idle_timeout_ns)
        flow = np.cumsum(first) - 1
        at = np.flatnonzero(first)
        initiator = _initiators(flow, forward, flags, at)
        up = forward == initiator[flow]
        names = self._flow_names(order, flow, up)

        unique = np.frombuffer(b"".join(self._keys), _KEY)
        by_start = np.lexsort((order[at], time_ns[at]))
        rank = np.empty(len(at), np.int64)
        rank[by_start] = np.arange(len(at))
        flow, at, initiator = rank[flow], at[by_start], initiator[by_start]
        names = {int(rank[old]): name for old, name in names.items()}
        columns = _columns(unique[key[at]], initiator, names)
        if self.by == "flow":
            group = np.arange(len(at))
        elif self.by == "capture":
            group, columns = np.zeros(len(at), np.int64), _merge_names(columns, flow, size, np.zeros(len(at), np.int64))
        else:
            hosts: dict[int | str | None, int] = {}
            group = np.array([hosts.setdefault(src, len(hosts)) for src in columns["src"]], np.int64)
            columns = {**_merge_names(columns, flow, size, group), "src": list(hosts)}
        return _totals(group[flow], time_ns, size, up, columns)

    def _flow_names(self, order: np.ndarray, flow: np.ndarray, up: np.ndarray) -> dict[int, str]:
        """The first server name asked for by the initiator, by flow."""
        if not self._names:
            return {}
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        found: dict[int, str] = {}
        for row, name in sorted((int(place[row]), name) for row, name in self._names):
            if up[row]:
                found.setdefault(int(flow[row]), name)
        return found


_COLUMNS = ("protocol", "src", "src_port", "dst", "dst_port", "vlan", "name")


def _keys(packets: Packets) -> tuple[np.ndarray, np.ndarray]:
    """Key of each packet's flow, and whether the packet goes from its end `a` to its end `b`."""
    p = packets
    later = (p.src_low > p.dst_low) | ((p.src_low == p.dst_low) & (p.src_port > p.dst_port))
    swap = (p.src_high > p.dst_high) | ((p.src_high == p.dst_high) & later)
    key = np.empty(len(p), _KEY)
    for field in ("high", "low", "port"):
        src, dst = getattr(p, f"src_{field}"), getattr(p, f"dst_{field}")
        key[f"a_{field}"] = np.where(swap, dst, src)
        key[f"b_{field}"] = np.where(swap, src, dst)
    key["vlan"], key["version"], key["protocol"] = p.vlan, p.version, p.protocol
    return key, ~swap


def _first_packets(key: np.ndarray, time_ns: np.ndarray, flags: np.ndarray, idle_ns: int) -> np.ndarray:
    """Which packets begin a flow, of packets in order of key and time."""
    first = np.ones(len(key), bool)
    first[1:] = (key[1:] != key[:-1]) | (np.diff(time_ns) > idle_ns)
    syn = (flags & (headers.TCP_SYN | headers.TCP_ACK)) == headers.TCP_SYN
    if not syn.any():
        return first
    closing = (flags & (headers.TCP_FIN | headers.TCP_RST)) != 0
    closed = np.cumsum(closing) - closing  # FINs and RSTs before each packet
    # a SYN begins a flow if one came since the SYN before it, or since the flow's first packet
    marks = np.flatnonzero(syn | first)
    since = np.zeros(len(marks), np.int64)
    since[1:] = closed[marks[1:]] - closed[marks[:-1]]
    first[marks[syn[marks] & (since > 0)]] = True
    return first


def _initiators(flow: np.ndarray, forward: np.ndarray, flags: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Whether each flow's initiator is its end `a`."""
    initiator: np.ndarray = forward[at].copy()
    handshake = flags & (headers.TCP_SYN | headers.TCP_ACK)
    for kind, reverse in ((headers.TCP_SYN | headers.TCP_ACK, True), (headers.TCP_SYN, False)):
        rows = np.flatnonzero(handshake == kind)[::-1]  # backwards: the first one is written last
        initiator[flow[rows]] = forward[rows] ^ reverse
    return initiator


def _columns(key: np.ndarray, initiator: np.ndarray, names: dict[int, str]) -> dict[str, list[int | str | None]]:
    """Columns of the flow table that tell who talked to whom."""
    ends = [_addresses(key[f"{end}_high"], key[f"{end}_low"], key["version"]) for end in "ab"]
    from_a = initiator.tolist()
    src_port = np.where(initiator, key["a_port"], key["b_port"]).tolist()
    dst_port = np.where(initiator, key["b_port"], key["a_port"]).tolist()
    return {
        "protocol": key["protocol"].tolist(),
        "src": [a if up else b for a, b, up in zip(*ends, from_a, strict=True)],
        "src_port": [None if port < 0 else port for port in src_port],
        "dst": [b if up else a for a, b, up in zip(*ends, from_a, strict=True)],
        "dst_port": [None if port < 0 else port for port in dst_port],
        "vlan": [None if vlan < 0 else vlan & 0xFFF for vlan in key["vlan"].tolist()],
        "name": [names.get(row) for row in range(len(key))],
    }


def _addresses(high: np.ndarray, low: np.ndarray, version: np.ndarray) -> list[str]:
    """Addresses as text, each distinct one converted once."""
    text: dict[tuple[int, int, int], str] = {}
    keys = list(zip(high.tolist(), low.tolist(), version.tolist(), strict=True))
    for each in set(keys):
        if each[2] == 4:
            text[each] = socket.inet_ntop(socket.AF_INET, each[1].to_bytes(4, "big"))
        else:
            text[each] = socket.inet_ntop(socket.AF_INET6, (each[0] << 64 | each[1]).to_bytes(16, "big"))
    return [text[each] for each in keys]


def _merge_names(
    columns: dict[str, list[int | str | None]], flow: np.ndarray, size: np.ndarray, group: np.ndarray
) -> dict[str, list[int | str | None]]:
    """Columns of rows made of several flows: only what all agree on, and the name with the most bytes."""
    groups = int(group.max()) + 1
    volume = np.bincount(flow, weights=size, minlength=len(group)).tolist()
    heard: list[Counter[int | str]] = [Counter() for _ in range(groups)]
    protocols: list[set[int | str | None]] = [set() for _ in range(groups)]
    for row, name, protocol, each in zip(group.tolist(), columns["name"], columns["protocol"], volume, strict=True):
        protocols[row].add(protocol)
        if name is not None:
            heard[row][name] += each
    merged: dict[str, list[int | str | None]] = {name: [None] * groups for name in _COLUMNS}
    merged["protocol"] = [next(iter(each)) if len(each) == 1 else None for each in protocols]
    merged["name"] = [each.most_common(1)[0][0] if each else None for each in heard]
    return merged


def _totals(
    flow: np.ndarray, time_ns: np.ndarray, size: np.ndarray, up: np.ndarray, columns: dict[str, list[int | str | None]]
) -> Flows:
    """Packets brought into order of row and time, and their totals."""
    order = np.lexsort((time_ns, flow))
    flow, time_ns, size, up = flow[order], time_ns[order], size[order], up[order]
    count = np.bincount(flow)
    last = np.cumsum(count) - 1
    start = time_ns[last - count + 1]
    return Flows(
        flow=flow,
        offset_ns=time_ns - start[flow],
        size=size,
        up=up,
        start_ns=start,
        duration_ns=time_ns[last] - start,
        packets=count.astype(np.int64),
        bytes=np.add.reduceat(size, last - count + 1),
        columns=columns,
    )
