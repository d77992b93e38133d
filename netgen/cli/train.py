"""``netgen train``: flow tables to a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netgen import choices
from netgen.cli import options as opt

if TYPE_CHECKING:
    from netgen.model.model import Model


def train(
    flows: opt.FlowTables,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Model to write.", show_default="FLOWS.safetensors")
    ] = None,
    minutes: opt.Minutes = None,
    training_steps: opt.TrainingSteps = None,
    seed: Annotated[int, typer.Option(help="Random seed of weights, batches and noise.")] = 0,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    precision: opt.Precision = "auto",
    preset: Annotated[choices.Preset, typer.Option(help="Size of the network; base needs a GPU.")] = "small",
    encoder: Annotated[
        choices.Encoder,
        typer.Option(help="Representation that the model learns: the series itself, or an image of it."),
    ] = "series",
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="that of the file")] = None,
    validation: opt.Validation = 0.1,
    store_flows: Annotated[
        bool,
        typer.Option(
            "--store-flows/--no-store-flows",
            help="Whether the model may store totals of training flows, and flows that occur more than once.",
        ),
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint beside the output.")] = False,
    force: opt.Force = False,
    quiet: opt.Quiet = False,
    as_json: opt.AsJson = False,
) -> None:
    """Train a class-conditional diffusion model on labelled flows."""
    from netgen.capture.malloc import TENSOR_BYTES, keep_freed_memory
    from netgen.cli import output
    from netgen.training.train import train as run

    out = opt.require_suffix(out or Path(f"{opt.table_stem(flows)}.safetensors"), ".safetensors", "a model")
    keep_freed_memory(TENSOR_BYTES)
    opt.refuse_models(flows)
    model = run(
        flows, out=out, minutes=minutes, training_steps=training_steps, seed=seed, device=device, threads=threads,
        precision=precision, preset=preset, encoder=encoder, name=name, validation=validation, store_flows=store_flows,
        resume=resume, force=force, progress=not quiet,
        on_plan=(lambda _: None) if quiet or as_json else partial(print, flush=True),
    )  # fmt: skip
    if as_json:
        output.print_json({"wrote": str(out), **model.metadata()})
    elif not quiet:
        print_model(out, model)


def print_model(path: Path, model: Model) -> None:
    """Print how a model was trained, and the command that samples from it."""
    from netgen.cli.output import bold, file_size, plural, print_line

    training = model.training
    print_line(
        f"{plural(training['steps'], 'training step')} in {training['minutes']} minutes ({training['device']}, "
        f"{plural(training['threads'], 'thread')}, {training['precision']}), {training['parameters']:,} parameters, "
        f"{plural(len(model.classes), 'class')}"
    )
    if training.get("ended_by") == "epochs":
        print_line(
            "stopped early: every flow was seen 300 times, and more would only memorise them (--training-steps N "
            "trains longer)"
        )
    for warning in training.get("warnings", ()):
        print_line(f"warning: {warning}")
    if validation := training.get("validation"):
        print_line(validation_line(validation))
    print_line("wrote ", bold(path), f": {file_size(path)}")
    print_line(f"sample flows: netgen synth --model {path} --class {model.classes[0]}")


def validation_line(validation: dict[str, Any]) -> str:
    """Say what the checks on held-out flows measured."""
    line, kept = f"{validation['flows']} flows held out", validation["kept"]
    if kept is None:
        return f"{line}; too few steps to check on them"
    line += (
        f": macro F1 {kept['macro_f1']:.3f} (real flows: {kept['real_macro_f1']:.3f}), closest-record share "
        f"{kept['closest_record_share']:.2f} (0.5 is ideal) at step {kept['step']}"
    )
    return f"{line}; stopped, since {validation['stopped']}" if validation["stopped"] else line
