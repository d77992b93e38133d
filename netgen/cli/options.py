"""Options that several commands share, and the parsing of what was typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netgen import choices
from netgen.capture.errors import InputError

Force = Annotated[bool, typer.Option("--force", help="Replace output files that exist.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print how many flows, bytes and files would be written, and write nothing.")
]

BinWidth = Annotated[
    str, typer.Option(metavar="TIME", help="Width of a bin, such as 0.25s or 40ms. auto fits 95 % of flows.")
]
Length = Annotated[
    int | None, typer.Option(help="Number of bins or packets in a series, a multiple of 4.", show_default="128")
]
View = Annotated[
    choices.View | None,
    typer.Option(help="bins: bytes and packets over time; packets: size and gap of the first.", show_default="bins"),
]
SpecFrom = Annotated[
    str | None, typer.Option(metavar="FILE", help="Take view, bin width and length from this flow table or model.")
]
MinPackets = Annotated[int, typer.Option(help="Leave out flows with fewer packets.")]
LabelBy = Annotated[
    choices.LabelBy | None,
    typer.Option(help="Label flows by the name of the folder or file, or by the server name (sni)."),
]
GroupBy = Annotated[choices.GroupBy, typer.Option(help="One row per flow, per initiating host, or per capture.")]

FlowTables = Annotated[list[Path], typer.Argument(metavar="FLOWS...", help="Flow tables with equal series.")]
Minutes = Annotated[
    float | None,
    typer.Option(
        show_default="10",
        help="Training time, including time spent before --resume. Training stops earlier once every flow has been "
        "seen 300 times.",
    ),
]
TrainingSteps = Annotated[int | None, typer.Option(help="Stop after this many training steps.")]
Validation = Annotated[float, typer.Option(help="Fraction of flows held out to monitor usefulness and memorisation.")]
Precision = Annotated[
    choices.Precision, typer.Option(help="Floating-point numbers of training. auto runs a short trial.")
]
Device = Annotated[choices.Device, typer.Option(help="Processor. auto takes a GPU where there is one.")]
Threads = Annotated[int | None, typer.Option(help="Number of CPU threads.", show_default="chosen by a short trial")]
SamplingSteps = Annotated[
    int | None, typer.Option(help="Steps of the sampler; more take longer.", show_default="the model's, 10")
]
Guidance = Annotated[float, typer.Option(help="Above 1, flows are more typical of their class and less varied.")]
NoCard = Annotated[bool, typer.Option("--no-card", help="Write no data card (NAME.card.md) beside a Parquet file.")]

ExportSeed = Annotated[
    int, typer.Option(help="Random seed of addresses, ports and times; the same seed gives the same capture.")
]
Rate = Annotated[
    float | None, typer.Option(help="New flows a second in the capture.", show_default="times of the table, else 10")
]
Start = Annotated[
    str | None, typer.Option(metavar="TIME", help="Time of the first packet in UTC: 2026-01-31T12:00:00.")
]
Payload = Annotated[
    choices.Payload, typer.Option(help="Payload bytes: zeros, TLS records behind a handshake, or random.")
]
Sni = Annotated[str | None, typer.Option(metavar="NAME", help="Server name in --payload tls.")]
HeadersOnly = Annotated[
    bool, typer.Option("--headers-only", help="Leave payloads out: a small file for statistics, not for replay.")
]
IpVersion = Annotated[choices.IpVersion, typer.Option(help="IP version of the packets. auto keeps each flow's own.")]
NoGroundTruth = Annotated[
    bool, typer.Option("--no-ground-truth", help="Write no NAME.labels.csv and NAME.labels.parquet beside a capture.")
]


def table_stem(flows: list[Path]) -> str:
    """Name the outputs of a command after its first flow table: ``iot`` of ``iot.flows.parquet``."""
    return flows[0].name.removesuffix(".parquet").removesuffix(".flows")


def require_suffix(out: Path, suffix: str, content: str) -> Path:
    """Return `out` if it ends in `suffix`; otherwise the error says what `content` would have been written."""
    if out.suffix != suffix:
        raise InputError(f"{content} cannot be written to {out}", f"End the name in {suffix}: -o NAME{suffix}")
    return out


def refuse_models(flows: list[Path]) -> None:
    """Refuse a model where a flow table is expected, and name the command that samples flows from it."""
    for path in flows:
        if path.suffix == ".safetensors":
            raise InputError(
                f"{path} is a model, not a flow table",
                f"To sample flows from it: netgen synth --model {path} --class all",
            )


def class_counts(classes: list[str], n_flows: int) -> dict[str, int] | str:
    """Parse the values of --class: class -> number of flows, or ``"all"``."""
    if n_flows < 1:
        raise InputError(f"-n must be at least 1, got {n_flows}", "For example: -n 100")
    if classes == ["all"]:
        return "all"
    counts: dict[str, int] = {}
    for word in classes:
        name, equals, number = word.rpartition("=")
        if not equals:
            name, number = word, str(n_flows)
        if not name:
            raise InputError(f"--class {word!r} names no class", "Write --class netflix, or --class netflix=50")
        if name == "all":
            raise InputError(f"--class {word} cannot be combined with others", "Use --class all -n NUMBER alone")
        if not number.isdecimal() or int(number) < 1:
            raise InputError(f"--class {word}: {number!r} is not a number of flows", "Write --class netflix=50")
        if name in counts:
            raise InputError(f"--class {name} was given twice", f"Give it once, with its number: --class {name}=50")
        counts[name] = int(number)
    return counts


def flows_stem(counts: dict[str, int] | str) -> str:
    """Name sampled flows after their class, without an ending."""
    if isinstance(counts, str):
        return counts
    name = next(iter(counts)) if len(counts) == 1 else "synthetic"
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
