"""The truth about an exported capture: one row a flow, to be joined with what tools say of it.

Suricata, Zeek and others write the same Community ID beside their records of a flow.
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
from netgen.exporters.pcap.flow_file import FlowFile
from netgen.exporters.pcap.frames import Endpoints
from netgen.exporters.pcap.packets import Bools, Ints
from netgen.exporters.pcap.plan import Plan

FORMAT = 2  # 1 had no column `connection`

#: What became of a TCP connection; none: not TCP. The last three are `netgen.exporters.pcap.tcp_lifecycle`'s kinds, in their order.
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
        pa.field(
            "repaired", pa.bool_(), nullable=False
        ),  # series or protocol had to be changed for packets to carry it
        pa.field("source", pa.string()),
        pa.field("seed", pa.int64(), nullable=False),
    ]
)

#: Columns that every labels file has, those of format 1, too.
NEEDED = tuple(name for name in SCHEMA.names if name != "connection")

#: What an echo's first packet and its answer are (RFC 792, RFC 4443).
_ECHO_TYPES = {PROTOCOL_ICMP: (8, 0), PROTOCOL_ICMPV6: (128, 129)}


def ground_truth_paths(capture: Path) -> tuple[Path, Path]:
    """Where the truth about a capture goes: ``x.labels.csv`` and ``x.labels.parquet`` beside ``x.pcap.gz``."""
    stem = capture.name
    for ending in (".gz", ".zst", ".pcapng", ".pcap"):
        if stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
    return capture.with_name(f"{stem}.labels.csv"), capture.with_name(f"{stem}.labels.parquet")


def find_ground_truth(capture: Path) -> list[Path]:
    """Files that lie where the truth about a capture goes, Parquet first; beside a folder none is looked for."""
    return [] if capture.is_dir() else [each for each in ground_truth_paths(capture)[::-1] if each.is_file()]


def is_ground_truth(path: Path) -> bool:
    """Whether a file begins as a labels file that netgen wrote."""
    try:
        if path.suffix.lower() == ".parquet":
            names = pq.read_schema(path).names
        else:
            with path.open(encoding="utf-8", errors="replace") as stream:
                names = stream.readline(1 << 16).rstrip().replace('"', "").split(",")
    except (OSError, ValueError, pa.ArrowException):
        return False
    return set(NEEDED) <= set(names)


def read_ground_truth(path: Path) -> pa.Table:
    """A labels file that netgen wrote, CSV or Parquet: its rows, each of a flow.

    Raises
    ------
    InputError
        If it is none, or cannot be read.
    """
    hint = "Name the NAME.labels.parquet or NAME.labels.csv that was written beside the capture"
    try:
        if path.suffix.lower() == ".csv":
            options = pyarrow.csv.ConvertOptions(
                column_types={field.name: field.type for field in SCHEMA}, strings_can_be_null=True, null_values=[""]
            )
            table = pyarrow.csv.read_csv(path, convert_options=options)
        else:
            table = pq.read_table(path)
            known = [pa.field(field.name, field.type) for field in SCHEMA if field.name in table.column_names]
            table = table.select([field.name for field in known]).cast(pa.schema(known))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} is no labels file of a capture: {str(error).splitlines()[0]}", hint) from error
    missing = [name for name in NEEDED if name not in table.column_names]
    if missing:
        raise InputError(f"{path} is no labels file of a capture: it lacks the columns {', '.join(missing)}", hint)
    return table


def community_id(protocol: int, src: bytes, src_port: int, dst: bytes, dst_port: int, seed: int = 0) -> str:
    """Community ID, version 1, of a flow, of TCP and UDP the same for both directions.

    An echo's types stand in the places of ports, `src` being who asks; IGMP has addresses alone.

    Parameters
    ----------
    src, dst : bytes
        Addresses in network order, 4 or 16 bytes each.
    """
    numbers = _ECHO_TYPES.get(protocol, (src_port, dst_port))
    ports = [b"" if protocol == PROTOCOL_IGMP else number.to_bytes(2, "big") for number in numbers]
    (first, first_port), (second, second_port) = sorted(zip((src, dst), ports, strict=True))
    text = seed.to_bytes(2, "big") + first + second + bytes([protocol, 0]) + first_port + second_port
    return "1:" + base64.b64encode(hashlib.sha1(text, usedforsecurity=False).digest()).decode()


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """What was written of each flow, all of shape (flows,) or (flows, 2), up first; filled block by block."""

    protocol: Ints
    connection: NDArray[np.uint8]  # number in CONNECTIONS
    v6: Bools
    repaired: Bools
    start_ns: Ints
    end_ns: Ints
    packets: Ints
    bytes: Ints

    @classmethod
    def empty(cls, start_ns: Ints, protocol: Ints) -> GroundTruth:
        """Of flows of which only the starts and protocols are known."""
        flows = len(start_ns)
        v6, repaired = (np.zeros(flows, dtype=bool) for _ in range(2))
        packets, size = (np.zeros((flows, 2), np.int64) for _ in range(2))
        return cls(protocol, np.zeros(flows, np.uint8), v6, repaired, start_ns, start_ns.copy(), packets, size)

    @property
    def connections(self) -> dict[str, int]:
        """What became of the TCP connections -> flows; only what occurs."""
        many = np.bincount(self.connection, minlength=len(CONNECTIONS)).tolist()
        return {name: number for name, number in zip(CONNECTIONS, many, strict=True) if name and number}


def connection_numbers(plan: Plan) -> NDArray[np.uint8]:
    """What becomes of each flow's connection: numbers in `CONNECTIONS`, shape (flows,)."""
    ends = np.where(plan.is_attempt, 2 + plan.attempt, 1 + plan.reset)
    return np.where(plan.tcp, ends, 0).astype(np.uint8)


