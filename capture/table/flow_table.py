"""The flow table: the one thing that passes between the rooms.

A row is a flow (or a whole capture, or one host), with its label, its addresses where it has any,
its totals, and its series: one fixed-size list a channel. The `SeriesSpec` and the account of how
the table came about travel as JSON in the Parquet metadata under the key ``netgen``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netgen.capture.errors import InputError, TableError
from netgen.capture.files import check_output, whole_file
from netgen.capture.series.bins import SparseChannel
from netgen.capture.series.spec import GAP_NS, PACKETS, SeriesSpec
from netgen.capture.table.arrow_utils import numbers, string_array, to_arrow
from netgen.capture.table.sparse_lists import SparseListWriter

if TYPE_CHECKING:
    import pandas

FORMAT = 1

#: Columns with a value of its own in nearly every row, and whether differences from row to row are shorter.
MANY = {"flow": True, "start_ns": True, "duration_ns": True, "src_port": False, "bytes": True}

#: Rows that are written together.
ROW_GROUP = 16_384
METADATA_KEY = b"netgen"

#: Columns before the series' channels: what a flow is, apart from its traffic.
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
        pa.field("server_name", pa.string()),  # name of the server, where the capture shows it
        pa.field("server_name_source", pa.string()),  # what said it: tls, quic or dns
        pa.field("packets", pa.int64(), nullable=False),  # of the whole flow
        pa.field("bytes", pa.int64(), nullable=False),  # IP bytes of the whole flow
        pa.field("truncated_packets", pa.int64(), nullable=False),  # of those, after the last that the series holds
    ]
)


def table_schema(spec: SeriesSpec) -> pa.Schema:
    """The Arrow schema of a flow table with series of `spec`."""
    cell = pa.list_(pa.field("element", pa.int64(), nullable=False), spec.length)
    return pa.schema([*FLOW_COLUMNS, *(pa.field(channel, cell, nullable=False) for channel in spec.channels)])


@dataclasses.dataclass(frozen=True)
class FlowTable:
    """A table of flows with equal series, and what is known of its making.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of `table_schema`.
    spec : SeriesSpec
        What the series' numbers mean.
    about : dict
        JSON-able notes on the making: the command, the account of packets, the model and seed.
    """

    table: pa.Table
    spec: SeriesSpec
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def build(
        cls,
        series: np.ndarray,
        spec: SeriesSpec,
        *,
        metadata: dict[str, Any] | None = None,
        **columns: Any,
    ) -> FlowTable:
        """A table from series of shape (flows, channels, bins) and columns of `FLOW_COLUMNS`.

        A column may be a sequence, an Arrow array, or one value for all rows; what is not given is
        derived from the series (``packets``, ``bytes``, ``duration_ns``) or null.
        """
        series = np.ascontiguousarray(series, dtype=np.int64)
        rows = len(series)
        if series.shape != (rows, *spec.shape):
            raise InputError(f"series of shape {series.shape} do not fit {spec}")
        given = dict(columns)
        given.setdefault("flow", np.arange(rows))
        given.setdefault("synthetic", False)
        given.setdefault("truncated_packets", 0)
        for name, values in totals_of(series, spec).items():
            given.setdefault(name, values)
        return cls.of(flow_columns(rows, **given), series, spec, metadata)

    @classmethod
    def of(
        cls, columns: pa.Table, series: np.ndarray, spec: SeriesSpec, metadata: dict[str, Any] | None = None
    ) -> FlowTable:
        """A table from all columns of `FLOW_COLUMNS`, and series of shape (flows, channels, bins)."""
        schema = table_schema(spec)
        cell = schema.field(len(FLOW_COLUMNS)).type
        arrays = [*columns.columns, *(_cells(series[:, index], cell) for index in range(len(spec.channels)))]
        return cls(pa.Table.from_arrays(arrays, schema=schema), spec, dict(metadata or {}))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"FlowTable({len(self)} flows, {len(self.classes)} classes, {self.spec})"

    @property
    def labels(self) -> np.ndarray:
        """Labels, an object array of str or None, shape (flows,)."""
        return np.array(self.table["label"].to_pylist(), dtype=object)

    @property
    def classes(self) -> list[str]:
        """The classes that occur, sorted."""
        return sorted({label for label in self.table["label"].to_pylist() if label is not None})

    def counts(self) -> dict[str, int]:
        """Flows a class, in the order of `classes`; flows without a label are not counted."""
        names, number = np.unique([label for label in self.labels if label is not None], return_counts=True)
        return {str(name): int(n) for name, n in zip(names, number, strict=True)}

    def series(self) -> np.ndarray:
        """The series, int64, shape (flows, channels, bins)."""
        out = np.empty((len(self), *self.spec.shape), dtype=np.int64)
        for index, channel in enumerate(self.spec.channels):
            out[:, index] = _lists(self.table[channel], self.spec.length)
        return out

    def to_numpy(self) -> tuple[np.ndarray, np.ndarray]:
        """Series and labels: ``X`` int64 (flows, channels, bins) and ``y`` object (flows,)."""
        return self.series(), self.labels

    def summary(self) -> dict[str, Any]:
        """What the table holds, as JSON types: classes with their totals, totals of all, series, and `metadata`."""
        tally = TableSummary()
        tally.add(self.table)
        return tally.summary(self.spec, self.metadata)

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a pandas DataFrame (pandas must be installed)."""
        return self.table.to_pandas()

    def take(self, rows: np.ndarray | Sequence[int]) -> FlowTable:
        """The rows of a boolean mask or of indices, in that order."""
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        return dataclasses.replace(self, table=self.table.take(pa.array(rows, pa.int64())))

    def labelled(self) -> FlowTable:
        """The rows that have a label.

        Raises
        ------
        TableError
            If none has.
        """
        keep = self.table["label"].is_valid().to_numpy()
        if not keep.any():
            raise TableError(
                f"none of the {len(self)} flows has a label",
                "Label them when they are extracted: netgen extract --label NAME, "
                "--label-by folder|file|sni or --labels FILE.csv",
            )
        return self if keep.all() else self.take(keep)

    def write(self, path: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write the table as Parquet: whole or not at all."""
        with TableWriter(path, self.spec, force=force) as writer:
            writer.metadata = self.metadata
            for batch in range(0, len(self), ROW_GROUP):
                writer.write_table(self.table.slice(batch, ROW_GROUP))
        return writer.path

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, rows: bool = True) -> FlowTable:
        """Read what `write` wrote; without `rows`, all but them.

        Raises
        ------
        TableError
            If the file is no flow table, or one of another version.
        """
        path = Path(path)
        if not path.is_file():
            raise TableError(
                f"{path} {'is a folder' if path.is_dir() else 'does not exist'}",
                "Make a flow table with netgen extract or netgen import",
            )
        try:
            table = pq.read_table(path) if rows else pq.read_schema(path).empty_table()
            meta = read_metadata(pq.read_metadata(path).metadata, path)
            columns = set(table.column_names)
        except (pa.ArrowException, ValueError, OSError) as error:  # ValueError: a name that is no UTF-8
            raise TableError(
                f"{path} is no flow table: {str(error).splitlines()[0]}",
                "Make one with: netgen extract CAPTURE -o FILE.parquet",
            ) from error
        try:
            spec = SeriesSpec.from_json(meta["series"])
        except (KeyError, TypeError, ValueError) as error:
            raise TableError(
                f"{path} does not say what its series are", "Make it anew with netgen extract or netgen import"
            ) from error
        expected = table_schema(spec)
        missing = set(expected.names) - columns
        if missing:
            raise TableError(
                f"{path} lacks the columns {', '.join(sorted(missing))}",
                "Make it anew with netgen extract or netgen import",
            )
        try:
            table = table.select(expected.names).cast(expected)
        except (pa.ArrowException, ValueError) as error:
            raise TableError(
                f"{path} has columns of another type: {str(error).splitlines()[0]}",
                "Make it anew with netgen extract or netgen import",
            ) from error
        metadata = {key: value for key, value in meta.items() if key not in ("format", "series")}
        return cls(table, spec, metadata)


def totals_of(series: np.ndarray, spec: SeriesSpec) -> dict[str, np.ndarray]:
    """Bytes, packets and duration of flows of which there is nothing but their series; int64 (flows,) each."""
    if spec.view == PACKETS:
        size, gap = series[:, 0], series[:, 1]
        volume, number, duration = np.abs(size).sum(1), (size != 0).sum(1), gap.sum(1) * GAP_NS
    else:
        busy = (series != 0).any(axis=1)
        last = np.where(busy.any(axis=1), spec.length - 1 - busy[:, ::-1].argmax(axis=1), 0)
        volume, number, duration = series[:, :2].sum((1, 2)), series[:, 2:].sum((1, 2)), last * spec.bin_ns
    return {"bytes": volume, "packets": number, "duration_ns": duration}


def read_metadata(metadata: Mapping[bytes, bytes] | None, path: Path) -> dict[str, Any]:
    """netgen's own part of a Parquet file's metadata, checked for its version."""
    try:
        meta: dict[str, Any] = json.loads((metadata or {})[METADATA_KEY])
        version = meta["format"]
    except (KeyError, ValueError, TypeError) as error:
        raise TableError(
            f"{path} is a Parquet file but no flow table: it has no netgen metadata",
            f"For labelled traces (columns label, t_us, signed_bytes) type: netgen import {path}",
        ) from error
    if "ground_truth" in meta:
        raise TableError(
            f"{path} is no flow table, but what is known of a capture's flows",
            "Name that capture, or extract it with these labels: netgen extract CAPTURE --labels " + str(path),
        )
    if version != FORMAT:
        raise TableError(
            f"{path} is a flow table of format {version}; this netgen reads format {FORMAT}",
            "Extract it anew, or use the netgen that wrote it",
        )
    return meta


class TableSummary:
    """Counts what a table holds, some rows at a time."""

    _TOTALS = ("packets", "bytes", "truncated_packets")

    def __init__(self) -> None:
        self._classes: dict[str | None, dict[str, int]] = {}
        self._synthetic = 0

    def add(self, table: pa.Table) -> None:
        """Count rows; `table` has the columns of `FLOW_COLUMNS`."""
        column = table["label"]
        labels = [None] * len(table) if column.null_count == len(table) else column.to_pylist()
        names = list(dict.fromkeys(labels))
        row = {name: number for number, name in enumerate(names)}
        only = len(names) == 1
        which = np.zeros(len(labels), np.int64) if only else np.array([row[label] for label in labels], np.int64)
        none = np.zeros(0, np.int64)
        totals = {name: np.concatenate([none, *map(numbers, table[name].chunks)]) for name in self._TOTALS}
        for name, number in row.items():
            mine = self._classes.setdefault(name, dict.fromkeys(("flows", *self._TOTALS), 0))
            rows = which == number
            mine["flows"] += int(rows.sum())
            for total in self._TOTALS:
                mine[total] += int(totals[total][rows].sum())
        self._synthetic += sum(_trues(each) for each in table["synthetic"].chunks)

    def summary(self, spec: SeriesSpec, metadata: dict[str, Any]) -> dict[str, Any]:
        """See `FlowTable.summary`."""
        rows = self._classes
        totals = {name: sum(row[name] for row in rows.values()) for name in ("flows", *self._TOTALS)}
        return {
            "flows": totals.pop("flows"),
            "classes": {name: rows[name] for name in sorted(each for each in rows if each is not None)},
            "unlabelled": rows[None]["flows"] if None in rows else 0,
            "synthetic": self._synthetic,
            **totals,
            "series": spec.to_json(),
            **metadata,
        }


class TableWriter:
    """Writes a flow table to a Parquet file, some rows at a time: whole or not at all.

    Parameters
    ----------
    path : str or Path
        Where to; refused where it exists, unless `force`.
    spec : SeriesSpec
        Of the series to come.

    Attributes
    ----------
    about : dict
        Written at the end, see `FlowTable`.
    """

    def __init__(self, path: str | os.PathLike[str], spec: SeriesSpec, *, force: bool = False) -> None:
        self.path = check_output(path, force=force)
        self.spec = spec
        self.metadata: dict[str, Any] = {}
        self._schema = table_schema(spec)
        self._stack = contextlib.ExitStack()
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> TableWriter:
        with contextlib.ExitStack() as stack:  # on a full disk, not even the beginning can be written
            temporary = stack.enter_context(whole_file(self.path))
            self._lists = SparseListWriter(
                stack.enter_context(temporary.open("w+b")), self._schema, len(FLOW_COLUMNS), MANY
            )
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _finish(self, kind: type[BaseException] | None, *_: Any) -> None:
        try:
            with self._thread:
                if kind is None:
                    self._wait()
            if kind is None:
                meta = {"format": FORMAT, "series": self.spec.to_json(), **self.metadata}
                self._lists.finish({METADATA_KEY: json.dumps(meta).encode()})
        finally:
            self._lists.abandon()

    def write(self, columns: pa.Table, series: np.ndarray | Sequence[SparseChannel]) -> None:
        """Rows of all columns of `FLOW_COLUMNS`, and their series, (flows, channels, bins) or each channel's `SparseChannel`.

        They are written while the caller makes the next ones.
        """
        cells = (
            [SparseChannel.of(series[:, channel]) for channel in range(len(self.spec.channels))]
            if isinstance(series, np.ndarray)
            else series
        )
        for each in cells:
            if (each.rows, each.length) != (len(columns), self.spec.length):
                raise InputError(
                    f"series of {each.rows} rows of {each.length} bins do not fit {len(columns)} rows of {self.spec}"
                )
        self._wait()
        self._writing = self._thread.submit(self._write, columns, cells)

    def write_table(self, table: pa.Table) -> None:
        """Rows of a table of `table_schema`."""
        lists = [_lists(table[channel], self.spec.length) for channel in self.spec.channels]
        self.write(table.select(FLOW_COLUMNS.names), [SparseChannel.of(each) for each in lists])

    def _write(self, columns: pa.Table, cells: Sequence[SparseChannel]) -> None:
        for first in range(0, len(columns), ROW_GROUP):
            last = min(first + ROW_GROUP, len(columns))
            self._lists.write(columns.slice(first, ROW_GROUP), [each.slice(first, last) for each in cells])

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()


def _trues(column: pa.BooleanArray) -> int:
    """How many are true of a column without nulls."""
    bits = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    return int(np.unpackbits(bits, count=column.offset + len(column), bitorder="little")[column.offset :].sum())


def flow_columns(rows: int, **given: Any) -> pa.Table:
    """Columns of `FLOW_COLUMNS`: a sequence, an Arrow array, or one value for all rows; null where not given."""
    unknown = set(given) - set(FLOW_COLUMNS.names)
    if unknown:
        raise InputError(f"a flow table has no column {sorted(unknown)}")
    return pa.Table.from_arrays(
        [_column(given.get(field.name), field.type, rows) for field in FLOW_COLUMNS], schema=FLOW_COLUMNS
    )


def _cells(values: np.ndarray, cell: pa.DataType) -> pa.Array:
    """A channel of series, (flows, bins), as a column of lists."""
    return pa.FixedSizeListArray.from_arrays(to_arrow(values.reshape(-1)), type=cell)


def _lists(column: pa.ChunkedArray, length: int) -> np.ndarray:
    """A column of lists as numbers, (rows, length)."""
    parts = [each.flatten().to_numpy() for each in column.chunks]
    return (np.concatenate(parts) if parts else np.zeros(0, np.int64)).reshape(-1, length)


def concat(tables: Iterable[FlowTable]) -> FlowTable:
    """Tables of equal series as one, rows numbered anew.

    Raises
    ------
    SpecMismatch
        If their series differ.
    """
    tables = list(tables)
    if not tables:
        raise TableError("no flow table was given", "Name at least one")
    first = tables[0]
    for number, other in enumerate(tables[1:], start=2):
        first.spec.require_equal(
            other.spec, "the first table", f"table {number}", hint="Cut all like one of them: --like FILE"
        )
    joined = pa.concat_tables([each.table for each in tables]).combine_chunks()
    joined = joined.set_column(0, FLOW_COLUMNS.field("flow"), to_arrow(np.arange(joined.num_rows)))
    return FlowTable(
        joined, first.spec, dict(first.metadata) if len(tables) == 1 else {"tables": [t.metadata for t in tables]}
    )


def _column(values: Any, kind: pa.DataType, rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(rows, kind)
    if isinstance(values, str):
        return string_array([values] * rows)
    if isinstance(values, bool | int | np.integer):
        return to_arrow(np.full(rows, values, kind.to_pandas_dtype()))
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, np.ndarray):
        values = to_arrow(values) if values.dtype.kind in "biu" else pa.array(values, from_pandas=True)
    elif not isinstance(values, pa.Array):
        values = string_array(list(values)) if kind == pa.string() else pa.array(list(values), kind)
    return values if values.type == kind else values.cast(kind)
