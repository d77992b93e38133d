"""``netgen synth``: sample labelled synthetic flows from a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from netgen.capture.errors import InputError
from netgen.cli import options as opt

if TYPE_CHECKING:
    from netgen.capture.table.flow_table import FlowTable
    from netgen.exporters.write import WriteResult
    from netgen.model.model import Model

TRIAL_FLOWS = 32  # flows of each class that --dry-run samples to estimate the size of the output


def synth(
    classes: Annotated[
        list[str],
        typer.Option(
            "--class", "-c", metavar="NAME[=N]", help="Class to sample, and how many flows of it; repeatable; or all."
        ),
    ],
    n_flows: Annotated[
        int, typer.Option("--n-flows", "-n", help="Number of flows of each class; with --class all, in total.")
    ] = 100,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="NAME.parquet, .csv, .pcap or .pcapng.", show_default="CLASS.parquet"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Model file, or name of a bundled model.",
            show_default="the bundled model that has the class",
        ),
    ] = None,
    guidance: opt.Guidance = 1.0,
    sampling_steps: opt.SamplingSteps = None,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same flows.")] = 0,
    device: opt.Device = "auto",
    no_card: opt.NoCard = False,
    no_ground_truth: opt.NoGroundTruth = False,
    rate: opt.Rate = None,
    start: opt.Start = None,
    payload: opt.Payload = "zeros",
    sni: opt.Sni = None,
    headers_only: opt.HeadersOnly = False,
    ip_version: opt.IpVersion = "auto",
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Sample synthetic flows of a class and write them as Parquet, CSV or a capture."""
    counts = opt.class_counts(classes, n_flows)
    if model is None and isinstance(counts, str):
        raise InputError("--class all needs --model", "netgen models lists the bundled models and their classes")
    out = out or Path(f"{opt.flows_stem(counts)}.parquet")
    from netgen.exporters.pcap.options import capture_options
    from netgen.exporters.write import check_outputs, write

    options = capture_options(
        out, seed=seed, start=start, rate=rate, payload=payload, sni=sni, headers_only=headers_only,
        ip_version=ip_version,
    )  # fmt: skip
    card = out.suffix.lower() == ".parquet" and not no_card
    check_outputs(out, card=card, ground_truth=not no_ground_truth, force=force)
    from netgen import progress
    from netgen.capture.malloc import TENSOR_BYTES, keep_freed_memory
    from netgen.cli import output
    from netgen.cli.dry_run import print_plan
    from netgen.model.registry import find_model_for, load

    keep_freed_memory(TENSOR_BYTES)
    loaded = load(model if model is not None else find_model_for(list(counts)))
    if dry_run:
        counts = loaded.class_counts(counts, n_flows)
        trial = loaded.sample({name: min(number, TRIAL_FLOWS) for name, number in counts.items()}, seed=seed)
        rows = trial.summary()["classes"]
        ip_bytes = sum(number * rows[name]["bytes"] / rows[name]["flows"] for name, number in counts.items())
        print_plan(
            out, trial, flows=sum(counts.values()), ip_bytes=ip_bytes, options=options, card=card,
            ground_truth=not no_ground_truth, as_json=as_json,
        )  # fmt: skip
        return
    table = loaded.sample(
        counts, n_flows, seed=seed, guidance=guidance, sampling_steps=sampling_steps, device=device, progress=not quiet
    )
    with progress.reporting(not quiet, progress.packets_bar) as update:
        report = write(
            table, out, force=force, card=card, ground_truth=not no_ground_truth, options=options, progress=update
        )
    with output.beside_stdout(report):
        if as_json:
            output.print_json({**table.summary(), "wrote": str(report.path), **report.to_json()})
        elif not quiet:
            _print_flows(table, report, loaded)


def _print_flows(table: FlowTable, report: WriteResult, model: Model) -> None:
    """Print the classes, what was repaired, and the files."""
    from netgen.cli import output

    output.print_classes(table.summary()["classes"])
    for reason, number in table.metadata["changed"].items():
        output.print_line(f"{number} of {output.plural(len(table), 'flow')}: {reason}")
    seed = table.metadata["seed"]
    hint = " (choose another with --seed for different flows)" if seed == 0 else ""
    flows = output.plural(report.flows, "synthetic flow")
    output.print_written(report, flows, f", model {model.name}, seed {seed}{hint}")
