"""Write a flow table to a Parquet file, a block of rows at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from netgen.capture.errors import InputError
from netgen.capture.files import atomic_file, check_output
from netgen.capture.series.counters import SparseChannel
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.arrow_utils import lists_to_numpy
from netgen.capture.table.schema import FLOW_COLUMNS, encode_metadata, table_schema
from netgen.capture.table.sparse_lists import SparseListWriter

#: Rows in a row group of the file.
ROW_GROUP = 16_384

#: Columns with a value of its own in nearly every row, and whether differences from row to row are shorter.
DISTINCT_COLUMNS = {"flow": True, "start_ns": True, "duration_ns": True, "src_port": False, "bytes": True}


class TableWriter:
    """Write a flow table block by block; the file appears when it is complete, and replaces another only with `force`.

    `metadata` is written at the end, see `netgen.capture.table.flow_table.FlowTable`.
    """

    def __init__(self, path: str | os.PathLike[str], spec: SeriesSpec, *, force: bool = False) -> None:
        self.path = check_output(path, force=force)
        self.spec = spec
        self.metadata: dict[str, Any] = {}
        self._stack = contextlib.ExitStack()
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> TableWriter:
        with contextlib.ExitStack() as stack:  # on a full disk, opening the file may fail already
            temporary = stack.enter_context(atomic_file(self.path))
            file = stack.enter_context(temporary.open("w+b"))
            self._lists = SparseListWriter(file, table_schema(self.spec), len(FLOW_COLUMNS), DISTINCT_COLUMNS)
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _finish(self, error: type[BaseException] | None, *_: Any) -> None:
        try:
            with self._thread:
                if error is None:
                    self._wait()
            if error is None:
                self._lists.finish(encode_metadata(self.spec, self.metadata))
        finally:
            self._lists.abandon()

    def write(self, columns: pa.Table, series: np.ndarray | Sequence[SparseChannel]) -> None:
        """Write a block of rows, while the caller makes the next one.

        `columns` are all of `FLOW_COLUMNS`; `series` is int64, (flows, channels, bins), or a SparseChannel for each
        channel.
        """
        channels = (
            [SparseChannel.of(series[:, channel]) for channel in range(len(self.spec.channels))]
            if isinstance(series, np.ndarray)
            else series
        )
        for channel in channels:
            if (channel.rows, channel.length) != (len(columns), self.spec.length):
                raise InputError(
                    f"series of {channel.rows} rows of {channel.length} bins do not fit "
                    f"{len(columns)} rows of {self.spec}"
                )
        self._wait()
        self._writing = self._thread.submit(self._write, columns, channels)

    def write_table(self, table: pa.Table) -> None:
        """Write a table with the columns of `table_schema`."""
        for first in range(0, len(table), ROW_GROUP):
            block = table.slice(first, ROW_GROUP)
            series = [lists_to_numpy(block[channel], self.spec.length) for channel in self.spec.channels]
            self.write(block.select(FLOW_COLUMNS.names), [SparseChannel.of(channel) for channel in series])

    def _write(self, columns: pa.Table, channels: Sequence[SparseChannel]) -> None:
        for first in range(0, len(columns), ROW_GROUP):
            last = min(first + ROW_GROUP, len(columns))
            self._lists.write(columns.slice(first, ROW_GROUP), [channel.slice(first, last) for channel in channels])

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
