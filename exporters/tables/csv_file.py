"""Flow table -> CSV: one row a flow, one column a bin and channel."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from netgen.capture.table.flow_table import FLOW_COLUMNS, FlowTable

_BLOCK = 8192  # rows flattened at a time


def csv_schema(table: FlowTable) -> pa.Schema:
    """Columns of the CSV: those of `FLOW_COLUMNS`, then ``up_bytes_0, up_bytes_1, ...`` channel by channel."""
    bins = [
        pa.field(f"{channel}_{index}", pa.int64())
        for channel in table.spec.channels
        for index in range(table.spec.length)
    ]
    return pa.schema([*FLOW_COLUMNS, *bins])


def write_csv(table: FlowTable, path: Path) -> None:
    """Write all rows to `path`; null becomes an empty field. A CSV has no metadata, so the bin width is not in it."""
    schema = csv_schema(table)
    with pyarrow.csv.CSVWriter(path, schema) as writer:
        for at in range(0, len(table), _BLOCK):
            part = FlowTable(table.table.slice(at, _BLOCK), table.spec)
            flat = part.series().reshape(len(part), -1)
            leading = [part.table[name].combine_chunks() for name in FLOW_COLUMNS.names]
            columns = [*leading, *(pa.array(column) for column in flat.T.copy())]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
