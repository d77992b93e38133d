"""Printing that several commands share: tables, lines, sizes, and what a table or capture holds."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netgen.capture.errors import first_names, visible

if TYPE_CHECKING:
    from rich.table import Table

    from netgen.exporters.write import WriteResult

MAX_DAMAGES = 5  # damaged places that are printed one by one
MAX_TRUNCATED = 0.05  # share of truncated packets above which a class gets a warning


def print_json(report: dict[str, Any]) -> None:
    """Print one JSON object on one line."""
    print(json.dumps(report))


def new_table(*text: str, numbers: Iterable[str] = (), plain: bool = False) -> Table:
    """Make a table with columns of text, then right-aligned columns of numbers; `plain` draws fewer lines."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    class Visible(Table):
        """Escapes control characters: names come from captures and label files, and must not steer the terminal."""

        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(visible(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    options: dict[str, Any] = {"box": SIMPLE_HEAD} if plain else {}
    table = Visible(*text, header_style="bold", **options)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def print_table(table: Table) -> None:
    """Print a table; class and file names such as "c[red]" are not taken for markup."""
    from rich.console import Console

    Console(highlight=False, markup=False, emoji=False).print(table)


def print_line(*pieces: str | tuple[str, str]) -> None:
    """Print a line of texts and (text, style) pairs; it is never folded, so that a path can be copied."""
    texts = [piece if isinstance(piece, tuple) else (piece, "") for piece in pieces]
    texts = [(visible(text), style) for text, style in texts]
    if not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")):  # without rich, which takes time to load
        print("".join(text for text, _ in texts))
        return
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False, markup=False, soft_wrap=True).print(Text.assemble(*texts))


def warn(message: str) -> None:
    """Print a warning on stderr."""
    print(f"netgen: {visible(message)}", file=sys.stderr)


def bold(text: object) -> tuple[str, str]:
    """Mark a text of `print_line` as bold."""
    return str(text), "bold"


def plural(number: int, noun: str) -> str:
    """Count things: ``1 packet``, ``1,200 packets``, ``2 classes``."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def file_size(path: Path) -> str:
    """Format the size of a file."""
    return format_bytes(path.stat().st_size)


def format_bytes(number: float) -> str:
    """Format a number of bytes with three digits and a unit."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"


def format_reasons(counts: dict[str, int]) -> str:
    """Format counts by reason: ``": 3 not IP, 2 truncated"``, or nothing."""
    return ": " + ", ".join(f"{number} {reason}" for reason, number in counts.items()) if counts else ""


def print_summary(path: Path, summary: dict[str, Any]) -> None:
    """Print what a flow table that was just written holds: classes, the read report, the series, the file."""
    from netgen.capture.series.spec import SeriesSpec

    print_classes(summary["classes"])
    print_read_report(summary.get("read_report", {}))
    print_line(f"series: {SeriesSpec.from_json(summary['series'])}")
    rows = summary["classes"] or {"all flows": summary}
    lost = {name: row["truncated_packets"] / row["packets"] for name, row in rows.items() if row["packets"]}
    most = sorted((share, name) for name, share in lost.items() if share > MAX_TRUNCATED)[::-1]
    if most:
        names = first_names([f"{name} ({share:.0%})" for share, name in most])
        hint = "a larger --bin-width or --length keeps more"
        print_line(f"warning: packets lost beyond the end of the series: {names}; {hint}")
    if unlabelled := summary["unlabelled"]:
        print_line(f"{unlabelled:,} of {plural(summary['flows'], 'flow')} have no label; train leaves them out")
    print_line("wrote ", bold(path), f": {plural(summary['flows'], 'flow')}, {file_size(path)}")


def print_classes(classes: dict[str, dict[str, int]]) -> None:
    """Print flows, packets and bytes of each class."""
    if not classes:
        return
    keys = ("flows", "packets", "bytes", "truncated_packets")
    table = new_table("class", numbers=("flows", "packets", "bytes", "truncated packets"))
    for name, row in classes.items():
        table.add_row(name, *(f"{row[key]:,}" for key in keys))
    if len(classes) > 1:
        table.add_section()
        table.add_row("all", *(f"{sum(row[key] for row in classes.values()):,}" for key in keys))
    print_table(table)


def print_read_report(report: dict[str, Any]) -> None:
    """Print what became of the packets of the captures that were read."""
    if not report:
        return
    files = f" in {plural(report['files'], 'file')}" if "files" in report else ""
    skipped = "".join(f", {number:,} skipped ({reason})" for reason, number in report["skipped"].items())
    print_line(f"read {plural(report['packets'], 'packet')}{files}: {report['in_flows']:,} in flows{skipped}")
    for note, number in report.get("warnings", {}).items():
        print_line(f"{number:,} {note}")
    for reason, number in report.get("flows_dropped", {}).items():
        print_line(f"{plural(number, 'flow')} left out: {reason}")
    damaged = report.get("damaged", [])
    for damage in damaged[:MAX_DAMAGES]:
        print_line(f"damaged: {damage['file']}, byte {damage['byte']}: {damage['reason']}; packets before it were kept")
    if len(damaged) > MAX_DAMAGES:
        print_line(f"... and {len(damaged) - MAX_DAMAGES} more damaged places; netgen info --json lists all")
    if others := report.get("not_captures", []):
        print_line(f"{plural(len(others), 'file')} skipped as not a capture, such as {others[0]}")


def print_written(report: WriteResult, flows: str, end: str = "") -> None:
    """Print what `netgen.write` wrote; `flows` counts them, `end` says how they were made."""
    for reason, number in report.repairs.items():
        print_line(f"{number:,} of {plural(report.flows, 'flow')} repaired for the capture: {reason}")
    if report.connections:
        kinds = ", ".join(f"{number:,} {name}" for name, number in report.connections.items())
        print_line(f"TCP connections: {kinds}")
    packets = f", {plural(report.packets, 'packet')}" if report.packets is not None else ""
    size = format_bytes(report.bytes_written)
    print_line("wrote ", bold(report.path), f": {report.format}, {flows}{packets}, {size}{end}")
    if report.card:
        print_line("data card: ", bold(report.card))
    if report.ground_truth:
        print_line("ground truth: ", bold(report.ground_truth[0]), " and ", bold(report.ground_truth[1]))


def beside_stdout(report: WriteResult) -> contextlib.AbstractContextManager[Any]:
    """Send what is printed to stderr if the capture itself went to stdout."""
    return contextlib.redirect_stdout(sys.stderr) if str(report.path) == "-" else contextlib.nullcontext()
