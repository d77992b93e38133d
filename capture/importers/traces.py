"""Labelled traces that are not captures: one row a trace, or CSV files of time, size, direction."""

from __future__ import annotations

import dataclasses
import os
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

MTU = 1500  # IP bytes of the largest packet Ethernet carries
MIN_IP = 20  # an IPv4 header and nothing else

#: What a trace's sizes count, and what turns them into IP bytes.
SIZES = {
    "frame": -14,  # Ethernet frames: less the Ethernet header
    "ip": 0,
    "payload": 40,  # TCP payload (Tor cells): plus the IPv4 and TCP headers
}

ADDED = "packets added by splitting them"


@dataclasses.dataclass
class Packets:
    """Packets of many traces in columns.

    Parameters
    ----------
    trace : ndarray of int64, shape (packets,)
        Row of the trace, 0 to ``len(labels) - 1``.
    time_ns : ndarray of int64, shape (packets,)
    size : ndarray of int64, shape (packets,)
        Positive: from client to server; negative: to the client.
    labels, sources : list of str or None, one a trace
    splits : list of str, one a trace; empty where the file has none
    """

    trace: np.ndarray
    time_ns: np.ndarray
    size: np.ndarray
    labels: list[str | None]
    sources: list[str]
    splits: list[str]


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
    """Labelled traces as a flow table.

    Parameters
    ----------
    path : path
        Parquet with columns ``label, t_us, signed_bytes`` (lists; ``split`` and ``sample_id`` if
        there), or CSV with columns ``time`` (seconds), ``size`` and, unless sizes are signed,
        ``direction``; ``trace`` numbers the traces of one file and ``label`` names their class.
    size_unit : {"ip", "frame", "payload"}
        What the sizes count. IP bytes are stored: frames lose 14, payloads gain 40.
    split : str or sequence of str, optional
        Only the rows of these splits.
    label : str, optional
        One class for all, whatever the file says.
    relabel : mapping, optional
        Classes renamed, ``{"youtube-480": "youtube"}``.
    spec : SeriesSpec, optional
        The series to cut; otherwise `view`, `bin_ns` (None: chosen by `auto_bin_ns`) and `length`.
    min_packets : int
        Traces with fewer are left out.

    Returns
    -------
    FlowTable
        With the account of packets in ``about["read_report"]``: those of the file, and those added by
        splitting (``notes[ADDED]``), are as many as ``in_flows`` and ``skipped`` together.

    Raises
    ------
    TableError
        If the file is none of these, or nothing is left of it.
    """
    if size_unit not in SIZES:
        raise InputError(f"size_unit {size_unit!r} is not known", f"Take one of: {', '.join(SIZES)}")
    for name in (label, *(relabel or {}).values()):
        check_label(name)
    spec = spec or spec_from_options(view, bin_ns, length)
    path = Path(path)
    if not path.is_file():
        raise TableError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}", "Name a Parquet or CSV file")
    packets = _read_csv(path) if path.suffix.lower() in (".csv", ".tsv") else _read_parquet(path)
    read_report: dict[str, Any] = {
        "traces": len(packets.labels),
        "packets": len(packets.size),
        "skipped": {},
        "warnings": {},
    }

    if split is not None:
        wanted = [split] if isinstance(split, str) else list(split)
        if not any(packets.splits):
            raise TableError(f"{path} has no column split", "Leave --split out")
        unknown = sorted(set(wanted) - set(packets.splits))
        if unknown:
            raise TableError(
                f"{path} has no split {', '.join(unknown)}", f"It has: {', '.join(sorted(set(packets.splits)))}"
            )
        keep_trace = np.isin(np.array(packets.splits, dtype=object), wanted)
    else:
        keep_trace = np.ones(len(packets.labels), dtype=bool)
    read_report["skipped"]["in another split"] = int((~keep_trace[packets.trace]).sum())

    size = np.abs(packets.size) + SIZES[size_unit]
    whole = size >= MIN_IP
    read_report["skipped"]["smaller than an IP header"] = int((~whole & keep_trace[packets.trace]).sum())
    kept = whole & keep_trace[packets.trace]
    trace, time_ns, size, up = packets.trace[kept], packets.time_ns[kept], size[kept], packets.size[kept] > 0
    before = len(size)
    trace, time_ns, size, up, split_frames = _split_large(trace, time_ns, size, up)
    read_report["warnings"]["frames over the MTU, split into packets"] = split_frames
    read_report["warnings"][ADDED] = len(size) - before

    number = np.bincount(trace, minlength=len(packets.labels))
    enough = keep_trace & (number >= max(min_packets, 1))
    few = keep_trace & ~enough
    read_report["skipped"]["in traces of too few packets"] = int(number[few].sum())
    read_report["warnings"]["traces of too few packets"] = int(few.sum())
    if not enough.any():
        raise TableError(
            f"nothing is left of {path}: no trace has {max(min_packets, 1)} packets", "Lower --min-packets"
        )
    rows = np.flatnonzero(enough)
    row_of = np.full(len(enough), -1)
    row_of[rows] = np.arange(len(rows))
    inside = enough[trace]
    flow, time_ns, size, up = row_of[trace[inside]], time_ns[inside], size[inside], up[inside]

    first, last = _extremes(flow, time_ns, len(rows))
    spec = spec or SeriesSpec.fitting(last - first, length)
    series, cut = count_packets(flow, time_ns - first[flow], size, up, len(rows), spec)
    read_report["in_flows"] = len(size)
    read_report["skipped"] = {reason: count for reason, count in read_report["skipped"].items() if count}
    read_report["warnings"] = {reason: count for reason, count in read_report["warnings"].items() if count}
    names = [label or _renamed(packets.labels[row], relabel) for row in rows]
    return FlowTable.build(
        series,
        spec,
        label=names,
        source=[f"{path.name}:{packets.sources[row]}" for row in rows],
        duration_ns=last - first,
        packets=np.bincount(flow, minlength=len(rows)),
        bytes=np.bincount(flow, weights=size, minlength=len(rows)).astype(np.int64),
        truncated_packets=cut,
        metadata={"made_by": "import", "size_unit": size_unit, "read_report": read_report},
    )


