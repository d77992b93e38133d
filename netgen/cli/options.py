"""Words of the command line: options that several commands share, and what is made of what was typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netgen.capture.errors import InputError

Out = Annotated[Path | None, typer.Option("--out", "-o", help="File to write.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Bin = Annotated[str, typer.Option("--bin", help="Width of a bin (0.25s, 40ms), or auto: 95 % of durations fit.")]
Length = Annotated[
    int | None, typer.Option("--length", help="Bins or packets of a series, a multiple of 4.", show_default="128")
]
Kind = Annotated[
    str | None,
    typer.Option(
        "--kind", help="bins: bytes and packets over time; packets: size and gap of the first.", show_default="bins"
    ),
]
Like = Annotated[
    str | None,
    typer.Option("--like", metavar="FILE", help="Cut series as this flow table or model has.", show_default=False),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads.", show_default="chosen by a short trial")]
Guidance = Annotated[float, typer.Option("--guidance", help="Over 1: more typical of the class, and less varied.")]
NoCard = Annotated[bool, typer.Option("--no-card", help="Write no data card (FILE.card.md) beside a .parquet file.")]
MinPackets = Annotated[int, typer.Option("--min-packets", help="Leave out what has fewer packets.")]


Seed = Annotated[int, typer.Option("--seed", help="Of addresses, times and all else that a table has not.")]
Rate = Annotated[
    float | None,
    typer.Option("--rate", help="Flows of a capture that begin in a second.", show_default="as in the table, else 10"),
]
Start = Annotated[
    str | None,
    typer.Option(
        "--start", metavar="TIME", help="When a capture begins: 2026-01-31T12:00:00, UTC.", show_default=False
    ),
]
Payload = Annotated[
    str, typer.Option("--payload", help="Of a capture: zeros; tls: hellos and records; random: for no parser.")
]
Sni = Annotated[
    str | None, typer.Option("--sni", metavar="NAME", help="Server name for --payload tls.", show_default=False)
]
HeadersOnly = Annotated[
    bool, typer.Option("--headers-only", help="Leave payloads out: small, for statistics, not for replay.")
]
IpVersion = Annotated[str, typer.Option("--ip", help="Of a capture: 4, 6, or auto: as the flow's own addresses.")]
NoLabels = Annotated[
    bool, typer.Option("--no-labels", help="Write no ground truth (FILE.labels.csv, .parquet) beside a capture.")
]


def table_name(paths: list[Path]) -> str:
    """What the table of captures is called where no name is given."""
    if len(paths) > 1:
        return "captures.flows.parquet"
    from netgen.capture.labels.labeller import file_stem

    path = paths[0]
    if not path.is_file() and not path.is_dir() and (str(path) == "-" or path.exists()):
        return "stdin.flows.parquet" if str(path) == "-" else "pipe.flows.parquet"
    stem = path.resolve().name if path.is_dir() else file_stem(path)
    return f"{stem}.flows.parquet"


def parquet_file(out: Path) -> Path:
    """The output of a command that writes Parquet only."""
    if out.suffix != ".parquet":
        raise InputError(f"a flow table cannot be written to {out}", "Name it -o NAME.parquet")
    return out


def is_parquet(out: Path) -> bool:
    """Whether the output of augment is Parquet; it may be CSV, but no capture."""
    from netgen.exporters.write import FORMATS, check_ending

    form = check_ending(out)
    if form not in (FORMATS[".parquet"], FORMATS[".csv"]):
        raise InputError(
            f"{out} would be a capture, which does not say which of its flows are synthetic",
            "End the name in .parquet; with --save-model FILE, netgen synth --model FILE writes a capture",
        )
    return form == FORMATS[".parquet"]


def class_numbers(classes: list[str], n: int) -> dict[str, int] | str:
    """Class -> flows of the words after --class; or ``"all"``."""
    if n < 1:
        raise InputError(f"{n} flows cannot be drawn", "Take a positive number: -n 100")
    if classes == ["all"]:
        return "all"
    numbers: dict[str, int] = {}
    for each in classes:
        name, equals, count = each.rpartition("=")
        if not equals:
            name, count = each, str(n)
        if not name:
            raise InputError(f"--class {each!r} names no class", "Write it like --class netflix, or netflix=50")
        if name == "all":
            raise InputError(f"--class {each} cannot be combined with others", "Take --class all -n NUMBER alone")
        if not count.isdecimal() or int(count) < 1:
            raise InputError(f"--class {each}: {count!r} is no number of flows", "Write it like --class netflix=50")
        if name in numbers:
            raise InputError(f"--class {name} was given twice", f"Give it once, with the number: --class {name}=50")
        numbers[name] = int(count)
    return numbers


def file_name(numbers: dict[str, int] | str) -> str:
    """What drawn flows are called where no name is given, without ending."""
    if isinstance(numbers, str):
        return numbers
    name = next(iter(numbers)) if len(numbers) == 1 else "synthetic"
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
