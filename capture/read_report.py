"""The read report of an extraction: what became of every file and every packet."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from netgen.capture.formats.records import Damage


@dataclasses.dataclass
class ReadReport:
    """What became of every file and every packet."""

    files: int = 0  # captures read
    packets: int = 0  # packets read from them
    skipped: Counter[str] = dataclasses.field(default_factory=Counter)  # packets in no row of the table, by reason
    notes: Counter[str] = dataclasses.field(default_factory=Counter)  # oddities that lost nothing
    dropped: Counter[str] = dataclasses.field(default_factory=Counter)  # rows left out, by reason
    damaged: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # file, byte and reason
    not_captures: list[str] = dataclasses.field(default_factory=list)  # files in folders that are not captures

    def add(self, packets: int, skipped: Counter[str], notes: Counter[str]) -> None:
        """Add the packets of a segment."""
        self.packets += packets
        self.skipped.update(skipped)
        self.notes.update(notes)

    def add_damage(self, source: str, damage: list[Damage]) -> None:
        """Add the damage of a file."""
        self.damaged += [{"file": source, "byte": position.byte, "reason": position.reason} for position in damage]

    def to_json(self, flows: int, in_flows: int) -> dict[str, Any]:
        """Return JSON types; counts in descending order, equal ones by name."""
        return {
            "files": self.files,
            "packets": self.packets,
            "in_flows": in_flows,
            "skipped": _sorted(self.skipped),
            "warnings": _sorted(self.notes),
            "flows": flows,
            "flows_dropped": _sorted(self.dropped),
            "damaged": self.damaged,
            "not_captures": self.not_captures,
        }


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted((+counts).items(), key=lambda item: (-item[1], item[0])))
