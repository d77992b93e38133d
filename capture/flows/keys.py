"""What tells flows apart, and which of the packets of a stretch have it in common.

IPv4 keys, by far the most, are made of two numbers and a word, are told apart by a hash of these,
and then compared with the first key of the same hash: a stretch in which two differ is done again
the slow way. Others are told apart as they are.
"""

from __future__ import annotations

import numpy as np

from netgen.capture import native
from netgen.capture.factorize import factorize, group_rows
from netgen.capture.layers.dissect import PacketColumns
from netgen.capture.native import packets as native_packets

#: What tells two flows apart, ends in canonical order: the smaller address and port is `a`.
KEY = np.dtype(
    [
        ("a_high", "u8"),
        ("a_low", "u8"),
        ("b_high", "u8"),
        ("b_low", "u8"),
        ("a_port", "<i4"),
        ("b_port", "<i4"),
        ("vlan", "<i4"),
        ("zero", "u2"),  # so that a key is six words
        ("version", "u1"),
        ("protocol", "u1"),
    ]
)

# an end of an IPv4 flow as a number: the address, and 17 bits of port + 1; the word is protocol and VLAN + 1
_PORT_BITS, _PROTOCOL_BITS = np.uint64(17), np.uint64(8)
_PORT_MASK = np.uint64((1 << 17) - 1)
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93], np.uint64)
_SHIFT = np.uint64(31)


class Keys:
    """The keys of a stretch of packets, some packets at a time."""

    def __init__(self) -> None:
        self._count = 0
        self._few: list[tuple[np.ndarray, ...]] = []  # hash, ends and word of IPv4 packets
        self._others: list[np.ndarray] = []
        self._other_rows: list[np.ndarray] = []

    def add(self, packets: PacketColumns) -> np.ndarray:
        """Take the next packets; whether each goes from end `a` of its key to end `b`."""
        p, old = packets, packets.version == 4
        columns = (p.src_low, p.src_port, p.dst_low, p.dst_port, p.vlan, p.protocol)
        if native.ready():
            key, forward = native_packets.ipv4_keys(*columns, p.version)
            self._few.append((key,))
        elif old.all():
            forward = self._add_ipv4(*columns)
        else:
            forward = np.empty(len(p), bool)
            forward[old] = self._add_ipv4(*(each[old] for each in columns))
        others = np.flatnonzero(~old)
        if others.size:
            keys, forward[others] = keys_of(p, others)
            self._others.append(keys)
            self._other_rows.append(others + self._count)
        self._count += len(p)
        return forward

    def _add_ipv4(
        self,
        src: np.ndarray,
        src_port: np.ndarray,
        dst: np.ndarray,
        dst_port: np.ndarray,
        vlan: np.ndarray,
        protocol: np.ndarray,
    ) -> np.ndarray:
        one, two = src << _PORT_BITS, dst << _PORT_BITS
        one += (src_port + np.int32(1)).view(np.uint32)
        two += (dst_port + np.int32(1)).view(np.uint32)
        a, b = np.minimum(one, two), np.maximum(one, two)
        word = (vlan + np.int32(1)).astype(np.uint64) << _PROTOCOL_BITS
        word |= protocol
        mixed = a * _FACTORS[0]
        for part, factor in zip((b, word), _FACTORS[1:], strict=True):
            mixed ^= mixed >> _SHIFT
            mixed += part
            mixed *= factor
        self._few.append((mixed, a, b, word))
        found: np.ndarray = one <= two
        return found

    def coded(self) -> tuple[np.ndarray, np.ndarray]:
        """Which of the distinct keys each packet has, int32 (packets,), and these, of `KEY`."""
        if not self._count:
            return np.zeros(0, np.int32), np.zeros(0, KEY)
        row, ends = self._coded_ipv4()
        keys = np.zeros(len(ends), KEY)
        a, b, word = ends.T
        for end, number in (("a", a), ("b", b)):
            keys[f"{end}_low"] = number >> _PORT_BITS
            keys[f"{end}_port"] = (number & _PORT_MASK).astype(np.int64) - 1
        keys["vlan"] = (word >> _PROTOCOL_BITS).astype(np.int64) - 1
        keys["protocol"] = word & np.uint64(0xFF)
        keys["version"] = 4
        if not self._others:
            return row, keys
        others, rows = np.concatenate(self._others), np.concatenate(self._other_rows)
        key = np.empty(self._count, np.int32)
        is_old = np.ones(self._count, bool)
        is_old[rows] = False
        key[is_old] = row
        row, few = factorize(others)
        key[rows] = row + np.int32(len(keys))
        return key, np.concatenate([keys, few])

    def _coded_ipv4(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of IPv4 packets, keys as numbers of their ends and a word, shape (keys, 3)."""
        parts = zip(*self._few, strict=True)
        columns = [each[0] if len(each) == 1 else np.concatenate(each) for each in parts]
        if len(columns) == 1:  # from compiled code, the three beside each other
            row, first = group_rows(columns[0].view("V24").ravel())
            return row, columns[0][first]
        mixed, *ends = columns
        row, first = group_rows(mixed)
        for column in ends:
            if (column[first].take(row) != column).any():  # two keys of one hash
                row, first = group_rows(np.stack(ends, axis=1).view("V24").ravel())
        return row, np.stack([each[first] for each in ends], axis=1)


def keys_of(packets: PacketColumns, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of some packets, of any IP version, and whether each goes from its end `a` to its end `b`."""
    names = ("src_high", "src_low", "src_port", "dst_high", "dst_low", "dst_port", "vlan", "version", "protocol")
    p = {name: getattr(packets, name).take(rows) for name in names}
    even = p["src_low"] == p["dst_low"]
    swap = (p["src_low"] > p["dst_low"]) | even & (p["src_port"] > p["dst_port"])
    swap = (p["src_high"] > p["dst_high"]) | (p["src_high"] == p["dst_high"]) & swap
    key = np.zeros(len(rows), KEY)
    for field in ("high", "low", "port"):
        src, dst = p[f"src_{field}"], p[f"dst_{field}"]
        key[f"a_{field}"] = np.where(swap, dst, src)
        key[f"b_{field}"] = np.where(swap, src, dst)
    for name in names[6:]:
        key[name] = p[name]
    return key, ~swap