def _renamed(label: str | None, relabel: Mapping[str, str] | None) -> str | None:
    return (relabel or {}).get(label, label) if label is not None else None


def _split_large(
    trace: np.ndarray, time_ns: np.ndarray, size: np.ndarray, up: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Offloaded super-frames as the MTU-sized packets that were on the wire, a header each."""
    large = size > MTU
    parts = np.where(large, -(-(size - 40) // (MTU - 40)), 1)
    if not large.any():
        return trace, time_ns, size, up, 0
    index = np.repeat(np.arange(len(size)), parts)
    nth = np.arange(len(index)) - np.repeat(np.cumsum(parts) - parts, parts)
    last = nth == parts[index] - 1
    rest = size[index] - (parts[index] - 1) * (MTU - 40)
    new = np.where(last, rest, MTU)
    return trace[index], time_ns[index], new, up[index], int(large.sum())


def _extremes(flow: np.ndarray, time_ns: np.ndarray, flows: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.full(flows, np.iinfo(np.int64).max)
    last = np.full(flows, np.iinfo(np.int64).min)
    np.minimum.at(first, flow, time_ns)
    np.maximum.at(last, flow, time_ns)
    return first, last


def _read_parquet(path: Path) -> Packets:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise TableError(
            f"{path} is neither Parquet nor CSV: {str(error).splitlines()[0]}", "Captures are read by: netgen extract"
        ) from error
    missing = {"t_us", "signed_bytes"} - set(table.column_names)
    if missing:
        raise TableError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(sorted(missing))}; it has "
            f"{', '.join(table.column_names[:12])}",
            "Traces need the lists t_us (microseconds) and signed_bytes, and label",
        )
    try:
        times, size_unit = (table[name].combine_chunks() for name in ("t_us", "signed_bytes"))
        counts = [
            pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False) for column in (times, size_unit)
        ]
        values = [column.flatten().cast(pa.int64()) for column in (times, size_unit)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, AttributeError, TypeError) as error:
        raise TableError(f"{path}: t_us and signed_bytes must be lists of whole numbers", str(error)) from error
    uneven = np.flatnonzero(counts[0] != counts[1])
    if uneven.size:
        row = int(uneven[0])
        raise TableError(f"{path}, row {row}: {counts[0][row]} times but {counts[1][row]} sizes", "Mend that row")
    if values[0].null_count or values[1].null_count:
        raise TableError(f"{path}: a value in t_us or signed_bytes is missing", "Mend the file")
    time_us, size = (column.to_numpy() for column in values)
    furthest = max(int(time_us.max()), -int(time_us.min())) if time_us.size else 0
    if 1000 * furthest >= LONGEST_NS:
        raise TableError(f"{path}: t_us reaches {furthest}, which is over 146 years", "It counts microseconds")
    rows = table.num_rows

    def strings(name: str) -> list[Any] | None:
        return [None if v is None else str(v) for v in table[name].to_pylist()] if name in table.column_names else None

    return Packets(
        trace=np.repeat(np.arange(rows), counts[0]),
        time_ns=time_us * 1000,
        size=size,
        labels=strings("label") or [None] * rows,
        sources=strings("sample_id") or [str(row) for row in range(rows)],
        splits=strings("split") or [""] * rows,
    )


def _read_csv(path: Path) -> Packets:
    options = pacsv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        table = pacsv.read_csv(path, parse_options=options)
    except (pa.ArrowInvalid, OSError) as error:
        raise TableError(
            f"{path} cannot be read as CSV: {str(error).splitlines()[0]}", "It needs a header line"
        ) from error
    names = {name.strip().lower(): name for name in table.column_names}
    missing = {"time", "size"} - set(names)
    if missing:
        raise TableError(
            f"{path} lacks the column {', '.join(sorted(missing))}; it has {', '.join(table.column_names[:12])}",
            "A CSV of packets needs time (seconds), size (bytes) and, unless sizes are signed, direction (up or down)",
        )
    try:
        seconds = table[names["time"]].cast(pa.float64()).to_numpy()
        sound = (np.abs(seconds) < LONGEST_NS / NS) & table[names["size"]].is_valid().to_numpy()
        if not sound.all():
            raise TableError(
                f"{path}, line {int(sound.argmin()) + 2}: time or size is missing or too large", "Mend that line"
            )
        time_ns = np.round(seconds * 1e9).astype(np.int64)
        size = table[names["size"]].cast(pa.int64()).to_numpy().copy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError) as error:
        raise TableError(f"{path}: time or size is no number: {str(error).splitlines()[0]}", "Mend the file") from error
    if "direction" in names:
        size = np.abs(size) * _directions(table[names["direction"]].to_pylist(), path)
    keys = [table[names[name]].to_pylist() if name in names else None for name in ("trace", "label", "split")]
    order: dict[Any, int] = {}
    ids = [order.setdefault(key, len(order)) for key in (keys[0] or [path.stem] * len(size))]
    trace = np.array(ids, dtype=np.int64)
    first_row = np.zeros(len(order), dtype=np.int64)
    first_row[trace[::-1]] = np.arange(len(trace))[::-1]
    columns = [
        [None if column is None or column[r] in (None, "") else str(column[r]) for r in first_row]
        for column in keys[1:]
    ]
    return Packets(trace, time_ns, size, columns[0], [str(k) for k in order], [value or "" for value in columns[1]])


_UP = {"up", "out", "1", "+1", "c2s", "client", "true"}
_DOWN = {"down", "in", "-1", "0", "s2c", "server", "false"}


def _directions(values: list[Any], path: Path) -> np.ndarray:
    words = [str(value).strip().lower() for value in values]
    for line, word in enumerate(words, start=2):
        if word not in _UP and word not in _DOWN:
            raise TableError(f"{path}, line {line}: direction {values[line - 2]!r} is not known", "Write up or down")
    return np.array([1 if word in _UP else -1 for word in words], dtype=np.int64)
