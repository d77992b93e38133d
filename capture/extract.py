"""Captures in, a table of labelled flows out: `extract`, or `extraction` for one larger than memory.

Packets go by once, stretch by stretch (`netgen.capture.segments`), and are put by (`netgen.capture.flows.spill`) until
all flows are known; then they can be counted (`netgen.capture.extraction`). So a capture may be larger than memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from netgen.capture.errors import CaptureError, InputError
from netgen.capture.extraction import Extraction
from netgen.capture.flows.assemble import IDLE_TIMEOUT_NS, Assembler
from netgen.capture.formats.records import Damage
from netgen.capture.inputs import HINT, Input, find_inputs
from netgen.capture.labels.labeller import Labeller, LabelOptions
from netgen.capture.parallel import read_captures
from netgen.capture.read_report import ReadReport
from netgen.capture.segments import ReadOptions
from netgen.capture.series.spec import BINS, DEFAULT_LENGTH, SeriesSpec, spec_from_options
from netgen.capture.table.flow_table import FlowTable

#: What a row may be made of.
BY = ("flow", "host", "capture")

Progress = Callable[[int, int | None], None]


def extraction(
    paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    spec: SeriesSpec | None = None,
    bin_ns: int | None = None,
    length: int = DEFAULT_LENGTH,
    view: str = BINS,
    group_by: str = "flow",
    label: str | None = None,
    label_by: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    labels_zone: str = "UTC",
    labels_offset_ns: int = 0,
    labels_times: str | None = None,
    labels_column: str | None = None,
    sni_table: str | os.PathLike[str] | None = None,
    min_packets: int = 1,
    idle_timeout_ns: int = IDLE_TIMEOUT_NS,
    active_timeout_ns: int | None = None,
    inner: bool = False,
    names: str = "tls",
    strict: bool = False,
    threads: int = 1,
    progress: Progress | None = None,
) -> Extraction:
    """Read captures: their flows, with labels, ready to be counted into series.

    Parameters
    ----------
    paths : iterable of str or Path
        Capture files, and folders that are searched for some. A file named here must be a capture;
        one found in a folder that is none is skipped and counted.
    spec : SeriesSpec, optional
        The series to make, as of another table or model; wins over `bin_ns`, `length` and `view`.
    bin_ns : int, optional
        Width of a bin in nanoseconds; by default the 95th percentile of the flows' durations fits.
    length : int
        Number of bins, or of packets.
    kind : {"bins", "packets"}
        What a series is of: equal bins in time, or the first packets.
    by : {"flow", "host", "capture"}
        One row a flow, one a file and initiating address, or one a file.
    label : str, optional
        The class of every row that nothing else labels.
    label_by : {"folder", "file", "sni"}, optional
        The class is the name of the file's folder, the file's name, or the class of the server name.
    labels : str or Path, optional
        A labels file (`netgen.capture.labels.label_file.LabelFile`); what it says wins.
    labels_zone, labels_offset_ns, labels_times, labels_column
        How it is to be read, see `netgen.capture.labels.label_file.LabelOptions`.
    sni_table : str or Path, optional
        A file of suffixes and classes (`netgen.capture.names.class_table.ClassTable`) for ``label_by="sni"``.
    min_packets : int
        Rows of fewer packets are left out, and counted.
    idle_timeout_ns : int
        A flow that is silent for longer has ended.
    strict : bool
        Raise if anything of a capture could not be read.
    active_timeout_ns : int, optional
        A flow that lasts longer ends, and begins anew.
    inner : bool
        The packet inside a tunnel (IP-in-IP, GRE, VXLAN, GTP-U) counts in place of the one around it.
    names : {"tls", "all"}
        Whose server names to look for: TLS over TCP, or QUIC and DNS too, which takes longer. With
        ``label_by="sni"`` it is all.
    workers : int
        Threads that read. The table is the same for any number.
    progress : callable, optional
        Called now and then with bytes done and bytes in all; with None where nobody knows.

    Returns
    -------
    Extraction
        The account in the table's ``about`` tells what became of every packet:
        ``packets == in_flows + sum(skipped.values())``.

    Raises
    ------
    CaptureError
        If a named file is no capture, no capture is found at all, or `strict` and one is damaged.
    InputError
        If an option cannot be used.
    """
    if min_packets < 1:
        raise InputError(f"flows of at least {min_packets} packets cannot be asked for", "Take 1 or more")
    if names not in ("tls", "all"):
        raise InputError(f"there are no names {names!r} to look for", "Choose tls or all")
    if threads < 1:
        raise InputError(f"threads must be at least 1, got {threads}")
    spec = spec or spec_from_options(view, bin_ns, length)
    if group_by not in BY:
        raise InputError(f"flows cannot be made by {group_by!r}", f"Choose one of {', '.join(BY)}")
    reading = LabelOptions(labels_zone, labels_offset_ns, labels_times, labels_column)
    labeller = Labeller(group_by, label, label_by, labels, sni_table, reading)
    assembler = Assembler(idle_timeout_ns=idle_timeout_ns, active_timeout_ns=active_timeout_ns)
    read_report = ReadReport()
    inputs = find_inputs([paths] if isinstance(paths, str | os.PathLike) else list(paths))
    wanted = "all" if names == "all" or label_by == "sni" else "tls"
    options = ReadOptions(inner, wanted)
    read = _read(inputs, assembler, read_report, options, strict=strict, threads=threads, progress=progress)
    if not read_report.files:
        where = ", ".join(str(path) for path in dict.fromkeys(each.path.parent for each in inputs)) or "what was named"
        raise CaptureError(f"no capture was found among {len(inputs)} files in {where}", HINT)
    return Extraction.of(
        assembler, group_by, read_report, read, labeller, min_packets=min_packets, spec=spec, length=length
    )


def _read(
    inputs: list[Input],
    assembler: Assembler,
    read_report: ReadReport,
    options: ReadOptions,
    *,
    strict: bool,
    threads: int,
    progress: Progress | None,
) -> list[Input]:
    """Read all captures into flows; which of the files they are."""
    read = list[Input]()
    known = all(each.size for each in inputs)
    total = sum(each.size for each in inputs) if known else None
    finished = 0
    for capture in read_captures(inputs, options, threads):
        if capture.refused is not None:
            finished += capture.input.size
            if capture.input.named:
                raise capture.refused
            read_report.not_captures.append(capture.input.source)
            continue
        before, packets = assembler.flows, 0
        damage = list[Damage]()
        for segment in capture.segments:
            batch = segment.batch
            packets += batch.records
            assembler.add(batch)
            read_report.skipped.update(batch.skipped)
            read_report.notes.update(batch.notes)
            read_report.notes.update(segment.notes)
            damage += segment.damage
            if progress is not None:
                progress(finished + segment.end, total)
        finished += capture.input.size
        assembler.end_capture()
        if progress is not None and known:
            progress(finished, total)
        read_report.files += 1
        read_report.packets += packets
        read_report.damage(capture.input.source, damage)
        read_report.notes["captures without a flow"] += assembler.flows == before
        read.append(capture.input)
        if strict and damage:
            raise CaptureError(
                f"{capture.input.path} is damaged at byte {damage[0].byte}: {damage[0].reason}",
                "Leave out --strict to keep what could be read",
            )
    return read


def extract(paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str], **options: Any) -> FlowTable:
    """Flows of captures, with their series and labels, in memory; see `extraction` for the options."""
    return extraction(paths, **options).table()
