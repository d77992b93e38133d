"""Import labelled traces that are not captures: one row a trace, or CSV files of time, size, direction."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from netgen.capture.errors import InputError, TableError
from netgen.capture.labels.options import check_label
from netgen.capture.series.counters import count_packets
from netgen.capture.series.spec import BINS, DEFAULT_LENGTH, LONGEST_NS, NS, SeriesSpec, spec_from_options
from netgen.capture.table.flow_table import FlowTable

MTU = 1500  # IP bytes of the largest packet on Ethernet
MIN_IP_BYTES = 20  # an IPv4 header

#: Added to a trace's sizes to get IP bytes, by what the sizes count.
SIZE_UNITS = {
    "frame": -14,  # Ethernet frames: less the Ethernet header
    "ip": 0,
    "payload": 40,  # TCP payload (Tor cells): plus the IPv4 and TCP headers
}

ADDED = "packets added by splitting them"


@dataclasses.dataclass
class TracePackets:
    """Packets of traces in columns of int64, shape (packets,); labels, sources and splits have one entry a trace."""

    trace: np.ndarray  # row of the trace, 0 to ``len(labels) - 1``
    time_ns: np.ndarray
    size: np.ndarray  # positive: from client to server; negative: to the client
    labels: list[str | None]
    sources: list[str | None]
    splits: list[str]  # empty where the file has none

    def take(self, packets: np.ndarray) -> TracePackets:
        """Select packets by a mask or by indices; all traces stay."""
        return dataclasses.replace(
            self, trace=self.trace[packets], time_ns=self.time_ns[packets], size=self.size[packets]
        )


def import_traces(
    path: str | os.PathLike[str],
    *,
    size_unit: str = "ip",
    split: str | Sequence[str] | None = None,
    label: str | None = None,
    relabel: Mapping[str, str] | None = None,
    spec: SeriesSpec | None = None,
    bin_ns: int | None = None,
    length: int = DEFAULT_LENGTH,
    view: str = BINS,
    min_packets: int = 1,
) -> FlowTable:
    """Import labelled traces as a flow table.

    Parameters
    ----------
    path : path
        Parquet with columns ``label, t_us, signed_bytes`` (lists; ``split`` and ``sample_id`` are
        optional), or CSV with columns ``time`` (seconds), ``size`` and, unless sizes are signed,
        ``direction``; ``trace`` numbers the traces of one file and ``label`` names their class.
    size_unit : {"ip", "frame", "payload"}
        What the sizes count. IP bytes are stored: frames lose 14, payloads gain 40.
    split : str or sequence of str, optional
        Only the rows of these splits.
    label : str, optional
        One class for all, whatever the file says.
    relabel : mapping, optional
        New names of classes, ``{"youtube-480": "youtube"}``.
    spec : SeriesSpec, optional
        Specification of the series; otherwise `view`, `bin_ns` (None: see `auto_bin_ns`) and `length`.
    min_packets : int
        Traces with fewer are left out.

    Returns
    -------
    FlowTable
        With the read report in ``metadata["read_report"]``: the packets of the file, and those added
        by splitting (``warnings[ADDED]``), are as many as ``in_flows`` and ``skipped`` together.

    Raises
    ------
    TableError
        If the file has none of these forms, or no trace is left.
    """
    if size_unit not in SIZE_UNITS:
        raise InputError(f"size_unit {size_unit!r} is not known", f"Take one of: {', '.join(SIZE_UNITS)}")
    for name in (label, *(relabel or {}).values()):
        check_label(name)
    spec = spec or spec_from_options(view, bin_ns, length)
    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}", "Name a Parquet or CSV file")
    packets = _read_csv(path) if path.suffix.lower() in (".csv", ".tsv") else _read_parquet(path)
    skipped, warnings = Counter[str](), Counter[str]()
    report: dict[str, Any] = {"traces": len(packets.labels), "packets": len(packets.size)}
    in_split = _select_split(packets, split, path)
    packets = _drop(packets, in_split[packets.trace], "in another split", skipped)
    packets = _to_ip_packets(packets, size_unit, skipped, warnings)
    counts = np.bincount(packets.trace, minlength=len(packets.labels))
    long_enough = in_split & (counts >= max(min_packets, 1))
    packets = _drop(packets, long_enough[packets.trace], "in traces of too few packets", skipped)
    warnings["traces of too few packets"] = int((in_split & ~long_enough).sum())
    if not long_enough.any():
        raise TableError(
            f"nothing is left of {path}: no trace has {max(min_packets, 1)} packets", "Lower --min-packets"
        )
    report |= {"skipped": dict(+skipped), "warnings": dict(+warnings), "in_flows": len(packets.size)}
    return _to_table(
        packets,
        np.flatnonzero(long_enough),
        spec,
        length,
        labels=[label or (name if name is None else (relabel or {}).get(name, name)) for name in packets.labels],
        source=path.name,
        metadata={"made_by": "import", "size_unit": size_unit, "read_report": report},
    )


def _to_table(
    packets: TracePackets,
    traces: np.ndarray,
    spec: SeriesSpec | None,
    length: int,
    *,
    labels: list[str | None],
    source: str,
    metadata: dict[str, Any],
) -> FlowTable:
    """Make a flow table of the packets of `traces`, one row a trace."""
    row_of = np.zeros(len(packets.labels), np.int64)
    row_of[traces] = np.arange(len(traces))
    row, size = row_of[packets.trace], np.abs(packets.size)
    first = np.full(len(traces), np.iinfo(np.int64).max)
    last = np.full(len(traces), np.iinfo(np.int64).min)
    np.minimum.at(first, row, packets.time_ns)
    np.maximum.at(last, row, packets.time_ns)
    spec = spec or SeriesSpec.fitting(last - first, length)
    up = packets.size > 0
    series, truncated = count_packets(row, packets.time_ns - first[row], size, up, len(traces), spec)
    return FlowTable.build(
        series,
        spec,
        label=[labels[trace] for trace in traces],
        source=[f"{source}:{packets.sources[trace]}" for trace in traces],
        duration_ns=last - first,
        packets=np.bincount(row, minlength=len(traces)),
        bytes=np.bincount(row, weights=size, minlength=len(traces)).astype(np.int64),
        truncated_packets=truncated,
        metadata=metadata,
    )


def _drop(packets: TracePackets, keep: np.ndarray, reason: str, skipped: Counter[str]) -> TracePackets:
    """Keep some packets; count the others."""
    skipped[reason] = int((~keep).sum())
    return packets.take(keep)


def _select_split(packets: TracePackets, split: str | Sequence[str] | None, path: Path) -> np.ndarray:
    """Return which traces belong to the named splits."""
    if split is None:
        return np.ones(len(packets.labels), dtype=bool)
    names = [split] if isinstance(split, str) else list(split)
    if not any(packets.splits):
        raise TableError(f"{path} has no column split", "Leave --split out")
    unknown = sorted(set(names) - set(packets.splits))
    if unknown:
        raise TableError(
            f"{path} has no split {', '.join(unknown)}", f"It has: {', '.join(sorted(set(packets.splits)))}"
        )
    return np.isin(np.array(packets.splits, dtype=object), names)


def _to_ip_packets(
    packets: TracePackets, size_unit: str, skipped: Counter[str], warnings: Counter[str]
) -> TracePackets:
    """Convert sizes to IP bytes, and split offloaded super-frames into the packets that were on the wire."""
    size = np.abs(packets.size) + SIZE_UNITS[size_unit]
    packets = dataclasses.replace(packets, size=np.where(packets.size > 0, size, -size))
    packets = _drop(packets, size >= MIN_IP_BYTES, "smaller than an IP header", skipped)
    size = np.abs(packets.size)
    large = size > MTU
    pieces = np.where(large, -(-(size - 40) // (MTU - 40)), 1)  # each has headers of 40 bytes
    index = np.repeat(np.arange(len(size)), pieces)
    warnings["frames over the MTU, split into packets"] = int(large.sum())
    warnings[ADDED] = len(index) - len(size)
    number = np.arange(len(index)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    is_last = number == pieces[index] - 1
    size = np.where(is_last, size[index] - number * (MTU - 40), MTU)
    packets = packets.take(index)
    return dataclasses.replace(packets, size=np.where(packets.size > 0, size, -size))


def _read_parquet(path: Path) -> TracePackets:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise TableError(
            f"{path} is neither Parquet nor CSV: {str(error).splitlines()[0]}", "For captures type: netgen extract"
        ) from error
    _require_columns(
        table, ("signed_bytes", "t_us"), path, "Traces need the lists t_us (microseconds) and signed_bytes, and label"
    )
    try:
        times, sizes = (table[name].combine_chunks() for name in ("t_us", "signed_bytes"))
        counts = [pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False) for column in (times, sizes)]
        values = [column.flatten().cast(pa.int64()) for column in (times, sizes)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, AttributeError, TypeError) as error:
        raise TableError(f"{path}: t_us and signed_bytes must be lists of whole numbers", str(error)) from error
    uneven = np.flatnonzero(counts[0] != counts[1])
    if uneven.size:
        row = int(uneven[0])
        raise TableError(f"{path}, row {row}: {counts[0][row]} times but {counts[1][row]} sizes", "Repair that row")
    if values[0].null_count or values[1].null_count:
        raise TableError(f"{path}: a value in t_us or signed_bytes is missing", "Repair the file")
    time_us, size = (column.to_numpy() for column in values)
    furthest = max(int(time_us.max()), -int(time_us.min())) if time_us.size else 0
    if 1000 * furthest >= LONGEST_NS:
        raise TableError(f"{path}: t_us reaches {furthest}, which is over 146 years", "t_us counts microseconds")
    rows = table.num_rows

    def texts(name: str) -> list[str | None]:
        values = table[name].to_pylist() if name in table.column_names else [None] * rows
        return [None if value is None else str(value) for value in values]

    return TracePackets(
        trace=np.repeat(np.arange(rows), counts[0]),
        time_ns=time_us * 1000,
        size=size,
        labels=texts("label"),
        sources=texts("sample_id") if "sample_id" in table.column_names else [str(row) for row in range(rows)],
        splits=[text or "" for text in texts("split")],
    )


def _require_columns(table: pa.Table, names: Sequence[str], path: Path, hint: str) -> None:
    """Refuse a table that lacks a column; names of columns may be in any case."""
    missing = set(names) - {name.strip().lower() for name in table.column_names}
    if missing:
        raise TableError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(sorted(missing))}; it has "
            f"{', '.join(table.column_names[:12])}",
            hint,
        )


def _read_csv(path: Path) -> TracePackets:
    options = pacsv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        table = pacsv.read_csv(path, parse_options=options)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(
            f"{path} cannot be read as CSV: {str(error).splitlines()[0]}", "It needs a header line"
        ) from error
    names = {name.strip().lower(): name for name in table.column_names}
    _require_columns(
        table,
        ("time", "size"),
        path,
        "A CSV of packets needs time (seconds), size (bytes) and, unless sizes are signed, direction (up or down)",
    )
    try:
        seconds = table[names["time"]].cast(pa.float64()).to_numpy()
        valid = (np.abs(seconds) < LONGEST_NS / NS) & table[names["size"]].is_valid().to_numpy()
        if not valid.all():
            raise TableError(
                f"{path}, line {int(valid.argmin()) + 2}: time or size is missing or too large", "Repair that line"
            )
        time_ns = np.round(seconds * 1e9).astype(np.int64)
        size = table[names["size"]].cast(pa.int64()).to_numpy().copy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError) as error:
        raise TableError(
            f"{path}: time or size is not a number: {str(error).splitlines()[0]}", "Repair the file"
        ) from error
    if "direction" in names:
        size = np.abs(size) * _directions(table[names["direction"]].to_pylist(), path)
    keys = [table[names[name]].to_pylist() if name in names else None for name in ("trace", "label", "split")]
    order: dict[Any, int] = {}
    ids = [order.setdefault(key, len(order)) for key in (keys[0] or [path.stem] * len(size))]
    trace = np.array(ids, dtype=np.int64)
    first_row = np.zeros(len(order), dtype=np.int64)
    first_row[trace[::-1]] = np.arange(len(trace))[::-1]
    columns = [
        [None if column is None or column[row] in (None, "") else str(column[row]) for row in first_row]
        for column in keys[1:]
    ]
    return TracePackets(
        trace, time_ns, size, columns[0], [str(key) for key in order], [value or "" for value in columns[1]]
    )


_UP = {"up", "out", "1", "+1", "c2s", "client", "true"}
_DOWN = {"down", "in", "-1", "0", "s2c", "server", "false"}


def _directions(values: list[Any], path: Path) -> np.ndarray:
    words = [str(value).strip().lower() for value in values]
    for line, word in enumerate(words, start=2):
        if word not in _UP and word not in _DOWN:
            raise TableError(f"{path}, line {line}: direction {values[line - 2]!r} is not known", "Write up or down")
    return np.array([1 if word in _UP else -1 for word in words], dtype=np.int64)
