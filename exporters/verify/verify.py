"""Check a capture, and the truth file beside it."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from netgen.capture.errors import InputError
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.headers import PROTOCOL_TCP
from netgen.exporters.pcap.ground_truth import community_id, find_ground_truth, read_ground_truth
from netgen.exporters.verify.columns import address, read
from netgen.exporters.verify.issues import CHECKS, Issue, IssueList
from netgen.exporters.verify.tcp_streams import Streams, check, connections, talks

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was checked, and what was found.

    Parameters
    ----------
    path : Path
    ground_truth : Path or None
        The truth that it was compared with.
    packets, others, flows, connections : int
        Packets of TCP, UDP, IGMP and ICMP echoes over IP over Ethernet; others; flows of the former; those of TCP.
    issues : tuple of Finding
        At most one a check; none where all holds.
    """

    path: Path
    ground_truth: Path | None
    packets: int
    others: int
    flows: int
    connections: int
    issues: tuple[Issue, ...]

    @property
    def checked(self) -> list[str]:
        """The checks that were made."""
        return [name for name in CHECKS if name != "truth" or self.ground_truth is not None]

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "file": str(self.path),
            "ground_truth": str(self.ground_truth) if self.ground_truth else None,
            "packets": self.packets,
            "other_packets": self.others,
            "flows": self.flows,
            "tcp_connections": self.connections,
            "checked": self.checked,
            "issues": [each.to_json() for each in self.issues],
        }


def verify(path: PathLike, ground_truth: PathLike | None = None) -> Verification:
    """Check a capture for what netgen promises of its own.

    Parameters
    ----------
    path : path
        A capture of any origin, compressed or not.
    ground_truth : path, optional
        The truth about it, ``.parquet`` or ``.csv``; otherwise what lies beside it, if anything does.

    Raises
    ------
    CaptureError, InputError
        If one of them cannot be read.
    """
    path, found = Path(path), IssueList()
    beside = Path(ground_truth) if ground_truth is not None else next(iter(find_ground_truth(path)), None)
    rows = read_ground_truth(beside).to_pylist() if beside is not None else None
    wire = read(CaptureFile(path), found)
    if wire.others and not len(wire.packets):
        raise InputError(
            f"{path} has no packet that is looked into, but {wire.others:,} others",
            "It can verify TCP, UDP, IGMP and ICMP echoes over IP over Ethernet",
        )
    flows = talks(wire.packets)
    check(flows, found)
    if rows is not None:
        _compare(rows, flows, found)
    tcp = flows.packets["protocol"][flows.first] == PROTOCOL_TCP if len(flows.first) else np.zeros(0, bool)
    issues = tuple(found.found[name] for name in CHECKS if name in found.found)
    return Verification(path, beside, len(wire.packets), wire.others, len(flows.first), int(tcp.sum()), issues)


#: What is compared of each flow, and what it is called.
_COMPARED = {
    "protocol": "protocol",
    "src": "initiator",
    "src_port": "initiator's port",
    "dst": "server",
    "dst_port": "server's port",
    "up_packets": "packets up",
    "down_packets": "packets down",
    "up_bytes": "IP bytes up",
    "down_bytes": "IP bytes down",
    "start_ns": "start",
    "end_ns": "end",
    "connection": "what became of the connection",
}


def _compare(rows: list[dict[str, Any]], flows: Streams, found: IssueList) -> None:
    """Each flow of the capture beside its row of the truth, found by its Community ID."""
    seen = _seen(flows)
    known = {row["community_id"]: row for row in rows}
    for row in [each for name, count in Counter(row["community_id"] for row in rows).items() if count > 1
                for each in [name]]:  # fmt: skip
        found.add("truth", 1, None, f"the labels file has {row} more than once")
    for name, row in known.items():
        if name not in seen:
            found.add("truth", 1, None, f"flow {row['flow']} of the labels file ({name}) is not in the capture")
    for name, facts in seen.items():
        row = known.get(name)
        if row is None:
            found.add("truth", 1, facts["packet"], f"its flow ({name}) is not in the labels file")
            continue
        for field, title in _COMPARED.items():
            if field in row and facts[field] != row[field]:
                what = f"{title} of its flow: {facts[field]}, the labels file says {row[field]}"
                found.add("truth", 1, facts["packet"], what)
                break


def _seen(flows: Streams) -> dict[str, dict[str, Any]]:
    """Community ID -> what the capture says of the flow."""
    packets, many = flows.packets, len(flows.first)
    last = np.r_[flows.first[1:], len(packets)] - 1
    sums = {}
    for name, mine in (("up", flows.up), ("down", ~flows.up)):
        sums[f"{name}_packets"] = np.bincount(flows.flow[mine], minlength=many).tolist()
        sums[f"{name}_bytes"] = np.bincount(flows.flow[mine], packets["size"][mine], many).astype(np.int64).tolist()
    became = connections(flows)
    out = {}
    for index, (first, end) in enumerate(zip(packets[flows.first], packets[last] if many else [], strict=True)):
        width = 4 if first["version"] == 4 else 16
        ends = [
            (int(first[f"{side}_high"]) << 64 | int(first[f"{side}_low"]), int(first[f"{side}_port"]))
            for side in ("src", "dst")
        ]
        packed = [part for number, port in ends for part in (number.to_bytes(width, "big"), port)]
        name = community_id(int(first["protocol"]), *packed)  # type: ignore[arg-type]
        src, dst = (address(number >> 64, number & 2**64 - 1, int(first["version"])) for number, _ in ends)
        out[name] = {
            "packet": int(first["number"]),
            "protocol": int(first["protocol"]),
            "src": src,
            "dst": dst,
            "src_port": ends[0][1],
            "dst_port": ends[1][1],
            "start_ns": int(first["time_ns"]),
            "end_ns": int(end["time_ns"]),
            "connection": became[index],
            **{key: values[index] for key, values in sums.items()},
        }
    return out
