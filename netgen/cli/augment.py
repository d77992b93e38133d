"""``netgen augment``: add synthetic flows to classes that have few."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netgen import choices
from netgen.capture.errors import InputError
from netgen.cli import options as opt

if TYPE_CHECKING:
    from netgen.capture.table.flow_table import FlowTable
    from netgen.exporters.write import WriteResult


def augment(
    flows: opt.FlowTables,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="NAME.parquet or .csv.", show_default="FLOWS.augmented.parquet")
    ] = None,
    target: Annotated[
        str, typer.Option(metavar="N|balance", help="Flows of each class afterwards; balance: as many as the largest.")
    ] = "balance",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model file, or name of a bundled model.",
            show_default="one trained on the real flows",
        ),
    ] = None,
    minutes: opt.Minutes = None,
    training_steps: opt.TrainingSteps = None,
    seed: Annotated[int, typer.Option(help="Random seed of training and sampling.")] = 0,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    precision: Annotated[
        choices.Precision | None,
        typer.Option(help="Floating-point numbers of training.", show_default="auto: a short trial"),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="Fraction of flows held out to monitor usefulness and memorisation.", show_default="0.1"),
    ] = None,
    guidance: opt.Guidance = 1.0,
    sampling_steps: opt.SamplingSteps = None,
    jitter: Annotated[
        str,
        typer.Option(
            metavar="FRACTION|auto",
            help="Fraction of the new flows that are copies of real flows with each number changed by about a tenth; 1 "
            "needs no model. auto: 0.5 if a trial on the real flows shows that such copies help a classifier; 0 with "
            "--only-synthetic.",
        ),
    ] = "auto",
    only_synthetic: Annotated[bool, typer.Option("--only-synthetic", help="Write the new flows alone.")] = False,
    skip_missing: Annotated[
        bool,
        typer.Option("--skip-missing", help="Skip classes that the model lacks, or with too few flows to learn from."),
    ] = False,
    save_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the trained model in this file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint beside --save-model.")] = False,
    no_card: opt.NoCard = False,
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Add synthetic flows to classes that have few; real flows stay as they are."""
    out = out or Path(f"{opt.table_stem(flows)}.augmented.parquet")
    card = _is_parquet(out) and not no_card
    from netgen.augmentation.augment import augment as run
    from netgen.augmentation.plan import plan_augmentation
    from netgen.capture.malloc import TENSOR_BYTES, keep_freed_memory
    from netgen.capture.table.flow_table import read_tables
    from netgen.cli import output
    from netgen.cli.dry_run import print_plan
    from netgen.exporters.write import check_outputs, write
    from netgen.model.registry import load

    check_outputs(out, card=card, force=force)
    opt.refuse_models(flows)
    tables = read_tables(flows)
    if dry_run:
        plan = plan_augmentation(
            tables, target, model=load(model) if model else None, jitter=jitter, skip_missing=skip_missing
        )
        added = sum(plan.added.values())
        if not as_json:
            _print_counts(plan.metadata())
        total = added if only_synthetic else added + len(plan.flows)
        print_plan(out, plan.flows, flows=total, card=card, as_json=as_json)
        return
    keep_freed_memory(TENSOR_BYTES)
    table = run(
        tables, target, model=model, minutes=minutes, training_steps=training_steps, seed=seed, device=device,
        threads=threads, precision=precision, validation=validation, guidance=guidance, sampling_steps=sampling_steps,
        jitter=jitter, only_synthetic=only_synthetic, skip_missing=skip_missing, save_model=save_model, resume=resume,
        force=force, progress=not quiet,
    )  # fmt: skip
    report = write(table, out, force=force, card=card)
    saved = save_model if table.metadata["added"] else None
    if as_json:
        saved_name = str(saved) if saved else None
        json_report = {"wrote": str(out), **report.to_json(), "saved_model": saved_name, **table.summary()}
        output.print_json(json_report)
    elif not quiet:
        _print_augmented(table, report)
        if saved:
            output.print_line("model: ", output.bold(saved))


def _is_parquet(out: Path) -> bool:
    """Tell Parquet from CSV; refuse a capture."""
    from netgen.exporters.write import FORMATS, check_ending

    file_format = check_ending(out)
    if file_format not in (FORMATS[".parquet"], FORMATS[".csv"]):
        raise InputError(
            f"{out}: a capture does not say which of its flows are synthetic",
            "Write a .parquet file; then netgen export writes a capture of it",
        )
    return file_format == FORMATS[".parquet"]


def _print_augmented(table: FlowTable, report: WriteResult) -> None:
    """Print the flows of each class before and after, and why a class was skipped."""
    from netgen.cli.output import bold, file_size, plural, print_line
    from netgen.cli.train import validation_line

    metadata, summary = table.metadata, table.summary()
    _print_counts(metadata)
    for name, reason in metadata["skipped"].items():
        print_line(f"{name} was skipped: {reason}")
    if summary["unlabelled"]:
        print_line(f"{plural(summary['unlabelled'], 'flow')} without a label were kept as they are")
    if "scores" in metadata.get("jittered", {}):
        print_line(_jitter_line(metadata["jittered"]))
    if validation := metadata.get("training", {}).get("validation"):
        print_line(validation_line(validation))
    for reason, number in metadata.get("changed", {}).items():
        print_line(f"{number} of {plural(summary['synthetic'], 'synthetic flow')}: {reason}")
    if not metadata["added"]:
        print_line("every class has enough flows: none was added")
    origin = "".join(f", {key} {metadata[key]}" for key in ("model", "seed") if key in metadata)
    print_line(
        "wrote ", bold(report.path), f": {report.format}, {plural(report.flows, 'flow')}, {summary['synthetic']} of "
        f"them synthetic, {file_size(report.path)}{origin}",
    )  # fmt: skip
    if report.card:
        print_line("data card: ", bold(report.card))


def _print_counts(metadata: dict[str, Any]) -> None:
    from netgen.cli.output import new_table, print_table

    before, added = metadata["flows_before"], metadata["added"]
    jittered = metadata.get("jittered", {}).get("flows", {})
    rows = {name: (number, added.get(name, 0), jittered.get(name, 0)) for name, number in before.items()}
    table = new_table("class", numbers=("flows before", "sampled", "jittered", "flows after"))

    def add_row(name: str, number: int, new: int, copies: int) -> None:
        table.add_row(name, f"{number:,}", f"{new - copies:,}", f"{copies:,}", f"{number + new:,}")

    for name, counts in rows.items():
        add_row(name, *counts)
    if len(rows) > 1:
        table.add_section()
        add_row("all", *(sum(column) for column in zip(*rows.values(), strict=True)))
    print_table(table)


def _jitter_line(jittered: dict[str, Any]) -> str:
    """Say what the cross-validation of jitter measured, and how to overrule it."""
    scores = jittered["scores"]
    if not scores["n_flows"]:
        return "no flow is jittered: a trial needs two classes or more with two real flows each"
    result = (
        f"in a trial, a random forest gives the true class of held-out real flows a probability of "
        f"{scores['jittered']:.3f} with jittered flows and {scores['repeated']:.3f} with repeated ones"
    )
    if number := sum(jittered["flows"].values()):
        return f"{number:,} of the new flows are jittered real ones: {result} (--jitter 0: none)"
    return f"no flow is jittered: {result}" + ("" if jittered["fraction"] else " (--jitter 0.5: half)")
