"""Check a capture, and compare it with its ground truth."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from netgen.capture.errors import InputError
from netgen.capture.formats.reader import CaptureFile
from netgen.exporters.pcap.ground_truth import community_id, find_ground_truth, read_ground_truth
from netgen.exporters.verify.columns import read_packets
from netgen.exporters.verify.issues import CHECKS, Issue, IssueList
from netgen.exporters.verify.tcp_streams import Streams, check_connections, connection_states, group_streams

PathLike = str | os.PathLike[str]

#: Columns of the ground truth that are compared, and how messages name them.
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
    "connection": "state of the connection",
}


@dataclasses.dataclass(frozen=True)
class Verification:
    """The result of `verify`.

    Parameters
    ----------
    path : Path
    ground_truth : Path or None
        The file that the capture was compared with.
    packets : int
        Packets of TCP, UDP, IGMP and ICMP echoes over IP over Ethernet.
    others : int
        Packets that were not checked, because they are none of these.
    flows, connections : int
        Flows of `packets`, and those of TCP.
    issues : tuple of Issue
        At most one for each check; empty if all checks pass.
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
        return [check for check in CHECKS if check != "ground truth" or self.ground_truth is not None]

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return {
            "file": str(self.path),
            "ground_truth": str(self.ground_truth) if self.ground_truth else None,
            "packets": self.packets,
            "other_packets": self.others,
            "flows": self.flows,
            "tcp_connections": self.connections,
            "checked": self.checked,
            "issues": [dataclasses.asdict(issue) for issue in self.issues],
        }


def verify(capture: PathLike, ground_truth: PathLike | None = None) -> Verification:
    """Check a capture for everything that netgen guarantees of its own captures.

    Parameters
    ----------
    capture : path
        A capture of any origin, compressed or not.
    ground_truth : path, optional
        Its ground truth, ``.parquet`` or ``.csv``. By default, the file beside the capture is used if there is one.

    Raises
    ------
    CaptureError, InputError
        If one of them cannot be read.
    """
    path, issues = Path(capture), IssueList()
    truth_path = Path(ground_truth) if ground_truth is not None else next(iter(find_ground_truth(path)), None)
    rows = read_ground_truth(truth_path).to_pylist() if truth_path is not None else None
    packets, others = read_packets(CaptureFile(path), issues)
    if others and not len(packets):
        raise InputError(
            f"{path}: none of its {others:,} packets can be verified",
            "Verify a capture with TCP, UDP, IGMP or ICMP echoes over IP over Ethernet",
        )
    streams = group_streams(packets)
    check_connections(streams, issues)
    if rows is not None:
        _compare(rows, streams, issues)
    flows, connections = len(streams.first), int(streams.is_tcp.sum())
    return Verification(path, truth_path, len(packets), others, flows, connections, issues.in_order())


def _compare(rows: list[dict[str, Any]], streams: Streams, issues: IssueList) -> None:
    """Compare each flow of the capture with the row of the ground truth that has its Community ID."""

    def add(packet: int | None, message: str) -> None:
        issues.add("ground truth", 1, packet, message)

    captured = _summarize(streams)
    expected = {row["community_id"]: row for row in rows}
    for name, count in Counter(row["community_id"] for row in rows).items():
        if count > 1:
            add(None, f"the ground truth has {count} rows for flow {name}")
    for name, row in expected.items():
        if name not in captured:
            add(None, f"flow {row['flow']} of the ground truth ({name}) is not in the capture")
    for name, flow in captured.items():
        if name not in expected:
            add(flow["packet"], f"its flow ({name}) is not in the ground truth")
            continue
        row = expected[name]
        wrong = next((column for column in _COMPARED if column in row and flow[column] != row[column]), None)
        if wrong is not None:
            add(flow["packet"], f"{_COMPARED[wrong]} of its flow is {flow[wrong]}, the ground truth says {row[wrong]}")


def _summarize(streams: Streams) -> dict[str, dict[str, Any]]:
    """Summarize each flow in the columns of the ground truth; Community ID -> column -> value."""
    n_flows = len(streams.first)
    totals = {}
    for direction, rows in (("up", streams.up), ("down", ~streams.up)):
        flow, size = streams.flow[rows], streams.packets["size"][rows]
        totals[f"{direction}_packets"] = np.bincount(flow, minlength=n_flows).tolist()
        totals[f"{direction}_bytes"] = np.bincount(flow, size, n_flows).astype(np.int64).tolist()
    states = connection_states(streams)
    flows = {}
    for index, (first, last) in enumerate(
        zip(streams.packets[streams.first], streams.packets[streams.last], strict=True)
    ):
        protocol, src_port, dst_port = (int(first[name]) for name in ("protocol", "src_port", "dst_port"))
        numbers = [int(first[f"{end}_high"]) << 64 | int(first[f"{end}_low"]) for end in ("src", "dst")]
        src, dst = (number.to_bytes(4 if first["version"] == 4 else 16, "big") for number in numbers)
        flows[community_id(protocol, src, src_port, dst, dst_port)] = {
            "packet": int(first["number"]),
            "protocol": protocol,
            "src": str(ipaddress.ip_address(src)),
            "dst": str(ipaddress.ip_address(dst)),
            "src_port": src_port,
            "dst_port": dst_port,
            "start_ns": int(first["time_ns"]),
            "end_ns": int(last["time_ns"]),
            "connection": states[index],
            **{column: values[index] for column, values in totals.items()},
        }
    return flows
