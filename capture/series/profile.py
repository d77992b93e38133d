"""Profiles of classes: what their UDP packets look like beyond the series: server ports, sizes and gaps.

A series does not say how the bytes of a bin are divided among its packets. For TCP the byte stream explains it; for UDP
a *profile* keeps the distributions. It is counted when flows are extracted, stored in the table's metadata, and travels
with a model. It holds no address, no name, and no client port.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from netgen.capture.headers import PROTOCOL_TCP, PROTOCOL_UDP

PROFILE_KEY = "profile"  # in the metadata of a table or model
SIZE_QUANTILES = 128  # stored of a distribution of sizes
GAP_QUANTILES = 64  # stored of a distribution of gaps
MAX_PORTS = 8  # server ports stored
MAX_BLOCK_PACKETS = 1 << 21  # packets counted of a block of rows


@dataclasses.dataclass(eq=False)
class Profile:
    """The profile of one class."""

    tcp: int = 0  # flows
    udp: int = 0  # flows
    ports: Counter[int] = dataclasses.field(default_factory=Counter)  # UDP flows by the server's port
    sizes: tuple[Counter[int], Counter[int]] = dataclasses.field(default_factory=lambda: (Counter(), Counter()))
    gaps: Counter[int] = dataclasses.field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """Return JSON types: quantiles of the distributions, and the number of packets they are from."""
        out: dict[str, Any] = {"tcp": self.tcp, "udp": self.udp}
        if self.udp:
            out["ports"] = {str(port): number for port, number in self.ports.most_common(MAX_PORTS)}
            for direction, counts in zip(("up", "down"), self.sizes, strict=True):
                out[f"{direction}_packets"] = counts.total()
                out[f"{direction}_sizes"] = _quantiles(counts, SIZE_QUANTILES)
            out["gaps"] = self.gaps.total()
            out["gaps_ns"] = [round(2 ** (code / 16)) for code in _quantiles(self.gaps, GAP_QUANTILES)]
        return out


class ProfileCounter:
    """Counts the profiles of rows. A block of rows ends when its classes are known."""

    def __init__(self) -> None:
        self._profiles: dict[str, Profile] = {}
        self._packets: list[tuple[np.ndarray, ...]] = []  # row, size, direction and code of the gap
        self._packet_count = 0

    def add(self, row: np.ndarray, udp: np.ndarray, time_ns: np.ndarray, size: np.ndarray, up: np.ndarray) -> None:
        """Add packets of the block, shape (packets,); those of a row stand together, in order of time."""
        if self._packet_count >= MAX_BLOCK_PACKETS:
            return
        kept = np.flatnonzero(udp)
        if not kept.size:
            return
        row, time_ns = row[kept], time_ns[kept]
        gap = np.zeros(len(row), np.int64)
        gap[1:] = np.where(row[1:] == row[:-1], time_ns[1:] - time_ns[:-1], 0)
        code = np.where(gap > 0, np.log2(np.maximum(gap, 1)) * 16, -1).astype(np.int16)
        self._packets.append((row.astype(np.int32), size[kept].astype(np.uint16), up[kept], code))
        self._packet_count += len(row)

    def end(self, labels: list[str | None], protocol: np.ndarray, server_port: np.ndarray) -> None:
        """End the block, given the classes of its rows."""
        names = list(dict.fromkeys(label for label in labels if label is not None))
        index_of_name = {name: index for index, name in enumerate(names)}
        label_index = np.array([-1 if label is None else index_of_name[label] for label in labels], np.int64)
        for name, index in index_of_name.items():
            rows = label_index == index
            profile = self._profiles.setdefault(name, Profile())
            profile.tcp += int((rows & (protocol == PROTOCOL_TCP)).sum())
            udp = rows & (protocol == PROTOCOL_UDP)
            profile.udp += int(udp.sum())
            profile.ports.update(server_port[udp].tolist())
        for row, size, up, code in self._packets:
            packet_label = label_index[row]
            for name, index in index_of_name.items():
                selected = packet_label == index
                profile = self._profiles[name]
                for direction, counts in enumerate(profile.sizes):
                    _count(counts, size[selected & (up == (direction == 0))])
                _count(profile.gaps, code[selected & (code >= 0)])
        self._packets, self._packet_count = [], 0

    def to_json(self) -> dict[str, Any]:
        """Return the profile of each class, as JSON types."""
        return {name: self._profiles[name].to_json() for name in sorted(self._profiles)}


def _count(counts: Counter[int], values: np.ndarray) -> None:
    if values.size:
        frequency = np.bincount(values)
        distinct = np.flatnonzero(frequency)
        counts.update(dict(zip(distinct.tolist(), frequency[distinct].tolist(), strict=True)))


def _quantiles(counts: Counter[int], number: int) -> list[int]:
    """Return the values at the middles of `number` equal intervals of the distribution; nothing if it is empty."""
    if not counts:
        return []
    values = np.array(sorted(counts))
    cumulative = np.cumsum([counts[value] for value in values.tolist()])
    middles = (np.arange(number) + 0.5) / number * cumulative[-1]
    return [int(value) for value in values[np.searchsorted(cumulative, middles)]]


def read_profiles(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the profiles in the metadata of a table, or of the tables that it was concatenated from."""
    if PROFILE_KEY in metadata:
        return dict(metadata[PROFILE_KEY])
    return merge_profiles(read_profiles(table) for table in metadata.get("tables", ()) if isinstance(table, Mapping))


def merge_profiles(tables: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the profiles of several tables: add flows and ports, mix distributions by their packets."""
    out: dict[str, Any] = {}
    for profiles in tables:
        for name, profile in profiles.items():
            out[name] = _merge(out[name], profile) if name in out else dict(profile)
    return out


def _merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {key: first.get(key, 0) + second.get(key, 0) for key in ("tcp", "udp")}
    if not out["udp"]:
        return out
    ports: Counter[str] = Counter(first.get("ports", {}))
    ports.update(second.get("ports", {}))
    out["ports"] = dict(ports.most_common(MAX_PORTS))
    for total, values, quantiles in (
        ("up_packets", "up_sizes", SIZE_QUANTILES),
        ("down_packets", "down_sizes", SIZE_QUANTILES),
        ("gaps", "gaps_ns", GAP_QUANTILES),
    ):
        counts: Counter[int] = Counter()
        for profile in (first, second):
            for value in profile.get(values, ()):
                counts[value] += profile[total]
        out[total] = first.get(total, 0) + second.get(total, 0)
        out[values] = _quantiles(counts, quantiles)
    return out
