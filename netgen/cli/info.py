"""``netgen info``: what a flow table, model, capture or ground truth holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from netgen.capture.errors import visible
from netgen.cli import options as opt

MAX_ITEMS = 8  # values of a list that are printed
#: Printed in a table or line of their own, or with --json only.
SEPARATE = ("classes", "read_report", "profile", "strata", "network", "noise", "training")


def info(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Flow table, model, bundled model's name, capture or ground truth.")
    ],
    as_json: opt.AsJson = False,
) -> None:
    """Print what a flow table, a model, a capture or the ground truth of one holds."""
    from netgen.cli import output
    from netgen.describe import describe

    facts = describe(file)
    if as_json:
        output.print_json(facts)
    else:
        _print_facts(facts)


def _print_facts(facts: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from netgen.cli import output

    classes = facts.get("classes")
    if isinstance(classes, dict):
        output.print_classes(classes)
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if name not in SEPARATE and value not in (None, {}, []):
            grid.add_row(Text(visible(name.replace("_", " ")), style="bold"), visible(_format(name, value)))
    output.print_table(grid)
    if isinstance(classes, list):
        training = facts.get("training", {})
        if "steps" in training:
            output.print_line(
                f"trained: {output.plural(training['steps'], 'step')} in {training.get('minutes', '?')} minutes, "
                f"{training.get('parameters', 0):,} parameters"
            )
        flows = training.get("flows", {})
        output.print_line(
            "classes: " + ", ".join(f"{name} ({flows[name]} flows)" if name in flows else name for name in classes)
        )
    output.print_read_report(facts.get("read_report", {}))


def _format(name: str, value: Any) -> str:
    if name == "series":
        from netgen.capture.series.spec import SeriesSpec

        return str(SeriesSpec.from_json(value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_format('', inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_format("", inner) for inner in value[:MAX_ITEMS]) + (", ..." * (len(value) > MAX_ITEMS))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
