"""The command line: `app` holds the commands; `main` runs one, and prints an error in one line."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from netgen.capture.errors import NetgenError, visible
from netgen.cli.augment import augment
from netgen.cli.evaluate import evaluate
from netgen.cli.export import export
from netgen.cli.extract import extract
from netgen.cli.import_traces import import_traces
from netgen.cli.info import info
from netgen.cli.models import models
from netgen.cli.show import show
from netgen.cli.synth import synth
from netgen.cli.train import train
from netgen.cli.verify import verify


class _Group(TyperGroup):
    """Raises a `NetgenError` on Ctrl-C, where typer would end without a word and with exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise NetgenError("interrupted", "No file was left half-written; run the command again") from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[:1] == ["version"]:
            ctx.fail("No such command 'version'. Did you mean 'netgen --version'?")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="netgen",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and exit.")] = False,
) -> None:
    """Learn from network captures, and generate new, labelled traffic."""
    if version:
        from netgen._version import __version__

        print(f"netgen {__version__}")
        raise typer.Exit


@app.command()
def extract(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Captures (pcap, pcapng, compressed too), folders of them, - for stdin."),
    ],
    out: Out = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Class of every flow, or of those no other rule labels.")
    ] = None,
    label_by: Annotated[
        str | None,
        typer.Option("--label-by", help="folder or file: its name is the class; sni: the TLS server name decides."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", metavar="FILE", help="Labels of an IDS data set (CSV), or netgen's own.")
    ] = None,
    labels_zone: Annotated[
        str,
        typer.Option("--labels-zone", metavar="ZONE", help="Zone of the labels' times: UTC, -03:00, Europe/Berlin."),
    ] = "UTC",
    labels_offset: Annotated[
        str,
        typer.Option(
            "--labels-offset", metavar="TIME", help="Add to the labels' times to get the capture's: 2.5s, -1h."
        ),
    ] = "0s",
    labels_times: Annotated[
        str | None,
        typer.Option("--labels-times", metavar="FORMAT", help="The labels' times, as strptime: '%d/%m/%Y %I:%M'."),
    ] = None,
    labels_column: Annotated[
        str | None, typer.Option("--labels-column", metavar="NAME", help="The labels' column that is the class.")
    ] = None,
    sni_table: Annotated[
        Path | None,
        typer.Option("--sni-table", metavar="CSV", help="Your own suffix,class rows, asked before the built-in ones."),
    ] = None,
    by: Annotated[str, typer.Option("--by", help="A series for each flow, host (initiator) or capture.")] = "flow",
    bin: Bin = "auto",
    length: Length = None,
    kind: Kind = None,
    like: Like = None,
    min_packets: MinPackets = 1,
    idle_timeout: Annotated[str, typer.Option("--idle-timeout", help="Silence after which a flow has ended.")] = "120s",
    active_timeout: Annotated[
        str | None, typer.Option("--active-timeout", help="Time after which a flow is ended and begun anew.")
    ] = None,
    inner: Annotated[
        bool, typer.Option("--inner", help="Count the packet inside a tunnel (IP-in-IP, GRE, VXLAN, GTP-U).")
    ] = False,
    names: Annotated[
        str,
        typer.Option("--names", help="Server names to look for: tls, or all: QUIC and DNS too."),
    ] = "tls",
    list_names: Annotated[
        bool, typer.Option("--list-names", help="Show what server names the captures hold; write nothing.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Threads that read.")] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a capture is damaged; otherwise what can be read is kept.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Pull per-flow byte and packet series out of captures into a flow table."""
    _say_if_not_compiled(paths)
    from netgen import api
    from netgen.capture.files import check_output
    from netgen.capture.malloc import keep_freed_memory
    from netgen.cli import output
    from netgen.cli import progress as bars

    keep_freed_memory()  # saves a tenth of the CPU time: 1.12 instead of 1.17 s for a capture of 500 MB
    out = out or Path(table_name(paths))
    if not list_names:
        check_output(parquet_file(out), force=force)
    with bars.bytes_bar("Reading") as progress:
        found = api.extraction(
            paths, bin=bin, length=length, kind=kind, like=like, by=by, label=label, label_by=label_by,
            labels=labels, labels_zone=labels_zone, labels_offset=labels_offset, labels_times=labels_times,
            labels_column=labels_column, sni_table=sni_table, min_packets=min_packets, idle_timeout=idle_timeout,
            active_timeout=active_timeout, inner=inner, names="all" if list_names else names, jobs=jobs,
            strict=strict, progress=progress,
        )  # fmt: skip
    if list_names:
        output.names_listed(found.names(sni_table), as_json=as_json)
        return
    if not len(found):
        read_report = found.read_report
        raise InputError(
            f"no flow came out of {read_report['packets']} packets in {read_report['files']} files"
            + output.reasons(read_report["skipped"]),
            "Nothing was written. See what the file holds: netgen info FILE",
        )
    output.table_made(out, found.write(out, force=force), as_json=as_json)


@app.command("import")
def import_(
    traces: Annotated[Path, typer.Argument(help="Parquet (label, t_us, signed_bytes) or CSV (time, size, direction).")],
    out: Out = None,
    sizes: Annotated[
        str, typer.Option("--sizes", help="What sizes count: ip; frame (less 14) or payload (plus 40) bytes.")
    ] = "ip",
    split: Annotated[list[str] | None, typer.Option("--split", help="Only the rows of this split; repeatable.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Class of all traces, whatever the file says.")] = None,
    relabel: Annotated[
        list[str] | None, typer.Option("--relabel", metavar="OLD=NEW", help="Rename a class; repeatable.")
    ] = None,
    bin: Bin = "auto",
    length: Length = None,
    kind: Kind = None,
    like: Like = None,
    min_packets: MinPackets = 1,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Turn labelled traces that are not captures into a flow table."""
    from netgen import api
    from netgen.capture.files import check_output
    from netgen.cli import output

    out = out or Path(f"{traces.stem}.flows.parquet")
    check_output(parquet_file(out), force=force)
    names: dict[str, str] = {}
    for pair in relabel or []:
        old, equals, new = pair.partition("=")
        if not (old and equals and new):
            raise InputError(f"--relabel {pair!r} is not OLD=NEW", "Write it like --relabel youtube-480=youtube")
        names[old] = new
    table = api.import_traces(
        traces, bin=bin, length=length, kind=kind, like=like, sizes=sizes, split=split or None, label=label,
        relabel=names, min_packets=min_packets,
    )  # fmt: skip
    table.write(out, force=force)
    output.table_made(out, table.summary(), as_json=as_json)


@app.command()
def train(
    flows: Annotated[list[Path], typer.Argument(metavar="FLOWS", help="Flow tables of equal series.")],
    out: Out = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes",
            show_default="10",
            help="Take about so long, earlier sessions counted in; less if each flow was seen 300 times.",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Stop after this many steps in all.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, batches and noise.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
    precision: Annotated[
        str, typer.Option("--precision", help="float32, bfloat16, or auto: chosen by a short trial.")
    ] = "auto",
    preset: Annotated[str, typer.Option("--preset", help="Size: tiny, small, or base, for an accelerator.")] = DEFAULT,
    encoder: Annotated[
        str, typer.Option("--encoder", help="How series become images: series (not at all), gasf, gadf or delay.")
    ] = DEFAULT_ENCODER,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the model.", show_default="that of the file")
    ] = None,
    validation: Annotated[
        float, typer.Option("--validation", help="Share of flows held back, to check usefulness and memorising on.")
    ] = 0.1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint beside the output.")] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train a class-conditional diffusion model on the labelled flows of flow tables."""
    from netgen.capture.malloc import keep_freed_memory
    from netgen.capture.table.flow_table import FlowTable, concat
    from netgen.cli import output
    from netgen.cli import progress as bars
    from netgen.training.train import train as run

    keep_freed_memory(_TENSORS)
    out = out or Path(flows[0].name.removesuffix(".parquet").removesuffix(".flows") + ".safetensors")
    if out.suffix != ".safetensors":
        raise InputError(f"a model cannot be written to {out}", "Name it -o NAME.safetensors")
    table = concat(FlowTable.read(path) for path in flows)
    with bars.training_bar() as progress:
        model = run(
            table, out=out, minutes=minutes, steps=steps, seed=seed, device=device, threads=threads,
            precision=precision, preset=preset, encoder=encoder, name=name, validation=validation, resume=resume,
            force=force, progress=progress,
        )  # fmt: skip
    output.model_made(out, model, as_json=as_json)


@app.command()
def synth(
    classes: Annotated[
        list[str], typer.Option("--class", "-c", metavar="NAME[=COUNT]", help="Class to draw; repeatable; or all.")
    ],
    n: Annotated[int, typer.Option("-n", "--number", help="Flows of each class; with --class all, in all.")] = 100,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="FILE.parquet, .csv or .pcap.", show_default="CLASS.parquet"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="File or shipped name.", show_default="the shipped model that has the class"
        ),
    ] = None,
    guidance: Guidance = 1.0,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Sampling steps.", show_default="the model's, 10")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Flow i of a class is the same for the same seed.")] = 0,
    device: Device = "auto",
    no_card: NoCard = False,
    no_labels: NoLabels = False,
    rate: Rate = None,
    start: Start = None,
    payload: Payload = "zeros",
    sni: Sni = None,
    headers_only: HeadersOnly = False,
    ip: IpVersion = "auto",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Draw synthetic flows of a class and write them as Parquet, CSV or a capture."""
    numbers = class_numbers(classes, n)
    out = out or Path(f"{file_name(numbers)}.parquet")
    from netgen.exporters.pcap.options import capture_options
    from netgen.exporters.write import check_outputs, write

    options = capture_options(
        out, seed=seed, start=start, rate=rate, payload=payload, sni=sni, headers_only=headers_only, ip_version=ip
    )
    card = out.suffix.lower() == ".parquet" and not no_card
    check_outputs(out, card=card, ground_truth=not no_labels, force=force)
    from netgen.capture.malloc import keep_freed_memory
    from netgen.cli import output
    from netgen.cli import progress as bars
    from netgen.model.registry import find_model_for, load

    keep_freed_memory(_TENSORS)
    if model is None and isinstance(numbers, str):
        raise InputError("--class all needs a model to take all classes of", "Add --model; netgen models lists them")
    loaded = load(model) if model is not None else load(find_model_for(list(numbers)))
    with bars.flows_bar("Drawing") as progress:
        table = loaded.sample(numbers, n, seed=seed, guidance=guidance, steps=steps, device=device, progress=progress)
    with bars.packets_bar() as progress:
        report = write(
            table, out, force=force, card=card, ground_truth=not no_labels, options=options, progress=progress
        )  # fmt: skip
    output.flows_drawn(table, report, loaded, as_json=as_json)


@app.command()
def augment(
    flows: Annotated[list[Path], typer.Argument(metavar="FLOWS", help="Flow tables of equal series.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="FILE.parquet or .csv.", show_default="FLOWS.augmented.parquet"),
    ] = None,
    to: Annotated[
        str, typer.Option("--to", metavar="NUMBER|balance", help="Flows of each class; balance: as the largest has.")
    ] = "balance",
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="File or shipped name.", show_default="one trained on the real flows"),
    ] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Of training.", show_default="10")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Stop the training after this many steps.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of training and drawing.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="Of training: float32, bfloat16 or auto.", show_default="auto")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option("--validation", help="Share of flows held back in training, to check on.", show_default="0.1"),
    ] = None,
    guidance: Guidance = 1.0,
    sampling_steps: Annotated[
        int | None, typer.Option("--sampling-steps", help="Sampling steps.", show_default="the model's, 10")
    ] = None,
    jitter: Annotated[
        str,
        typer.Option(
            "--jitter",
            metavar="SHARE|auto",
            help="Share of the new flows that are real ones, each number changed a little; auto: half, if a forest "
            "learns more from such in a trial on the real flows, and none with --only-synthetic.",
        ),
    ] = "auto",
    only_synthetic: Annotated[bool, typer.Option("--only-synthetic", help="Write the new flows alone.")] = False,
    skip_missing: Annotated[
        bool,
        typer.Option(
            "--skip-missing", help="Leave classes as they are that the model lacks, or that have too few flows."
        ),
    ] = False,
    save_model: Annotated[
        Path | None,
        typer.Option("--save-model", metavar="FILE", help="Keep the model that is trained.", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint beside --save-model.")] = False,
    no_card: NoCard = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Top up classes of few flows with synthetic ones; real flows stay as they are."""
    out = out or Path(flows[0].name.removesuffix(".parquet").removesuffix(".flows") + ".augmented.parquet")
    card = is_parquet(out) and not no_card
    from netgen.exporters.write import check_outputs, write

    check_outputs(out, card=card, force=force)
    from netgen.augmentation.augment import Drawing
    from netgen.augmentation.augment import augment as run
    from netgen.capture.malloc import keep_freed_memory
    from netgen.capture.table.flow_table import FlowTable
    from netgen.cli import output
    from netgen.cli import progress as bars

    keep_freed_memory(_TENSORS)
    training: dict[str, Any] = {"minutes": minutes, "steps": steps, "precision": precision, "validation": validation}
    training |= {"resume": resume or None}
    drawing = Drawing(seed=seed, device=device, threads=threads, guidance=guidance, steps=sampling_steps)
    with bars.augmenting_bars() as (training_progress, trial_progress, progress):
        table = run(
            [FlowTable.read(path) for path in flows], to, model=model, drawing=drawing, jitter=jitter,
            only_synthetic=only_synthetic, skip_missing=skip_missing, save_model=save_model, force=force,
            training_progress=training_progress, trial_progress=trial_progress, progress=progress,
            **{name: value for name, value in training.items() if value is not None},
        )  # fmt: skip
    report = write(table, out, seed=seed, force=force, card=card)
    output.augmented(table, report, save_model, as_json=as_json)


