"""What a class's datagrams look like, beside their series: protocol, server ports, sizes and gaps.

A series says how many packets and bytes a bin has. How a bin's bytes are shared among its packets
is lost in it; of UDP, where no byte stream explains it, a *profile* keeps the distributions. It is
counted when flows are extracted, stands in the table's notes, and travels with a model. It holds
no address, no name, and no port of a client.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from netgen.capture.headers import PROTOCOL_TCP, PROTOCOL_UDP

KEY = "profile"  # of a table's notes and of a model's metadata
SIZES = 128  # quantiles kept of a distribution of sizes
GAPS = 64  # of gaps
PORTS = 8  # server ports kept
HELD = 1 << 21  # packets looked at in a block of rows


@dataclasses.dataclass(eq=False)
class Profile:
    """Of one class.

    Parameters
    ----------
    tcp, udp : int
        Flows.
    ports : Counter
        UDP flows by the server's port.
    sizes : tuple of Counter
        UDP packets by IP bytes, up and down.
    gaps : Counter
        Gaps between the packets of a UDP flow, by sixteenths of octaves of ns.
    """

    tcp: int = 0
    udp: int = 0
    ports: Counter[int] = dataclasses.field(default_factory=Counter)
    sizes: tuple[Counter[int], Counter[int]] = dataclasses.field(default_factory=lambda: (Counter(), Counter()))
    gaps: Counter[int] = dataclasses.field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """As JSON types: distributions by their quantiles, with how many packets they are from."""
        out: dict[str, Any] = {"tcp": self.tcp, "udp": self.udp}
        if self.udp:
            out["ports"] = {str(port): number for port, number in self.ports.most_common(PORTS)}
            for way, counts in zip(("up", "down"), self.sizes, strict=True):
                out[f"{way}_packets"] = counts.total()
                out[f"{way}_sizes"] = _quantiles(counts, SIZES)
            out["gaps"] = self.gaps.total()
            out["gaps_ns"] = [round(2 ** (code / 16)) for code in _quantiles(self.gaps, GAPS)]
        return out


class ProfileCounter:
    """Counts the profiles of rows, some packets at a time; a block of rows ends when their classes are known."""

    def __init__(self) -> None:
        self._classes: dict[str, Profile] = {}
        self._held: list[tuple[np.ndarray, ...]] = []
        self._number = 0

    def add(self, row: np.ndarray, udp: np.ndarray, time_ns: np.ndarray, size: np.ndarray, up: np.ndarray) -> None:
        """Packets of rows of the block, those of a row together and in order of time; all of shape (packets,)."""
        if self._number >= HELD:
            return
        mine = np.flatnonzero(udp)
        if not mine.size:
            return
        row, time_ns = row[mine], time_ns[mine]
        gap = np.zeros(len(row), np.int64)
        gap[1:] = np.where(row[1:] == row[:-1], time_ns[1:] - time_ns[:-1], 0)
        code = np.where(gap > 0, np.log2(np.maximum(gap, 1)) * 16, -1).astype(np.int16)
        self._held.append((row.astype(np.int32), size[mine].astype(np.uint16), up[mine], code))
        self._number += len(row)

    def end(self, labels: list[str | None], protocol: np.ndarray, server_port: np.ndarray) -> None:
        """The rows of the block are of these classes."""
        names = list(dict.fromkeys(name for name in labels if name is not None))
        number = {name: place for place, name in enumerate(names)}
        label = np.array([number.get(name, -1) if name is not None else -1 for name in labels], np.int64)
        for name, place in number.items():
            mine = label == place
            profile = self._classes.setdefault(name, Profile())
            profile.tcp += int((mine & (protocol == PROTOCOL_TCP)).sum())
            udp = mine & (protocol == PROTOCOL_UDP)
            profile.udp += int(udp.sum())
            profile.ports.update(server_port[udp].tolist())
        for row, size, up, code in self._held:
            which = label[row]
            for place, name in enumerate(names):
                mine = which == place
                profile = self._classes[name]
                for way, counts in enumerate(profile.sizes):
                    _count(counts, size[mine & (up == (way == 0))])
                _count(profile.gaps, code[mine & (code >= 0)])
        self._held, self._number = [], 0

    def to_json(self) -> dict[str, Any]:
        """Class -> profile, as JSON types."""
        return {name: self._classes[name].to_json() for name in sorted(self._classes)}


def _count(counts: Counter[int], values: np.ndarray) -> None:
    if values.size:
        found = np.bincount(values)
        some = np.flatnonzero(found)
        counts.update(dict(zip(some.tolist(), found[some].tolist(), strict=True)))


def _quantiles(counts: Counter[int], number: int) -> list[int]:
    """Values at the middles of `number` equal shares of what was counted; none of nothing."""
    if not counts:
        return []
    values = np.array(sorted(counts))
    reached = np.cumsum([counts[value] for value in values.tolist()])
    wanted = (np.arange(number) + 0.5) / number * reached[-1]
    found: list[int] = values[np.searchsorted(reached, wanted)].tolist()
    return found


def read_profiles(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The profiles in the notes of a table, or of the tables that it was joined of."""
    if KEY in metadata:
        return dict(metadata[KEY])
    return merged(read_profiles(part) for part in metadata.get("tables", ()) if isinstance(part, Mapping))


def merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Profiles of several tables: flows and ports added up, distributions mixed by their packets."""
    out: dict[str, Any] = {}
    for part in parts:
        for name, profile in part.items():
            out[name] = _mixed(out[name], profile) if name in out else dict(profile)
    return out


def _mixed(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {key: first.get(key, 0) + second.get(key, 0) for key in ("tcp", "udp")}
    if not out["udp"]:
        return out
    ports: Counter[str] = Counter(first.get("ports", {}))
    ports.update(second.get("ports", {}))
    out["ports"] = dict(ports.most_common(PORTS))
    for number, values, many in (
        ("up_packets", "up_sizes", SIZES),
        ("down_packets", "down_sizes", SIZES),
        ("gaps", "gaps_ns", GAPS),
    ):
        counts: Counter[int] = Counter()
        for each in (first, second):
            for value in each.get(values, ()):
                counts[value] += each[number]
        out[number] = first.get(number, 0) + second.get(number, 0)
        out[values] = _quantiles(counts, many)
    return out
