"""A flow table in a file, of which the series are read when they are needed: they take most of the memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import FLOW_COLUMNS

_KEPT = 1  # row groups that are kept in memory


class FlowFile:
    """A flow table that `FlowTable.read` could read; its rows are had by `take`.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    table : pyarrow.Table
        Columns of `FLOW_COLUMNS`, of all rows.
    spec : SeriesSpec
    about : dict
        As of `FlowTable`.

    Raises
    ------
    TableError
        If the file is no flow table.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        none = FlowTable.read(path, rows=False)
        self.path, self.spec, self.metadata = Path(path), none.spec, dict[str, Any](none.metadata)
        self._schema = none.table.schema
        self._file = pq.ParquetFile(path)
        self.table: pa.Table = self._file.read(FLOW_COLUMNS.names).select(FLOW_COLUMNS.names).cast(FLOW_COLUMNS)
        groups = range(self._file.num_row_groups)
        self._edges = np.r_[0, np.cumsum([self._file.metadata.row_group(each).num_rows for each in groups])]
        self._groups: dict[int, FlowTable] = {}

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def take(self, rows: np.ndarray) -> FlowTable:
        """The rows of these indices, in that order; quick where they are near each other."""
        rows = np.asarray(rows)
        group = np.searchsorted(self._edges, rows, side="right") - 1
        order = np.argsort(group, kind="stable")
        parts = [
            self._group(int(each)).take(rows[group == each] - self._edges[each]).table for each in np.unique(group)
        ]
        table = pa.concat_tables(parts) if parts else self._group(0).take(rows).table
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return FlowTable(table.combine_chunks(), self.spec, self.metadata).take(back)

    def _group(self, number: int) -> FlowTable:
        if number not in self._groups:
            while len(self._groups) >= _KEPT:
                del self._groups[next(iter(self._groups))]
                pa.default_memory_pool().release_unused()
            found = self._file.read_row_group(number, use_threads=False).select(self._schema.names)
            self._groups[number] = FlowTable(found.cast(self._schema), self.spec, self.metadata)
        return self._groups[number]

    def scattered(self, rows: np.ndarray, block: int) -> bool:
        """Whether to take all rows in this order, some at a time, means to read row groups again and again."""
        group = np.searchsorted(self._edges, rows, side="right") - 1
        reads = sum(len(np.unique(group[at : at + block])) for at in range(0, len(rows), block))
        return len(self._edges) - 1 > _KEPT and reads > len(rows) // block + 4 * len(self._edges)
