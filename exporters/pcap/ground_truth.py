"""Ground truth of a capture: labels, 5-tuples and totals of its flows, with Community IDs to join on.

Suricata, Zeek and others write the same Community IDs in their flow records.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import ipaddress
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from netgen.capture.errors import InputError
from netgen.capture.headers import PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_IGMP
from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import METADATA_KEY
from netgen.exporters.pcap.addresses import v6_addresses
from netgen.exporters.pcap.frames import Endpoints
from netgen.exporters.pcap.packets import Bools, Ints, Packets
from netgen.exporters.pcap.plan import Plan

FORMAT = 2

#: What became of a TCP connection; None: not TCP. The last three are the attempts of `tcp_lifecycle`, in their order.
CONNECTIONS = (None, "closed", "reset", "unanswered", "refused", "half-open")

SCHEMA = pa.schema(
    [
        pa.field("flow", pa.int64(), nullable=False),  # number in the flow table
        pa.field("row", pa.int64(), nullable=False),  # row of the flow table
        pa.field("label", pa.string()),
        pa.field("community_id", pa.string(), nullable=False),
        pa.field("protocol", pa.uint8(), nullable=False),
        pa.field("connection", pa.string()),  # one of CONNECTIONS
        pa.field("src", pa.string(), nullable=False),
        pa.field("src_port", pa.uint16(), nullable=False),
        pa.field("dst", pa.string(), nullable=False),
        pa.field("dst_port", pa.uint16(), nullable=False),
        pa.field("start_ns", pa.int64(), nullable=False),
        pa.field("end_ns", pa.int64(), nullable=False),
        pa.field("up_packets", pa.int64(), nullable=False),
        pa.field("down_packets", pa.int64(), nullable=False),
        pa.field("up_bytes", pa.int64(), nullable=False),  # IP bytes, headers included
        pa.field("down_bytes", pa.int64(), nullable=False),
        pa.field("repaired", pa.bool_(), nullable=False),  # series or protocol was changed so that packets can carry it
        pa.field("source", pa.string()),
        pa.field("seed", pa.int64(), nullable=False),
    ]
)

#: Types of an echo request and its reply (RFC 792, RFC 4443).
_ECHO_TYPES = {PROTOCOL_ICMP: (8, 0), PROTOCOL_ICMPV6: (128, 129)}


def ground_truth_paths(capture: Path) -> tuple[Path, Path]:
    """Return where the ground truth of ``x.pcap.gz`` goes: ``x.labels.csv`` and ``x.labels.parquet`` beside it."""
    stem = capture.name
    for ending in (".gz", ".zst", ".pcapng", ".pcap"):
        if stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
    return capture.with_name(f"{stem}.labels.csv"), capture.with_name(f"{stem}.labels.parquet")


def find_ground_truth(capture: Path) -> list[Path]:
    """List the files that exist where the ground truth of a capture goes, Parquet first; none for a folder."""
    return [] if capture.is_dir() else [path for path in ground_truth_paths(capture)[::-1] if path.is_file()]


def is_ground_truth(path: Path) -> bool:
    """Tell whether a file has the columns of a ground truth."""
    try:
        if path.suffix.lower() == ".parquet":
            names = pq.read_schema(path).names
        else:
            with path.open(encoding="utf-8", errors="replace") as file:
                names = file.readline(1 << 16).rstrip().replace('"', "").split(",")
    except (OSError, ValueError, pa.ArrowException):
        return False
    return set(SCHEMA.names) <= set(names)


def read_ground_truth(path: Path) -> pa.Table:
    """Read a ground truth, CSV or Parquet: one row for each flow.

    Raises
    ------
    InputError
        If the file cannot be read, or is not a ground truth.
    """
    hint = "Give the NAME.labels.parquet or NAME.labels.csv that was written beside the capture"
    try:
        if path.suffix.lower() == ".csv":
            types = {field.name: field.type for field in SCHEMA}
            options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
            table = pyarrow.csv.read_csv(path, convert_options=options)
        else:
            table = pq.read_table(path)
        missing = [name for name in SCHEMA.names if name not in table.column_names]
        if missing:
            raise InputError(f"{path} is not the ground truth of a capture: no column {', '.join(missing)}", hint)
        return table.select(SCHEMA.names).cast(pa.schema([field.with_nullable(True) for field in SCHEMA]))
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is not the ground truth of a capture: {reason}", hint) from error


def community_id(protocol: int, src: bytes, src_port: int, dst: bytes, dst_port: int, seed: int = 0) -> str:
    """Compute the Community ID, version 1, of a flow; it is the same for both directions.

    Addresses are in network order, 4 or 16 bytes. For an echo, `src` sends the request, and the types of ICMP stand in
    for ports. IGMP has no ports.
    """
    numbers = _ECHO_TYPES.get(protocol, (src_port, dst_port))
    ports = [b"" if protocol == PROTOCOL_IGMP else number.to_bytes(2, "big") for number in numbers]
    (first, first_port), (second, second_port) = sorted(zip((src, dst), ports, strict=True))
    text = seed.to_bytes(2, "big") + first + second + bytes([protocol, 0]) + first_port + second_port
    return "1:" + base64.b64encode(hashlib.sha1(text, usedforsecurity=False).digest()).decode()


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """What was written of each flow; shape (flows,), or (flows, 2) with up first. Filled in block by block."""

    protocol: Ints
    connection: NDArray[np.uint8]  # index in CONNECTIONS
    v6: Bools
    repaired: Bools
    start_ns: Ints
    end_ns: Ints
    packets: Ints
    bytes: Ints

    @classmethod
    def empty(cls, start_ns: Ints, protocol: Ints) -> GroundTruth:
        """Make the ground truth of flows whose start and protocol alone are known."""
        v6, repaired = np.zeros((2, len(start_ns)), dtype=bool)
        packets, size = np.zeros((2, len(start_ns), 2), dtype=np.int64)
        return cls(protocol, np.zeros(len(start_ns), np.uint8), v6, repaired, start_ns, start_ns.copy(), packets, size)

    def add(self, rows: Ints, plan: Plan, packets: Packets) -> None:
        """Fill in the flows in `rows`, which have this plan and these packets."""
        totals = plan.series.sum(2)
        self.bytes[rows], self.packets[rows] = totals[:, :2], totals[:, 2:]
        state = np.where(plan.is_attempt, 2 + plan.attempt, 1 + plan.reset)
        self.connection[rows] = np.where(plan.tcp, state, 0)
        self.v6[rows], self.repaired[rows] = plan.ip_overhead > 0, plan.repaired
        is_last = np.r_[packets.flow[1:] != packets.flow[:-1], True][: len(packets)]
        self.end_ns[rows[packets.flow[is_last]]] += packets.offset_ns[is_last]

    @property
    def connections(self) -> dict[str, int]:
        """What became of the TCP connections -> number of flows, without zeros."""
        counts = np.bincount(self.connection, minlength=len(CONNECTIONS)).tolist()
        return {name: count for name, count in zip(CONNECTIONS, counts, strict=True) if name and count}


def ground_truth_table(truth: GroundTruth, flows: FlowTable, endpoints: Endpoints, seed: int) -> pa.Table:
    """Make the table of a ground truth, with the columns of `SCHEMA`; rows as in the flow table."""
    where, packed = endpoints.where, []
    for address in (where.client, where.server):
        v4, v6 = address.astype(">u4").view("V4"), v6_addresses(address)
        packed.append([(v6 if is_v6 else v4)[row].tobytes() for row, is_v6 in enumerate(truth.v6.tolist())])
    (src, dst), src_port, dst_port = packed, where.client_port.tolist(), where.server_port.tolist()
    columns: dict[str, Any] = {
        "flow": flows.table["flow"],
        "row": np.arange(len(src)),
        "label": flows.table["label"],
        "community_id": list(map(community_id, truth.protocol.tolist(), src, src_port, dst, dst_port)),
        "protocol": truth.protocol,
        "connection": [CONNECTIONS[index] for index in truth.connection.tolist()],
        "src": [str(ipaddress.ip_address(address)) for address in src],
        "src_port": src_port,
        "dst": [str(ipaddress.ip_address(address)) for address in dst],
        "dst_port": dst_port,
        "start_ns": truth.start_ns,
        "end_ns": truth.end_ns,
        "up_packets": truth.packets[:, 0],
        "down_packets": truth.packets[:, 1],
        "up_bytes": truth.bytes[:, 0],
        "down_bytes": truth.bytes[:, 1],
        "repaired": truth.repaired,
        "source": flows.table["source"],
        "seed": np.full(len(src), seed),
    }
    return pa.table(columns, schema=SCHEMA).combine_chunks()


def write_ground_truth(rows: pa.Table, metadata: dict[str, Any], csv: Path, parquet: Path) -> None:
    """Write a ground truth as CSV, and as Parquet with metadata on how the capture was made."""
    pyarrow.csv.write_csv(rows, csv)
    text = json.dumps({"format": FORMAT, "ground_truth": metadata})
    pq.write_table(rows.replace_schema_metadata({METADATA_KEY: text.encode()}), parquet, compression="zstd")