@app.command()
def export(
    flows: Annotated[list[Path], typer.Argument(metavar="FLOWS", help="Flow tables of equal series.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="FILE.pcap or .pcapng, with .gz or .zst; .csv; - for stdout.", show_default="FLOWS.pcap"
        ),
    ] = None,
    seed: Seed = 0,
    rate: Rate = None,
    start: Start = None,
    payload: Payload = "zeros",
    sni: Sni = None,
    headers_only: HeadersOnly = False,
    ip: IpVersion = "auto",
    no_labels: NoLabels = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the flows of a table as a capture: an anonymous replay, where they are real."""
    from netgen.capture.table.flow_table import FlowTable, concat
    from netgen.cli import output
    from netgen.cli import progress as bars
    from netgen.exporters.pcap.flow_file import FlowFile
    from netgen.exporters.pcap.options import capture_options
    from netgen.exporters.write import check_outputs, write

    out = out or Path(flows[0].name.removesuffix(".parquet").removesuffix(".flows") + ".pcap")
    options = capture_options(
        out, seed=seed, start=start, rate=rate, payload=payload, sni=sni, headers_only=headers_only, ip_version=ip
    )
    check_outputs(out, ground_truth=not no_labels, force=force)
    table = FlowFile(flows[0]) if len(flows) == 1 else concat(FlowTable.read(path) for path in flows)
    with bars.packets_bar() as progress:
        report = write(table, out, force=force, ground_truth=not no_labels, options=options, progress=progress)
    output.flows_exported(report, as_json=as_json)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A capture of any origin.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", metavar="FILE", help="The truth about it.", show_default="NAME.labels.parquet beside it"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a capture: order, checksums, whole connections, the truth beside it; exit code 1 if one fails."""
    from netgen.cli import output
    from netgen.exporters.verify.verify import verify as run

    found = run(file, labels)
    output.verified(found, as_json=as_json)
    if found.issues:
        raise typer.Exit(1)


@app.command()
def evaluate(
    real: Annotated[
        Path, typer.Option("--real", metavar="FILE", help="What the synthetic flows were made from: table or captures.")
    ],
    synth: Annotated[Path, typer.Option("--synth", metavar="FILE", help="The synthetic flows: table or capture.")],
    holdout: Annotated[
        Path | None,
        typer.Option(
            "--holdout", metavar="FILE", help="Real flows that were held back.", show_default="half of --real"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Report to write, FILE.html.", show_default=False)
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option("--training", metavar="FILE", help="NAME.metrics.jsonl of train, to plot in the report."),
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Of captures: a series for each flow, host or capture.")] = "flow",
    label_by: Annotated[
        str | None, typer.Option("--label-by", help="Of captures: folder, file or sni names the class.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same files and seed give the same figures.")] = 0,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Say whether synthetic flows are useful, real and private enough, by figures beside their anchors."""
    from netgen import evaluate_files
    from netgen.capture.files import check_output
    from netgen.cli import output
    from netgen.cli import progress as bars

    if out is not None:
        check_output(out, force=force)
        if out.suffix.lower() != ".html":
            raise InputError(f"a report cannot be written to {out}", "Name it -o NAME.html")
    elif training is not None:
        raise InputError("--training is plotted in the report, and none is written", "Name one: -o report.html")
    with bars.steps_bar() as progress:
        found = evaluate_files.evaluate(
            real, synth, holdout=holdout, seed=seed, by=by, label_by=label_by, progress=progress
        )
    if out is not None:
        from netgen.evaluation.report.sections import write_report

        names = {"real": str(real), "synth": str(synth)} | ({"holdout": str(holdout)} if holdout else {})
        write_report(found, out, names=names, training=training, force=force)
    output.evaluated(found, out, as_json=as_json)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Print this model's card.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List the models that come with netgen, or print the card of one."""
    from netgen.cli import output
    from netgen.model.registry import bundled_models, find_model

    if name is None:
        output.models_listed(bundled_models(), as_json=as_json)
        return
    card = find_model(name).with_suffix(".md")
    if not card.is_file():
        raise InputError(f"model {name} has no card", f"netgen info {name} shows what its file says")
    print(json.dumps({"name": name, "card": card.read_text()}) if as_json else card.read_text())


@app.command()
def info(
    file: Annotated[
        Path,
        typer.Argument(help="A flow table, a model (or a shipped one's name), a capture, or the labels beside it."),
    ],
    as_json: AsJson = False,
) -> None:
    """Say what a flow table, a model, a capture or the labels beside one holds."""
    from netgen import describe
    from netgen.cli import output

    output.described(describe.describe(file), as_json=as_json)


@app.command()
def show(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Flow tables or models; a second stands beside the first."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write: .png, .svg or .pdf.")] = Path("show.png"),
    classes: Annotated[
        list[str] | None, typer.Option("--class", "-c", help="Class to show; repeatable.", show_default="the first 4")
    ] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="Channel to show as image.", show_default="down_bytes, or size")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Which flows are picked.")] = 0,
    force: Force = False,
) -> None:
    """Draw series and their Gramian angular fields, real beside synthetic."""
    from netgen import plotting

    print(f"wrote {plotting.show(files, out, classes=classes or None, channel=channel, seed=seed, force=force)}")


def console() -> None:
    """`main` in a process of its own, which ends as soon as nothing is left to do.

    Python would take apart all that was loaded, object by object: a sixth of the time of a small file.
    """
    try:
        main()
    except SystemExit as ended:
        if ended.code or threading.active_count() > 1:
            raise
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """Run the command line; an error that netgen raises is printed in one line and gives exit code 1."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115  (None where the caller closed it)
    sys.stderr = sys.stderr or sys.stdout
    try:
        try:
            app(prog_name="netgen")
        finally:
            _flush()
    except NetgenError as error:
        _fail(error.message, error.hint)
    except BrokenPipeError:
        sys.exit(1)  # the program that read stdout has ended
    except OSError as error:
        _fail(f"{error.filename or 'the system'}: {error.strerror or error}", None)
    except MemoryError:
        _fail("out of memory", "Use fewer files or flows at a time")


def _flush() -> None:
    """Write out stdout, so that a full disk is an error and not a warning after the end."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError):  # drop what could not be written, or Python tries again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        error.filename = error.filename or "standard output"
        raise


def _fail(message: str, hint: str | None) -> None:
    line = message[:1].lower() + message[1:] if message[:2].istitle() else message
    line = f"netgen: {line}" + (f". {hint}" if hint else "")
    print(visible(line), file=sys.stderr)  # a message may quote control characters from a file
    sys.exit(1)


def _named_bytes(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


def _say_if_not_compiled(paths: list[Path]) -> None:
    """Warn that a large capture is read by plain Python, where nobody asked for that."""
    from netgen.capture.native import compiled

    if _named_bytes(paths) >> 27 and not (compiled.ready() or compiled.jackknife()):
        note = "netgen: reading without compiled code, which takes many times as long; install netgen where there is a C compiler"
        print(note, file=sys.stderr)


def command_names() -> list[str]:
    """List the names of all commands."""
    group: Any = typer.main.get_command(app)
    return sorted(group.commands)
