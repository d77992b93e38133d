"""``netgen extract``: captures to a flow table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netgen import choices
from netgen.capture.errors import InputError
from netgen.cli import options as opt

if TYPE_CHECKING:
    from netgen.capture.extract import Extraction

SLOW_BYTES = 1 << 27  # captures for which the compiled reader saves seconds


def extract(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="Captures (pcap or pcapng, compressed or not), folders of captures, or - for stdin."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Flow table to write.", show_default="CAPTURE.flows.parquet")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Class of every flow that no other rule labels.")] = None,
    label_by: opt.LabelBy = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Label file: CSV of an IDS data set, or netgen's own.")
    ] = None,
    labels_zone: Annotated[
        str, typer.Option(metavar="ZONE", help="Time zone of the label file: UTC, -03:00 or Europe/Berlin.")
    ] = "UTC",
    labels_offset: Annotated[
        str, typer.Option(metavar="TIME", help="Added to times of the label file to match the capture: 2.5s, -1h.")
    ] = "0s",
    labels_time_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Times of the label file, for strptime: '%d/%m/%Y %I:%M'.")
    ] = None,
    labels_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the label file with the class.")
    ] = None,
    sni_table: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Rows of suffix,class that come before the built-in ones.")
    ] = None,
    group_by: opt.GroupBy = "flow",
    bin_width: opt.BinWidth = "auto",
    length: opt.Length = None,
    view: opt.View = None,
    spec_from: opt.SpecFrom = None,
    min_packets: opt.MinPackets = 1,
    idle_timeout: Annotated[str, typer.Option(metavar="TIME", help="A silence longer than this ends a flow.")] = "120s",
    active_timeout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="A flow older than this ends, and a new one begins.", show_default="none"),
    ] = None,
    decapsulate: Annotated[
        bool,
        typer.Option("--decapsulate", help="Count the packet inside a tunnel (IP-in-IP, GRE, VXLAN, GTP-U) instead."),
    ] = False,
    name_sources: Annotated[
        choices.NameSources, typer.Option(help="Protocols to read server names from. all adds QUIC and DNS.")
    ] = "tls",
    list_names: Annotated[
        bool, typer.Option("--list-names", help="Print the server names in the captures and write nothing.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads that read.")] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a capture is damaged. Without it, the readable packets are kept.")
    ] = False,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Extract flows from captures into a flow table with per-flow byte and packet series."""
    # no matrix is multiplied, and NumPy would start the threads for it: 20 ms of the 300 that a small capture takes
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from netgen import api
    from netgen.capture.files import check_output
    from netgen.capture.malloc import keep_freed_memory
    from netgen.cli import output

    keep_freed_memory()  # saves 3 % of the CPU time of an 870 MB capture (1.37 s instead of 1.42 s)
    out = opt.require_suffix(out or Path(_table_name(paths)), ".parquet", "a flow table")
    if not list_names:
        check_output(out, force=force)
    if not quiet:
        _warn_if_slow(paths)
    extraction = api.extraction(
        paths, bin_width=bin_width, length=length, view=view, spec_from=spec_from, group_by=group_by, label=label,
        label_by=label_by, labels=labels, labels_zone=labels_zone, labels_offset=labels_offset,
        labels_time_format=labels_time_format, labels_column=labels_column, sni_table=sni_table,
        min_packets=min_packets, idle_timeout=idle_timeout, active_timeout=active_timeout, decapsulate=decapsulate,
        name_sources="all" if list_names else name_sources, threads=threads, strict=strict, progress=not quiet,
    )  # fmt: skip
    if list_names:
        _print_names(extraction.server_names(sni_table), as_json=as_json)
        return
    if not len(extraction):
        raise _no_flows(extraction)
    summary = extraction.write(out, force=force)
    if as_json:
        output.print_json({"wrote": str(out), **summary})
    elif not quiet:
        output.print_summary(out, summary)


def _table_name(paths: list[Path]) -> str:
    """Name the table after the capture or folder."""
    if len(paths) > 1:
        return "captures.flows.parquet"
    from netgen.capture.labels.labeller import file_stem

    path = paths[0]
    if not path.is_file() and not path.is_dir() and (str(path) == "-" or path.exists()):
        return "stdin.flows.parquet" if str(path) == "-" else "pipe.flows.parquet"
    stem = path.resolve().name if path.is_dir() else file_stem(path)
    return f"{stem}.flows.parquet"


def _warn_if_slow(paths: list[Path]) -> None:
    """Warn before plain Python reads a large capture because the compiled reader is missing."""
    from netgen.capture.native import compiled
    from netgen.cli.output import warn

    size = sum(path.stat().st_size for path in paths if path.is_file())
    if size >= SLOW_BYTES and not (compiled.ready() or compiled.is_disabled()):
        warn(
            "the compiled reader is missing, so reading takes many times as long. "
            "Reinstall netgen on a machine with a C compiler"
        )


def _no_flows(extraction: Extraction) -> InputError:
    from netgen.cli.output import format_reasons, plural

    report = extraction.read_report
    packets, files = plural(report["packets"], "packet"), plural(report["files"], "file")
    return InputError(
        f"no flow in {packets} of {files}{format_reasons(report['skipped'])}",
        "Nothing was written. To see what a file holds: netgen info FILE",
    )


def _print_names(names: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print server names, their sources, classes and traffic."""
    from netgen.cli import output

    if as_json:
        output.print_json({"names": names})
        return
    if not names:
        output.print_line("no server names were found")
        return
    table = output.new_table("name", "from", "class", numbers=("flows", "packets", "bytes"))
    for row in names:
        counts = (f"{row[key]:,}" for key in ("flows", "packets", "bytes"))
        table.add_row(row["name"], row["from"], row["class"] or "", *counts)
    output.print_table(table)
