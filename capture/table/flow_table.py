"""The flow table: one row a flow, with its label, addresses, totals and series.

A row may also be a host or a whole capture. The series is one fixed-size list a channel. The
`SeriesSpec` and the metadata are JSON in the Parquet file's metadata, under the key ``netgen``.
"""

from __future__ import annotations

import dataclasses
import html
import importlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netgen.capture.errors import InputError, TableError, did_you_mean
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.arrow_utils import lists_to_numpy, to_arrow
from netgen.capture.table.schema import FLOW_COLUMNS, decode_metadata, flow_columns, series_totals, table_schema
from netgen.capture.table.summary import TableSummary
from netgen.capture.table.writer import TableWriter

if TYPE_CHECKING:
    import pandas

PathLike = str | os.PathLike[str]

_MAKE_AGAIN = "Make it again with netgen extract or netgen import"


@dataclasses.dataclass(frozen=True, repr=False)
class FlowTable:
    """A table of flows with series of one specification.

    ``flows["netflix"]`` selects a class, ``flows[3]`` a flow; slices, boolean masks and arrays of
    indices work too. Each gives a FlowTable.

    Parameters
    ----------
    table : pyarrow.Table
        Columns of `table_schema`.
    spec : SeriesSpec
        What the series' numbers mean.
    metadata : dict
        How the table was made, as JSON types: the command, the read report, the model and seed.
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
        """Make a table from series, shape (flows, channels, bins), and columns of `FLOW_COLUMNS`.

        A column may be a sequence, an Arrow array, or one value for all rows. A missing one is
        computed from the series (``packets``, ``bytes``, ``duration_ns``) or null.
        """
        series = np.ascontiguousarray(series, dtype=np.int64)
        rows = len(series)
        if series.shape != (rows, *spec.shape):
            raise InputError(f"series of shape {series.shape} do not fit {spec}")
        defaults = {"flow": np.arange(rows), "synthetic": False, "truncated_packets": 0, **series_totals(series, spec)}
        return cls.from_columns(flow_columns(rows, **{**defaults, **columns}), series, spec, metadata)

    @classmethod
    def from_columns(
        cls, columns: pa.Table, series: np.ndarray, spec: SeriesSpec, metadata: dict[str, Any] | None = None
    ) -> FlowTable:
        """Make a table from all columns of `FLOW_COLUMNS`, and series of shape (flows, channels, bins)."""
        schema = table_schema(spec)
        list_type = schema.field(len(FLOW_COLUMNS)).type
        channels = [to_arrow(series[:, channel].reshape(-1)) for channel in range(len(spec.channels))]
        lists = [pa.FixedSizeListArray.from_arrays(values, type=list_type) for values in channels]
        return cls(pa.Table.from_arrays([*columns.columns, *lists], schema=schema), spec, dict(metadata or {}))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"FlowTable({len(self)} flows, {len(self.classes)} classes, {self.spec})"

    def _repr_html_(self) -> str:
        rows = [
            (name, *(f"{row[key]:,}" for key in ("flows", "packets", "bytes")))
            for name, row in self.summary()["classes"].items()
        ]
        cells = ("".join(f"<td>{html.escape(text)}</td>" for text in row) for row in rows)
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        return (
            f"<p>{html.escape(repr(self))}</p><table>"
            "<thead><tr><th>class</th><th>flows</th><th>packets</th><th>bytes</th></tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )

    def __getitem__(self, key: str | int | slice | np.ndarray | Sequence[int] | Sequence[bool]) -> FlowTable:
        """Select the flows of a class, or by number, slice, boolean mask or indices.

        Raises
        ------
        InputError
            If no flow has this class.
        """
        if not isinstance(key, str):
            return self.take(np.atleast_1d(np.arange(len(self))[key]))
        if key not in self.classes:
            hint = did_you_mean(key, self.classes) or f"Its classes: {', '.join(self.classes) or 'none'}"
            raise InputError(f"no flow of this table has the class {key!r}", hint)
        return self.take(self.labels == key)

    @property
    def labels(self) -> np.ndarray:
        """Labels, an object array of str or None, shape (flows,)."""
        return np.array(self.table["label"].to_pylist(), dtype=object)

    @property
    def classes(self) -> list[str]:
        """The classes that occur, sorted."""
        return sorted({label for label in self.table["label"].to_pylist() if label is not None})

    def counts(self) -> dict[str, int]:
        """Count the flows of each class, in the order of `classes`; flows without a label are not counted."""
        names, counts = np.unique([label for label in self.labels if label is not None], return_counts=True)
        return {str(name): int(count) for name, count in zip(names, counts, strict=True)}

    def series(self) -> np.ndarray:
        """Return the series, int64, shape (flows, channels, bins)."""
        series = np.empty((len(self), *self.spec.shape), dtype=np.int64)
        for index, channel in enumerate(self.spec.channels):
            series[:, index] = lists_to_numpy(self.table[channel], self.spec.length)
        return series

    def to_numpy(self) -> tuple[np.ndarray, np.ndarray]:
        """Return series and labels: ``X`` int64 (flows, channels, bins) and ``y`` object (flows,)."""
        return self.series(), self.labels

    def to_pandas(self) -> pandas.DataFrame:
        """Return the table as a pandas DataFrame (pandas must be installed)."""
        return self.table.to_pandas()

    def plot(
        self, classes: str | Sequence[str] | None = None, n: int = 3, channel: str | None = None, ax: Any = None
    ) -> Any:
        """Plot `n` flows of each class; parameters and result are those of `netgen.plotting.plot_flows`."""
        plotting = importlib.import_module("netgen.plotting")  # a layer above this one
        return plotting.plot_flows(self, classes, n, channel, ax)

    def summary(self) -> dict[str, Any]:
        """Return classes with their totals, totals of all flows, the specification and `metadata`, as JSON types."""
        summary = TableSummary()
        summary.add(self.table)
        return summary.summary(self.spec, self.metadata)

    def take(self, rows: np.ndarray | Sequence[int]) -> FlowTable:
        """Return the rows of a boolean mask or of indices, in that order."""
        rows = np.asarray(rows)
        if rows.dtype == bool:
            rows = np.flatnonzero(rows)
        return dataclasses.replace(self, table=self.table.take(pa.array(rows, pa.int64())))

    def head(self, n: int = 5) -> FlowTable:
        """Return the first `n` flows."""
        return self[:n]

    def labelled(self) -> FlowTable:
        """Return the rows that have a label.

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
        """Write the table as Parquet; the file appears when it is complete."""
        with TableWriter(path, self.spec, force=force) as writer:
            writer.metadata = self.metadata
            writer.write_table(self.table)
        return writer.path

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, rows: bool = True) -> FlowTable:
        """Read what `write` wrote; without `rows`, everything but the rows.

        Raises
        ------
        TableError
            If the file is not a flow table, or one of another version.
        """
        path = Path(path)
        if not path.is_file():
            raise TableError(
                f"{path} {'is a folder' if path.is_dir() else 'does not exist'}",
                "Make a flow table with netgen extract or netgen import",
            )
        try:
            table = pq.read_table(path) if rows else pq.read_schema(path).empty_table()
            names = set(table.column_names)
            spec, metadata = decode_metadata(pq.read_metadata(path).metadata, path)
        except (pa.ArrowException, ValueError, OSError) as error:  # ValueError: a column name that is not UTF-8
            raise TableError(
                f"{path} is not a flow table: {str(error).splitlines()[0]}",
                "Make one with: netgen extract CAPTURE -o FILE.parquet",
            ) from error
        schema = table_schema(spec)
        missing = [name for name in schema.names if name not in names]
        if missing:
            raise TableError(f"{path} lacks the columns {', '.join(sorted(missing))}", _MAKE_AGAIN)
        try:
            return cls(table.select(schema.names).cast(schema), spec, metadata)
        except (pa.ArrowException, ValueError) as error:
            raise TableError(
                f"{path} has columns of another type: {str(error).splitlines()[0]}", _MAKE_AGAIN
            ) from error


def read_tables(flows: FlowTable | PathLike | Sequence[FlowTable | PathLike]) -> list[FlowTable]:
    """Read the tables among `flows` that are given as paths."""
    given = [flows] if isinstance(flows, FlowTable | str | os.PathLike) else flows
    return [table if isinstance(table, FlowTable) else FlowTable.read(table) for table in given]


def concat(tables: Iterable[FlowTable | PathLike]) -> FlowTable:
    """Join tables of equal series, or the tables at paths, with rows numbered from 0.

    Raises
    ------
    SpecMismatchError
        If their series differ.
    """
    read = read_tables(list(tables))
    if not read:
        raise TableError("no flow table was given", "Name at least one")
    first = read[0]
    for number, other in enumerate(read[1:], start=2):
        first.spec.require_equal(
            other.spec, "the first table", f"table {number}", hint="Give all the same series: --spec-from FILE"
        )
    joined = pa.concat_tables([table.table for table in read]).combine_chunks()
    joined = joined.set_column(0, FLOW_COLUMNS.field("flow"), to_arrow(np.arange(joined.num_rows)))
    metadata = dict(first.metadata) if len(read) == 1 else {"tables": [table.metadata for table in read]}
    return FlowTable(joined, first.spec, metadata)
