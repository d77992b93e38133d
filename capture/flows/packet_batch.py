"""Packets of a segment of a capture, reduced to what flows are made of, and the keys of their flows."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from netgen.capture.factorize import factorize, group_rows
from netgen.capture.headers import layout
from netgen.capture.layers.dissect import PacketColumns
from netgen.capture.names.finder import ServerName
from netgen.capture.native.packets import ipv4_keys

#: The key of a flow, the same in both directions: end `a` has the smaller address and port.
KEY = layout(
    "a_high u8, a_low u8, b_high u8, b_low u8, a_port <i4, b_port <i4, vlan <i4, "
    "zero u2, version u1, protocol u1"  # `zero` fills up six words
)

#: A fragment of a datagram: its row, which fragment, and what the datagram's other fragments share.
FRAGMENT = layout(
    "row <i8, kind u1, version u1, protocol u1, id <u4, src_high u8, src_low u8, dst_high u8, dst_low u8, vlan <i4"
)

# in the keys of `ipv4_keys`, an end has 17 bits of port + 1, and the last word 8 bits of protocol
_PORT_BITS, _PORT_MASK = np.uint64(17), np.uint64((1 << 17) - 1)
_PROTOCOL_BITS, _PROTOCOL_MASK = np.uint64(8), np.uint64(0xFF)


@dataclasses.dataclass(eq=False)
class PacketBatch:
    """IP packets of a segment of a capture, in the file's order; shape (packets,) where not given."""

    records: int  # records read, IP or not
    number: np.ndarray  # int64: packet number, from 1 at the start of the segment
    time_ns: np.ndarray  # int64: nanoseconds since 1970
    size: np.ndarray  # uint32: IP bytes
    flags: np.ndarray  # uint8: TCP flags
    fingerprint: np.ndarray  # uint32: equal for repeats of a packet; 0: unknown
    key: np.ndarray  # int32: row of `keys`
    forward: np.ndarray  # bool: whether the packet goes from end `a` of its key to end `b`
    keys: np.ndarray  # the distinct keys, of `KEY`
    syn: np.ndarray  # int64, shape (SYNs,): rows of SYNs without ACK
    syn_seq: np.ndarray  # uint32: and their sequence numbers
    fragments: np.ndarray  # of `FRAGMENT`: rows that are fragments of datagrams
    names: list[ServerName]  # server names in these packets; one that begins here may end in a later packet
    skipped: Counter[str]  # records that are not IP packets, by reason
    notes: Counter[str]  # oddities that lost nothing

    def __len__(self) -> int:
        return len(self.number)


class FlowKeys:
    """The keys of packets, added some packets at a time."""

    def __init__(self) -> None:
        self._count = 0
        self._ipv4: list[np.ndarray] = []
        self._others: list[tuple[np.ndarray, np.ndarray]] = []  # rows and keys

    def add(self, packets: PacketColumns) -> np.ndarray:
        """Add the next packets. Return whether each goes from end `a` of its key to end `b`."""
        p = packets
        ipv4, forward = ipv4_keys(p.src_low, p.src_port, p.dst_low, p.dst_port, p.vlan, p.protocol, p.version)
        self._ipv4.append(ipv4)
        others = np.flatnonzero(p.version != 4)
        if others.size:
            keys, forward[others] = canonical_keys(p, others)
            self._others.append((others + self._count, keys))
        self._count += len(p)
        return forward

    def factorize(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the index of each packet's key, int32, shape (packets,), and the distinct keys, of `KEY`."""
        if not self._count:
            return np.zeros(0, np.int32), np.zeros(0, KEY)
        words = self._ipv4[0] if len(self._ipv4) == 1 else np.concatenate(self._ipv4)
        ipv4_key, first = group_rows(words.view("V24").ravel())
        keys = np.zeros(len(first), KEY)
        a, b, rest = words[first].T
        for end, word in (("a", a), ("b", b)):
            keys[f"{end}_low"] = word >> _PORT_BITS
            keys[f"{end}_port"] = (word & _PORT_MASK).astype(np.int64) - 1
        keys["vlan"] = (rest >> _PROTOCOL_BITS).astype(np.int64) - 1
        keys["protocol"] = rest & _PROTOCOL_MASK
        keys["version"] = 4
        if not self._others:
            return ipv4_key, keys
        rows, others = (np.concatenate(column) for column in zip(*self._others, strict=True))
        key = np.empty(self._count, np.int32)
        is_ipv4 = np.ones(self._count, bool)
        is_ipv4[rows] = False
        key[is_ipv4] = ipv4_key
        other_key, distinct = factorize(others)
        key[rows] = other_key + np.int32(len(keys))
        return key, np.concatenate([keys, distinct])


def canonical_keys(packets: PacketColumns, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys of some packets of any IP version, and whether each goes from its end `a` to its end `b`."""
    names = ("src_high", "src_low", "src_port", "dst_high", "dst_low", "dst_port", "vlan", "version", "protocol")
    p = {name: getattr(packets, name).take(rows) for name in names}
    same_low = p["src_low"] == p["dst_low"]
    swap = (p["src_low"] > p["dst_low"]) | same_low & (p["src_port"] > p["dst_port"])
    swap = (p["src_high"] > p["dst_high"]) | (p["src_high"] == p["dst_high"]) & swap
    key = np.zeros(len(rows), KEY)
    for field in ("high", "low", "port"):
        src, dst = p[f"src_{field}"], p[f"dst_{field}"]
        key[f"a_{field}"] = np.where(swap, dst, src)
        key[f"b_{field}"] = np.where(swap, src, dst)
    for name in ("vlan", "version", "protocol"):
        key[name] = p[name]
    return key, ~swap
