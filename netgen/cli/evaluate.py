"""``netgen evaluate``: measure how useful, realistic and private synthetic flows are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netgen.capture.errors import InputError
from netgen.cli import options as opt

if TYPE_CHECKING:
    from netgen.evaluation.evaluate import Evaluation

_ARROWS = {"high": "↑", "low": "↓", "half": "½"}


def evaluate(
    real: Annotated[Path, typer.Option(metavar="FILE", help="The flows that the synthetic ones were made from.")],
    synthetic: Annotated[
        Path, typer.Option(metavar="FILE", help="The synthetic flows: a table, a capture or a folder.")
    ],
    holdout: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Real flows that no synthetic flow was made from.", show_default="half of --real"
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Report to write, NAME.html.")] = None,
    training: Annotated[
        Path | None, typer.Option(metavar="FILE", help="NAME.metrics.jsonl of netgen train, to plot in the report.")
    ] = None,
    group_by: opt.GroupBy = "flow",
    label_by: opt.LabelBy = None,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same numbers.")] = 0,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Measure whether synthetic flows are useful, realistic and private enough, and say so in a verdict."""
    from netgen import evaluate_files
    from netgen.capture.files import check_output
    from netgen.cli import output

    if out is not None:
        check_output(out, force=force)
        if out.suffix.lower() != ".html":
            raise InputError(f"a report cannot be written to {out}", "End the name in .html: -o NAME.html")
    elif training is not None:
        raise InputError("--training is plotted in the report, so it needs -o", "Name one: -o report.html")
    evaluation = evaluate_files.evaluate(
        real, synthetic, holdout=holdout, seed=seed, group_by=group_by, label_by=label_by, progress=not quiet
    )
    if out is not None:
        from netgen.evaluation.report.sections import write_report

        names = {"real": str(real), "synthetic": str(synthetic)} | ({"holdout": str(holdout)} if holdout else {})
        write_report(evaluation, out, names=names, training=training, force=force)
    if as_json:
        output.print_json(evaluation.to_json() | ({"report": str(out)} if out else {}))
    elif not quiet:
        _print_evaluation(evaluation)
        if out is not None:
            output.print_line("wrote ", output.bold(out), f": report, {output.file_size(out)}")


def _print_evaluation(evaluation: Evaluation) -> None:
    """Print the metrics beside their reference and baselines, the reasons and the verdict."""
    from netgen.cli.output import new_table, print_line, print_table
    from netgen.evaluation.metrics import SIDES

    table = new_table("metric", numbers=("value", "95 %", *SIDES[1:]), plain=True)
    group = None
    for row in evaluation.rows.values():
        if row.synthetic is None and row.reference is None:
            continue
        if group not in (None, row.metric.group):
            table.add_section()
        group = row.metric.group
        interval = "" if row.synthetic is None else f"{row.synthetic.low:.2f}-{row.synthetic.high:.2f}"
        estimates = (row.synthetic, row.reference, row.shuffled, row.copies)
        first, *others = ["-" if estimate is None else f"{estimate.value:.3f}" for estimate in estimates]
        table.add_row(f"{row.metric.title} {_ARROWS[row.metric.better]}", first, interval, *others)
    print_table(table)
    print_line("↑ higher is better, ↓ lower is better, ½ nearer to 0.5 is better")
    print_line("reference: the same for real flows in place of the synthetic ones")
    for reason in evaluation.verdict.reasons:
        print_line(f"- {reason}")
    print_line(("verdict: ", "bold"), evaluation.verdict.text)
