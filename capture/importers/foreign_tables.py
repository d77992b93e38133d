"""Read flow tables without netgen's metadata: of other tools, or netgen's own CSV.

Such a file has a column of lists for each channel (``up_bytes``: 128 numbers a row), or a column
for each bin (``up_bytes_0``, ``up_bytes_1``, ...), and perhaps one named label. It does not give the
bin width. A file with sizes and gaps instead holds series of packets.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from netgen.capture.errors import TableError
from netgen.capture.series.spec import BINS, CHANNELS, NS, PACKETS, VIEWS, SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import FLOW_COLUMNS, METADATA_KEY

#: Names of the column that holds the class, in any case.
LABELS = ("label", "class")

#: Columns that are taken over as they are.
_KEPT = ("source", "start_ns", "src", "dst", "server_name")

_NEED = (
    f"It needs the columns {', '.join(CHANNELS)}, or {' and '.join(VIEWS[PACKETS])}, each with a list of numbers "
    "a row, or one column a bin (up_bytes_0)"
)


def read_table(path: str | os.PathLike[str], *, spec_from: SeriesSpec | None = None) -> FlowTable:
    """Read a flow table: netgen's Parquet, or a Parquet or CSV file with the columns described above.

    Bins are as wide as those of `spec_from`, by default a second. It is a TableError if the file is neither.
    """
    path = Path(path)
    if not path.is_file():
        return FlowTable.read(path)  # raises the error
    try:
        if path.suffix.lower() == ".csv":
            table = pacsv.read_csv(path)
        else:
            metadata = pq.read_metadata(path).metadata or {}
            if METADATA_KEY in metadata:
                return FlowTable.read(path)
            table = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableError(f"{path} is not a flow table: {str(error).splitlines()[0]}", _NEED) from error
    try:
        view = PACKETS if _has(table, VIEWS[PACKETS]) and not _has(table, CHANNELS) else BINS
        series = np.stack([_channel(table, channel) for channel in VIEWS[view]], axis=1)
    except (KeyError, ValueError, pa.ArrowException) as error:
        reason = error.args[0] if error.args else "?"
        raise TableError(f"{path} is not a flow table: {str(reason).splitlines()[0]}", _NEED) from error
    amounts = series if view == BINS else series[:, 1:]
    if amounts.size and amounts.min() < 0:
        raise TableError(
            f"{path} has negative numbers in its series", "Bytes and packets of a bin, and gaps, are 0 or more"
        )
    series = np.pad(series, ((0, 0), (0, 0), (0, -series.shape[2] % 4)))
    width = spec_from.bin_ns if spec_from is not None and spec_from.view == BINS else NS
    length = series.shape[2]
    spec = SeriesSpec(bin_ns=width, length=length) if view == BINS else SeriesSpec.packets(length)
    known = {name: table[name] for name in _KEPT if name in table.column_names}
    columns = {name: _cast(column, FLOW_COLUMNS.field(name).type) for name, column in known.items()}
    label = next((name for name in table.column_names if name.lower() in LABELS), None)
    if label is not None:
        columns["label"] = _cast(table[label], pa.string())
    columns.setdefault("source", path.name)
    return FlowTable.build(series, spec, metadata={"made_by": "other", "file": str(path)}, **columns)


def _has(table: pa.Table, channels: tuple[str, ...]) -> bool:
    """Return whether there are columns of any of these, as lists or as numbers."""
    return any(not {channel, f"{channel}_0"}.isdisjoint(table.column_names) for channel in channels)


def _cast(column: pa.ChunkedArray, arrow_type: pa.DataType) -> pa.Array:
    return column.cast(arrow_type).combine_chunks()


def _channel(table: pa.Table, channel: str) -> np.ndarray:
    """Return a channel's numbers, int64 (rows, bins)."""
    if channel in table.column_names:
        column = table[channel]
        kind = column.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            raise ValueError(f"its column {channel} holds {kind}, not lists")
        flat = pa.chunked_array([chunk.flatten() for chunk in column.chunks], kind.value_type)
        bins = len(flat) // max(len(column), 1)
        if column.null_count or flat.null_count:
            raise ValueError(f"its column {channel} has empty fields")
        if pc.list_value_length(column).to_pylist() != [bins] * len(column):
            raise ValueError(f"the lists of its column {channel} are of several lengths")
        return _to_integers(flat, channel).reshape(len(column), bins)
    numbered = {
        int(match[1]): name for name in table.column_names if (match := re.fullmatch(rf"{channel}_(\d+)", name))
    }
    if sorted(numbered) != list(range(len(numbered) or 1)):
        raise KeyError(f"columns {channel}_... have gaps" if numbered else f"there is no column {channel}")
    columns = [table[numbered[index]] for index in range(len(numbered))]
    if any(column.null_count for column in columns):
        raise ValueError(f"its columns {channel}_... have empty fields")
    return np.stack([_to_integers(column, channel) for column in columns], axis=1)


def _to_integers(column: pa.ChunkedArray, channel: str) -> np.ndarray:
    """Convert to integers; refuse fractions."""
    try:
        return column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise ValueError(f"its column {channel} holds a value that is not a whole number: {error}") from error
