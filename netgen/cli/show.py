"""``netgen show``: plot series and their Gramian angular fields, real beside synthetic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netgen.cli import options as opt


def show(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Flow table or model; a second one is plotted beside the first."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write: NAME.png, .svg or .pdf.")] = Path(
        "show.png"
    ),
    classes: Annotated[
        list[str] | None, typer.Option("--class", "-c", help="Class to plot; repeatable.", show_default="the first 4")
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Channel to plot as an image.", show_default="down_bytes, or size")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed that picks the flows.")] = 0,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
) -> None:
    """Plot series of flows and their Gramian angular fields, real beside synthetic."""
    from netgen import plotting

    path = plotting.show(files, out, classes=classes or None, channel=channel, seed=seed, force=force)
    if not quiet:
        print(f"wrote {path}")