def ground_truth_table(truth: GroundTruth, table: FlowTable | FlowFile, both: Endpoints, seed: int) -> pa.Table:
    """The rows, in the order of the flow table."""
    protocol = truth.protocol
    where = both.where
    packed = []
    for address in (where.client, where.server):
        four, six = address.astype(">u4").view("V4"), v6_addresses(address)
        packed.append([bytes(six[row]) if v6 else four[row].tobytes() for row, v6 in enumerate(truth.v6.tolist())])
    ports = (where.client_port.tolist(), where.server_port.tolist())
    ids = [
        community_id(*each)
        for each in zip(protocol.tolist(), packed[0], ports[0], packed[1], ports[1], strict=True)
    ]  # fmt: skip
    names = [[str(ipaddress.ip_address(each)) for each in side] for side in packed]
    columns: dict[str, Any] = {
        "flow": table.table["flow"],
        "row": np.arange(len(protocol)),
        "label": table.table["label"],
        "community_id": ids,
        "protocol": protocol,
        "connection": [CONNECTIONS[each] for each in truth.connection.tolist()],
        "src": names[0],
        "src_port": ports[0],
        "dst": names[1],
        "dst_port": ports[1],
        "start_ns": truth.start_ns,
        "end_ns": truth.end_ns,
        "up_packets": truth.packets[:, 0],
        "down_packets": truth.packets[:, 1],
        "up_bytes": truth.bytes[:, 0],
        "down_bytes": truth.bytes[:, 1],
        "repaired": truth.repaired,
        "source": table.table["source"],
        "seed": np.full(len(protocol), seed),
    }
    arrays = [
        value.combine_chunks().cast(field.type)
        if isinstance(value, pa.ChunkedArray)
        else pa.array(value).cast(field.type)
        for field, value in ((field, columns[field.name]) for field in SCHEMA)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def write_ground_truth(rows: pa.Table, metadata: dict[str, Any], csv: Path, parquet: Path) -> None:
    """Write the truth as CSV, and as Parquet with notes on how the capture was made."""
    pyarrow.csv.write_csv(rows, csv)
    meta = {METADATA_KEY: json.dumps({"format": FORMAT, "ground_truth": metadata}).encode()}
    pq.write_table(rows.replace_schema_metadata(meta), parquet, compression="zstd")
