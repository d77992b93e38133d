"""``netgen import``: labelled traces that are not captures to a flow table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netgen import choices
from netgen.capture.errors import InputError
from netgen.cli import options as opt


def import_traces(
    traces: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Parquet (label, t_us, signed_bytes) or CSV (time, size, direction) of traces."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Flow table to write.", show_default="FILE.flows.parquet")
    ] = None,
    size_unit: Annotated[
        choices.SizeUnit,
        typer.Option(help="What sizes count: IP bytes, Ethernet frames (netgen subtracts 14), or payload (adds 40)."),
    ] = "ip",
    split: Annotated[list[str] | None, typer.Option(help="Import the rows of this split only; repeatable.")] = None,
    label: Annotated[str | None, typer.Option(help="Class of all traces, instead of the file's.")] = None,
    relabel: Annotated[list[str] | None, typer.Option(metavar="OLD=NEW", help="Rename a class; repeatable.")] = None,
    bin_width: opt.BinWidth = "auto",
    length: opt.Length = None,
    view: opt.View = None,
    spec_from: opt.SpecFrom = None,
    min_packets: opt.MinPackets = 1,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Import labelled traces that are not captures into a flow table."""
    from netgen import api
    from netgen.capture.files import check_output
    from netgen.cli import output

    out = opt.require_suffix(out or Path(f"{traces.stem}.flows.parquet"), ".parquet", "a flow table")
    check_output(out, force=force)
    table = api.import_traces(
        traces, bin_width=bin_width, length=length, view=view, spec_from=spec_from, size_unit=size_unit,
        split=split or None, label=label, relabel=_new_names(relabel or []), min_packets=min_packets,
    )  # fmt: skip
    table.write(out, force=force)
    if as_json:
        output.print_json({"wrote": str(out), **table.summary()})
    elif not quiet:
        output.print_summary(out, table.summary())


def _new_names(pairs: list[str]) -> dict[str, str]:
    """Parse the values of --relabel: old class -> new class."""
    names: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise InputError(f"--relabel {pair!r} is not OLD=NEW", "For example: --relabel youtube-480=youtube")
        names[old] = new
    return names
