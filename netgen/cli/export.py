"""``netgen export``: a flow table to a capture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netgen.cli import options as opt


def export(
    flows: opt.FlowTables,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="NAME.pcap or .pcapng, with .gz or .zst; NAME.csv; or - for stdout.",
            show_default="FLOWS.pcap",
        ),
    ] = None,
    seed: opt.ExportSeed = 0,
    rate: opt.Rate = None,
    start: opt.Start = None,
    payload: opt.Payload = "zeros",
    sni: opt.Sni = None,
    headers_only: opt.HeadersOnly = False,
    ip_version: opt.IpVersion = "auto",
    no_ground_truth: opt.NoGroundTruth = False,
    force: opt.Force = False,
    dry_run: opt.DryRun = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Write the flows of a table as a capture with invented addresses and payload."""
    from netgen import progress
    from netgen.capture.table.flow_table import concat, read_tables
    from netgen.cli import output
    from netgen.cli.dry_run import print_plan
    from netgen.exporters.pcap.options import capture_options
    from netgen.exporters.write import check_outputs, write

    out = out or Path(f"{opt.table_stem(flows)}.pcap")
    options = capture_options(
        out, seed=seed, start=start, rate=rate, payload=payload, sni=sni, headers_only=headers_only,
        ip_version=ip_version,
    )  # fmt: skip
    check_outputs(out, ground_truth=not no_ground_truth, force=force)
    opt.refuse_models(flows)
    if dry_run:
        table = concat(read_tables(flows))
        print_plan(out, table, flows=len(table), options=options, ground_truth=not no_ground_truth, as_json=as_json)
        return
    source = flows[0] if len(flows) == 1 else concat(read_tables(flows))
    with progress.reporting(not quiet, progress.packets_bar) as update:
        report = write(source, out, force=force, ground_truth=not no_ground_truth, options=options, progress=update)
    with output.beside_stdout(report):
        if as_json:
            output.print_json({"wrote": str(report.path), **report.to_json()})
        elif not quiet:
            output.print_written(report, output.plural(report.flows, "flow"))
