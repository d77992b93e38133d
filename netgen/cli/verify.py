"""``netgen verify``: check a capture against its ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netgen.cli import options as opt

if TYPE_CHECKING:
    from netgen.exporters.verify.verify import Verification


def verify(
    file: Annotated[Path, typer.Argument(metavar="CAPTURE", help="Capture to check, of any origin.")],
    ground_truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Labels and 5-tuples of its flows.", show_default="NAME.labels.parquet beside it"
        ),
    ] = None,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Check packet order, checksums, TCP and the ground truth of a capture; exit code 1 if a check fails."""
    from netgen.cli import output
    from netgen.exporters.verify.verify import verify as run

    result = run(file, ground_truth)
    if as_json:
        output.print_json(result.to_json())
    elif not quiet:
        _print_checks(result)
    if result.issues:
        raise typer.Exit(1)


def _print_checks(result: Verification) -> None:
    """Print each check, and the first packet that fails it."""
    from netgen.cli.output import bold, new_table, plural, print_line, print_table
    from netgen.exporters.verify.issues import CHECKS

    failed = {issue.check: issue for issue in result.issues}
    table = new_table("check")
    table.add_column("issues", justify="right")
    table.add_column("rule, or the first packet that breaks it")
    for name in result.checked:
        issue = failed.get(name)
        if issue is None:
            table.add_row(name, "-", CHECKS[name])
        else:
            where = f"packet {issue.packet:,}: " if issue.packet is not None else ""
            table.add_row(name, f"{issue.count:,}", where + issue.message)
    print_table(table)
    others = f" ({plural(result.others, 'other packet')} not checked)" if result.others else ""
    print_line(
        f"{plural(result.packets, 'packet')} of TCP, UDP, ICMP echo and IGMP{others}; "
        f"{plural(result.flows, 'flow')}, {result.connections:,} of them TCP connections"
    )
    if result.ground_truth is not None:
        print_line("compared with ", bold(result.ground_truth))
    checks = len(result.checked)
    print_line(f"{len(failed)} of {checks} checks failed" if failed else f"all {checks} checks passed")
