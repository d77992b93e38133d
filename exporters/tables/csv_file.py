"""Write a flow table as CSV: one row for each flow, one column for each bin and channel."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import FLOW_COLUMNS

_BLOCK_ROWS = 8192  # rows converted at a time


def csv_schema(table: FlowTable) -> pa.Schema:
    """Return the columns of the CSV: `FLOW_COLUMNS`, then ``up_bytes_0, up_bytes_1, ...``, channel by channel."""
    indices = range(table.spec.length)
    bins = [pa.field(f"{channel}_{index}", pa.int64()) for channel in table.spec.channels for index in indices]
    return pa.schema([*FLOW_COLUMNS, *bins])


def write_csv(table: FlowTable, path: Path) -> None:
    """Write all rows to `path`. Null becomes an empty field. The bin width is lost: a CSV file has no metadata."""
    schema = csv_schema(table)
    with pyarrow.csv.CSVWriter(path, schema) as writer:
        for begin in range(0, len(table), _BLOCK_ROWS):
            block = FlowTable(table.table.slice(begin, _BLOCK_ROWS), table.spec)
            bins = block.series().reshape(len(block), -1).T.copy()
            columns = [*(block.table[name].combine_chunks() for name in FLOW_COLUMNS.names), *map(pa.array, bins)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
