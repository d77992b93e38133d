"""Columns of the flow table, and the metadata that its Parquet file carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from netgen.capture.errors import InputError, TableError
from netgen.capture.series.spec import GAP_NS, PACKETS, SeriesSpec
from netgen.capture.table.arrow_utils import string_array, to_arrow

FORMAT = 1
METADATA_KEY = b"netgen"

#: Columns that describe a flow. The channels of its series follow them.
FLOW_COLUMNS = pa.schema(
    [
        pa.field("flow", pa.int64(), nullable=False),  # number of the row when the table was made
        pa.field("label", pa.string()),  # the class; null: not labelled
        pa.field("source", pa.string()),  # capture file, trace file or model it comes from
        pa.field("synthetic", pa.bool_(), nullable=False),
        pa.field("start_ns", pa.int64()),  # time of the first packet, ns since 1970; null: unknown
        pa.field("duration_ns", pa.int64(), nullable=False),  # last packet - first packet
        pa.field("protocol", pa.uint8()),  # IP protocol number
        pa.field("src", pa.string()),  # the initiator
        pa.field("src_port", pa.uint16()),
        pa.field("dst", pa.string()),
        pa.field("dst_port", pa.uint16()),
        pa.field("vlan", pa.uint16()),
        pa.field("server_name", pa.string()),  # null: the capture does not show it
        pa.field("server_name_source", pa.string()),  # tls, quic or dns
        pa.field("packets", pa.int64(), nullable=False),  # of the whole flow
        pa.field("bytes", pa.int64(), nullable=False),  # IP bytes of the whole flow
        pa.field("truncated_packets", pa.int64(), nullable=False),  # of those, beyond the end of the series
    ]
)


def table_schema(spec: SeriesSpec) -> pa.Schema:
    """Return the Arrow schema of a flow table with series of `spec`."""
    element = pa.field("element", pa.int64(), nullable=False)
    series = pa.list_(element, spec.length)
    return pa.schema([*FLOW_COLUMNS, *(pa.field(channel, series, nullable=False) for channel in spec.channels)])


def flow_columns(rows: int, **columns: Any) -> pa.Table:
    """Make the columns of `FLOW_COLUMNS`.

    A column may be a sequence, an Arrow array, or one value for all rows; a missing one is null.
    """
    unknown = set(columns) - set(FLOW_COLUMNS.names)
    if unknown:
        raise InputError(
            f"a flow table has no column {', '.join(sorted(unknown))}", f"It has {', '.join(FLOW_COLUMNS.names)}"
        )
    arrays = [_column(columns.get(field.name), field.type, rows) for field in FLOW_COLUMNS]
    return pa.Table.from_arrays(arrays, schema=FLOW_COLUMNS)


def _column(values: Any, arrow_type: pa.DataType, rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(rows, arrow_type)
    if isinstance(values, str):
        return string_array([values] * rows)
    if isinstance(values, bool | int | np.integer):
        return to_arrow(np.full(rows, values, arrow_type.to_pandas_dtype()))
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, np.ndarray):
        values = to_arrow(values) if values.dtype.kind in "biu" else pa.array(values, from_pandas=True)
    elif not isinstance(values, pa.Array):
        values = string_array(list(values)) if arrow_type == pa.string() else pa.array(list(values), arrow_type)
    return values if values.type == arrow_type else values.cast(arrow_type)


def series_totals(series: np.ndarray, spec: SeriesSpec) -> dict[str, np.ndarray]:
    """Compute bytes, packets and duration of flows from their series; int64, shape (flows,) each."""
    if spec.view == PACKETS:
        size, gap = series[:, 0], series[:, 1]
        volume, packets, duration = np.abs(size).sum(1), (size != 0).sum(1), gap.sum(1) * GAP_NS
    else:
        busy = (series != 0).any(axis=1)
        last = np.where(busy.any(axis=1), spec.length - 1 - busy[:, ::-1].argmax(axis=1), 0)
        volume, packets, duration = series[:, :2].sum((1, 2)), series[:, 2:].sum((1, 2)), last * spec.bin_ns
    return {"bytes": volume, "packets": packets, "duration_ns": duration}


def encode_metadata(spec: SeriesSpec, metadata: dict[str, Any]) -> dict[bytes, bytes]:
    """Encode a table's specification and metadata for its Parquet file."""
    return {METADATA_KEY: json.dumps({"format": FORMAT, "series": spec.to_json(), **metadata}).encode()}


def decode_metadata(parquet_metadata: Mapping[bytes, bytes] | None, path: Path) -> tuple[SeriesSpec, dict[str, Any]]:
    """Decode what `encode_metadata` made; a TableError if it is not a flow table's, or is of another version."""
    try:
        metadata: dict[str, Any] = json.loads((parquet_metadata or {})[METADATA_KEY])
        version = metadata["format"]
    except (KeyError, ValueError, TypeError) as error:
        raise TableError(
            f"{path} is a Parquet file but not a flow table: it has no netgen metadata",
            f"For labelled traces (columns label, t_us, signed_bytes) type: netgen import {path}",
        ) from error
    if "ground_truth" in metadata:
        raise TableError(
            f"{path} is not a flow table, but the ground truth of a capture",
            f"Name that capture, or extract it with these labels: netgen extract CAPTURE --labels {path}",
        )
    if version != FORMAT:
        raise TableError(
            f"{path} is a flow table of format {version}; this netgen reads format {FORMAT}",
            "Extract it again, or use the netgen that wrote it",
        )
    try:
        spec = SeriesSpec.from_json(metadata["series"])
    except (KeyError, TypeError, ValueError) as error:
        raise TableError(
            f"the metadata of {path} does not describe its series", "Make it again with netgen extract or netgen import"
        ) from error
    return spec, {key: value for key, value in metadata.items() if key not in ("format", "series")}
