"""What callers, compiled functions and their plain versions agree on: columns, their order, options."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

#: Columns of parsed headers, in the order of the C struct, with their types.
HEADER_FIELDS: dict[str, type[np.generic]] = {
    "size": np.int64,
    "version": np.uint8,
    "protocol": np.uint8,
    "flags": np.uint8,
    "src_high": np.uint64,
    "src_low": np.uint64,
    "dst_high": np.uint64,
    "dst_low": np.uint64,
    "src_port": np.int32,
    "dst_port": np.int32,
    "payload_at": np.int64,
    "payload_length": np.int64,
    "seq": np.uint32,
    "fragment": np.uint8,
    "fragment_id": np.uint32,
    "fingerprint": np.uint32,
}

#: State of a key's open flow, and columns of flows, in the order of the C structs.
OPEN_COLUMNS = ("flow", "clock", "seen", "seq_forward", "seq_back", "mark", "size", "time_ns")
FLOW_COLUMNS = ("key", "start_ns", "end_ns", "packets", "bytes", "up", "by", "begun", "capture", "number")

#: Cells of one direction, their bytes and their packets.
DirectionCells = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, slots=True)
class RecordLayout:
    """How the records of a pcap file look."""

    order: Literal["<", ">"]  # byte order
    header: int  # bytes of a record header
    limit: int  # longest packet that is believed, in bytes
    unit_ns: int  # nanoseconds of one unit of the fraction of a second


@dataclasses.dataclass(frozen=True, slots=True)
class LikelyTimes:
    """The time stamps expected in a file, in seconds since 1970, both inclusive."""

    first: int
    last: int


@dataclasses.dataclass(frozen=True, slots=True)
class Timeouts:
    """When a flow ends, and how soon a packet must come again to be a repeat, in nanoseconds."""

    idle: int
    active: int | None
    repeat: int
