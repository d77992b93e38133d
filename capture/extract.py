"""Captures to a table of labelled flows: `extract` in memory, `extraction` for tables larger than memory.

Packets are read once, segment by segment (`netgen.capture.segments`), and spilled until all flows are known
(`netgen.capture.flows.spill`). Then they are counted into series, a block of flows at a time.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from netgen.capture.errors import CaptureError, InputError
from netgen.capture.flows import spill
from netgen.capture.flows.assemble import IDLE_TIMEOUT_NS, Assembler
from netgen.capture.flows.rows import FlowRows, group_flows
from netgen.capture.formats.records import Damage
from netgen.capture.headers import PROTOCOL_UDP
from netgen.capture.inputs import HINT, Input, find_inputs
from netgen.capture.labels.labeller import Labeller
from netgen.capture.labels.options import LabelOptions
from netgen.capture.names.class_table import ClassTable
from netgen.capture.parallel import read_captures
from netgen.capture.read_report import ReadReport
from netgen.capture.segments import ReadOptions
from netgen.capture.series.counters import BinCounter, PacketCounter, SparseChannel, dense, make_counter
from netgen.capture.series.profile import PROFILE_KEY, ProfileCounter
from netgen.capture.series.spec import BINS, DEFAULT_LENGTH, PACKETS, SeriesSpec, spec_from_options
from netgen.capture.table.arrow_utils import to_numpy
from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import flow_columns
from netgen.capture.table.summary import TableSummary
from netgen.capture.table.writer import TableWriter

PathLike = str | os.PathLike[str]

GROUP_BY = ("flow", "host", "capture")
NAME_SOURCES = ("tls", "all")

#: Warnings in the read report about packets that no series holds, by view.
TRUNCATED = {BINS: "packets after the last bin", PACKETS: "packets after the last of a series"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """Options of an extraction. `netgen.extract` has the same ones, with durations as text."""

    spec: SeriesSpec | None = None  # the series to make; `bin_ns`, `length` and `view` are then ignored
    bin_ns: int | None = None  # bin width in ns; by default the 95th percentile of the flows' durations fits
    length: int = DEFAULT_LENGTH  # number of bins, or of packets
    view: str = BINS  # "bins": bytes and packets over time, or "packets": size and gap of the first packets
    group_by: str = "flow"  # one row per "flow", per initiating "host" of a capture, or per "capture"
    label: str | None = None  # class of every row that no other rule labels
    label_by: str | None = None  # label rows by the name of "folder" or "file", or by the server name ("sni")
    labels: PathLike | None = None  # label file (`LabelFile`); it wins over `label` and `label_by`
    labels_zone: str = "UTC"  # these four say how to read the label file (`LabelOptions`)
    labels_offset_ns: int = 0
    labels_time_format: str | None = None
    labels_column: str | None = None
    sni_table: PathLike | None = None  # CSV of suffixes and classes (`ClassTable`), for ``label_by="sni"``
    min_packets: int = 1  # rows with fewer packets are left out and counted
    idle_timeout_ns: int = IDLE_TIMEOUT_NS  # a longer silence ends a flow
    active_timeout_ns: int | None = None  # a flow older than this ends, and a new one begins
    decapsulate: bool = False  # count the packet inside a tunnel instead of the one around it
    name_sources: str = "tls"  # "all" adds the names of QUIC and DNS; ``label_by="sni"`` implies it
    strict: bool = False  # raise if a capture is damaged
    threads: int = 1  # that read; the table does not depend on it
    progress: Callable[[int, int | None], None] | None = None  # called with the bytes read, and all or None

    def __post_init__(self) -> None:
        if self.min_packets < 1:
            raise InputError(f"--min-packets must be at least 1, got {self.min_packets}")
        if self.threads < 1:
            raise InputError(f"--threads must be at least 1, got {self.threads}")
        if self.name_sources not in NAME_SOURCES:
            raise InputError(f"--name-sources must be {' or '.join(NAME_SOURCES)}, got {self.name_sources!r}")
        if self.group_by not in GROUP_BY:
            raise InputError(f"--group-by must be one of {', '.join(GROUP_BY)}, got {self.group_by!r}")

    def labeller(self) -> Labeller:
        """Return what labels the rows."""
        times = LabelOptions(self.labels_zone, self.labels_offset_ns, self.labels_time_format, self.labels_column)
        return Labeller(self.group_by, self.label, self.label_by, self.labels, self.sni_table, times)


def extract(paths: Iterable[PathLike] | PathLike, options: ExtractOptions | None = None) -> FlowTable:
    """Extract labelled flows from captures, in memory; see `extraction`."""
    return extraction(paths, options).table()


def extraction(paths: Iterable[PathLike] | PathLike, options: ExtractOptions | None = None) -> Extraction:
    """Read captures into labelled flows whose series are still to be counted.

    Parameters
    ----------
    paths : path or iterable of paths
        Captures, and folders. A file named here must be a capture; other files in a folder are skipped and reported.
    options : ExtractOptions, optional
        How to read, group and label.

    Raises
    ------
    CaptureError
        If a named file is not a capture, none is found, or `strict` and one is damaged.
    InputError
        If an option has a wrong value.
    """
    options = ExtractOptions() if options is None else options
    spec = options.spec or spec_from_options(options.view, options.bin_ns, options.length)
    labeller = options.labeller()
    assembler = Assembler(idle_timeout_ns=options.idle_timeout_ns, active_timeout_ns=options.active_timeout_ns)
    inputs = find_inputs([paths] if isinstance(paths, str | os.PathLike) else list(paths))
    report = ReadReport()
    read = _read(inputs, assembler, report, options)
    if not read:
        folders = ", ".join(str(path) for path in dict.fromkeys(file.path.parent for file in inputs))
        raise CaptureError(f"none of the {len(inputs)} files in {folders} is a capture", HINT)
    rows = group_flows(assembler, options.group_by)
    short = rows.packets < options.min_packets
    if short.any():
        report.dropped["under min_packets"] = int(short.sum())
        report.skipped["in flows under min_packets"] = int(rows.packets[short].sum())
        rows = rows.keep(~short)
    report.notes.update(assembler.notes)
    if spec is None:
        spec = SeriesSpec.fitting(rows.end_ns - rows.start_ns, options.length)
    return Extraction(rows, spec, read, labeller, report, assembler)


def _read(inputs: list[Input], assembler: Assembler, report: ReadReport, options: ExtractOptions) -> list[Input]:
    """Read all captures into flows. Return the files that are captures."""
    captures = list[Input]()
    total = sum(file.size for file in inputs) if all(file.size for file in inputs) else None
    finished = 0
    name_sources = "all" if options.label_by == "sni" else options.name_sources
    for capture in read_captures(inputs, ReadOptions(options.decapsulate, name_sources), options.threads):
        file = capture.input
        if capture.refused is not None:
            if file.named:
                raise capture.refused
            report.not_captures.append(file.source)
            finished += file.size
            continue
        flows_before = assembler.flows
        damage = list[Damage]()
        for segment in capture.segments:
            batch = segment.batch
            assembler.add(batch)
            report.add(batch.records, batch.skipped, batch.notes + segment.notes)
            damage += segment.damage
            if options.progress is not None:
                options.progress(finished + segment.end, total)
        assembler.end_capture()
        finished += file.size
        if options.progress is not None and total is not None:
            options.progress(finished, total)
        report.files += 1
        report.add_damage(file.source, damage)
        report.notes["captures without a flow"] += assembler.flows == flows_before
        captures.append(file)
        if options.strict and damage:
            raise CaptureError(
                f"{file.path} is damaged at byte {damage[0].byte}: {damage[0].reason}",
                "Leave out --strict to keep the packets that can be read",
            )
    return captures


@dataclasses.dataclass(eq=False, repr=False)
class Extraction:
    """Flows of captures whose packets are still to be counted into series, which can be done once."""

    rows: FlowRows
    spec: SeriesSpec
    _inputs: list[Input]
    _labeller: Labeller
    _report: ReadReport
    _assembler: Assembler
    _profile: ProfileCounter = dataclasses.field(default_factory=ProfileCounter)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Extraction({len(self)} rows, {self.spec})"

    def table(self) -> FlowTable:
        """Return the table, in memory."""
        blocks = list(self._blocks())
        columns = pa.concat_tables([columns for columns, _ in blocks]) if blocks else flow_columns(0)
        empty = np.zeros((0, *self.spec.shape), np.int64)
        series = np.concatenate([dense(channels) for _, channels in blocks]) if blocks else empty
        return FlowTable.from_columns(columns.combine_chunks(), series, self.spec, self._metadata())

    def write(self, path: PathLike, *, force: bool = False) -> dict[str, Any]:
        """Write the table to a Parquet file block by block, complete or not at all; return its `FlowTable.summary`."""
        summary = TableSummary()
        with TableWriter(path, self.spec, force=force) as writer:
            for columns, channels in self._blocks():
                writer.write(columns, channels)
                summary.add(columns)
            writer.metadata = self._metadata()
        return summary.summary(self.spec, writer.metadata)

    @property
    def read_report(self) -> dict[str, Any]:
        """What became of every packet, as far as it is known; see `ReadReport.to_json`."""
        return self._report.to_json(len(self), int(self.rows.packets.sum()))

    def server_names(self, sni_table: PathLike | None = None) -> list[dict[str, Any]]:
        """Return the server names of the rows with their source, class and traffic, the most bytes first."""
        totals: dict[tuple[str, str], list[int]] = {}
        for first in range(0, len(self), spill.BLOCK):
            rows = self.rows.columns(first, min(first + spill.BLOCK, len(self)))
            names = zip(rows["server_name"].to_pylist(), rows["server_name_source"].to_pylist(), strict=True)
            for name, packets, volume in zip(names, rows["packets"].tolist(), rows["bytes"].tolist(), strict=True):
                if name[0] is not None:
                    total = totals.setdefault(name, [0, 0, 0])
                    total[:] = total[0] + 1, total[1] + packets, total[2] + volume
        classes = ClassTable(sni_table)
        listed = [
            {"name": name, "from": source, "class": classes.class_of(name)}
            | dict(zip(("flows", "packets", "bytes"), total, strict=True))
            for (name, source), total in totals.items()
        ]
        return sorted(listed, key=lambda row: (-row["bytes"], row["name"], row["from"]))

    def _metadata(self) -> dict[str, Any]:
        self._report.notes.update(self._labeller.warnings())
        profile = self._profile.to_json()
        return {"made_by": "extract", "read_report": self.read_report} | ({PROFILE_KEY: profile} if profile else {})

    @property
    def _has_profile(self) -> bool:
        # profiles belong to classes, so none is counted where no row can have a class
        return self.rows.are_flows and self._labeller.may_label

    def _blocks(self) -> Iterator[tuple[pa.Table, list[SparseChannel]]]:
        """Yield all columns but the series, and the channels of the series, a block of rows at a time."""
        if self._assembler.spill.closed:
            raise InputError("an extraction can be counted only once", "Keep its table, or extract again")
        first = 0
        for channels, truncated in self._count():
            last = first + len(truncated)
            rows = self.rows.columns(first, last)
            labels, sources = self._labels(first, last, rows)
            if self._has_profile:
                self._profile.end(labels, to_numpy(rows["protocol"]), to_numpy(rows["dst_port"]))
            self._report.notes[TRUNCATED[self.spec.view]] += int(truncated.sum())
            columns = flow_columns(
                last - first,
                flow=np.arange(first, last),
                label=labels,
                source=sources,
                synthetic=False,
                truncated_packets=truncated,
                **rows,
            )
            self._assembler.release()
            yield columns, channels
            first = last

    def _labels(self, first: int, last: int, rows: dict[str, Any]) -> tuple[list[str | None], list[str]]:
        """Return the classes of rows, and the names of their captures."""
        labels, sources = list[str | None](), list[str]()
        capture = self.rows.capture[first:last]
        edges = [0, *(np.flatnonzero(np.diff(capture)) + 1).tolist(), len(capture)]
        for begin, end in itertools.pairwise(edges):
            file = self._inputs[int(capture[begin])]
            labels += self._labeller(file.path, {name: column[begin:end] for name, column in rows.items()})
            sources += [file.source] * (end - begin)
        return labels, sources

    def _count(self) -> Iterator[tuple[list[SparseChannel], np.ndarray]]:
        """Yield channels and truncated packets of the rows in order, a block of rows at a time."""
        row = self.rows.row_of_flow
        if row is None:
            first_flow = last_flow = np.arange(len(self))
        else:
            kept = np.flatnonzero(row >= 0)
            kept = kept[np.argsort(row[kept], kind="stable")]
            heads = np.flatnonzero(np.diff(row[kept], prepend=-1))
            first_flow, last_flow = kept[heads], np.append(kept[heads[1:] - 1], kept[-1:])
        size = spill.BLOCK
        for first in range(0, len(self), size):
            last = min(first + size, len(self))
            counter = make_counter(last - first, self.spec)
            for block in range(first_flow[first:last].min() // size, last_flow[first:last].max() // size + 1):
                self._count_block(block, first, last, counter)
            yield counter.channels()
        self._assembler.spill.close()

    def _count_block(self, block: int, first: int, last: int, counter: BinCounter | PacketCounter) -> None:
        """Count those packets of a block of flows that belong to rows `first` to `last` - 1."""
        rows = self.rows
        for flow, time_ns, size, forward in self._assembler.spill.block(block):
            row = flow if rows.row_of_flow is None else rows.row_of_flow[flow]
            if rows.row_of_flow is not None:
                inside = (row >= first) & (row < last)
                row, flow, time_ns, size, forward = (column[inside] for column in (row, flow, time_ns, size, forward))
            up = forward == rows.flows.up[flow]
            counter.add(row - first, time_ns - rows.start_ns[row], size, up)
            if self._has_profile:
                self._profile.add(row - first, rows.flows.key["protocol"][flow] == PROTOCOL_UDP, time_ns, size, up)
