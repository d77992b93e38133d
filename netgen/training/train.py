"""Train a model on a flow table: prepare, fit, finish."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from netgen.capture.table.flow_table import FlowTable, PathLike, read_tables
from netgen.diffusion.train import Progress
from netgen.model.model import Model
from netgen.progress import reporting, training_bar
from netgen.training.budget import MIN_STEPS, TrainingPlan
from netgen.training.calibration import calibrate
from netgen.training.fit import FitResult, fit
from netgen.training.prepare import TrainingJob, TrainOptions, prepare


def train(  # noqa: PLR0913 - the public API
    flows: FlowTable | PathLike | Sequence[FlowTable | PathLike],
    *,
    out: PathLike | None = None,
    minutes: float | None = None,
    training_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    preset: str = "small",
    encoder: str = "series",
    resume: bool = False,
    force: bool = False,
    name: str | None = None,
    validation: float = 0.1,
    store_flows: bool = True,
    progress: bool | Callable[[Progress], None] = True,
    on_plan: Callable[[TrainingPlan], None] | None = None,
) -> Model:
    """Train a model on labelled flows.

    Parameters
    ----------
    flows : FlowTable, path, or sequence of these
        With equal specifications; flows without a label are left out.
    out : path, optional
        Model file. Beside it, training writes the log ``OUT.metrics.jsonl`` and, until it ends,
        ``OUT.checkpoint.safetensors``, from which `resume` continues.
    minutes : float, optional
        Time limit, including earlier sessions and the calibration after the training.
    training_steps : int, optional
        Limit of steps, including earlier sessions. The first limit reached ends the training; without any it is
        `netgen.training.budget.DEFAULT_MINUTES`. Without `training_steps`, training also ends after
        `netgen.training.budget.MAX_EPOCHS` passes over the flows.
    seed : int
        The same seed gives the same model, if `training_steps`, `threads` and `precision` are given.
    device : {"auto", "cpu", "cuda"}
    threads, precision : int, {"auto", "float32", "bfloat16"}
        By default chosen by a trial of a few steps, as neither more threads nor bfloat16 is sure to be faster.
    preset : {"tiny", "small", "base"}
        Size of the network; `base` needs an accelerator.
    encoder : {"series", "gasf", "gadf", "delay"}
        What the network learns: the series, its Gramian angular fields, or its delay embedding. In the same minutes
        of a CPU, series give better models than images (BENCHMARKS.md, "Fidelity").
    resume, force : bool
        Continue from the checkpoint; replace an existing file.
    name : str, optional
        Name of the model; by default that of `out`.
    validation : float
        Fraction of each class of 10 or more flows that is held out to check the network on
        (`netgen.training.validation`); 0: none.
    store_flows : bool
        Whether the model file may hold totals, bins and complete series of real flows. Without them it holds
        distributions only, and its flows are easier to tell from real ones.
    progress : bool or callable
        True shows a bar in terminals and notebooks. A callable gets the `Progress` every few steps.
    on_plan : callable, optional
        Called with the `TrainingPlan` before the first step; by default its warnings are logged.

    Returns
    -------
    Model

    Raises
    ------
    TableError, ModelError, OutputError
        Before training, if flows, checkpoint or `out` cannot be used.
    NetgenError
        If interrupted; the checkpoint then holds everything done.
    """
    options = TrainOptions(
        out=None if out is None else Path(out), minutes=minutes, training_steps=training_steps, seed=seed,
        device=device, threads=threads, precision=precision, preset=preset, encoder=encoder, resume=resume,
        force=force, name=name, validation=validation, store_flows=store_flows,
    )  # fmt: skip
    job = prepare(read_tables(flows), options)
    with reporting(progress, training_bar) as update:
        return _finish(job, fit(job, update, on_plan or _log_warnings))


def _finish(job: TrainingJob, result: FitResult) -> Model:
    """Select the weights, calibrate the decoder and write the model.

    Totals, packet sizes and flow features do not come from the network, so they are measured on all labelled flows,
    including those held out.
    """
    start, state = time.monotonic(), job.state
    training = {**result.settings, **_outcome(job, result)}
    model = job.build_model(state.ema, job.labelled, training)
    training["parameters"] = model.parameters()
    if job.of_bins:
        model = calibrate(
            model, *job.measured_on(job.labelled), store_flows=job.options.store_flows, device=job.options.device
        )
        training["minutes"] = round((state.seconds + time.monotonic() - start) / 60, 2)
        model = dataclasses.replace(model, training=training)
    if job.files:
        model.save(job.files.path, force=True)
        job.files.checkpoint_path.unlink(missing_ok=True)
    return model


def _outcome(job: TrainingJob, result: FitResult) -> dict[str, Any]:
    """Select the weights; return what became of the training, as JSON types."""
    state, validator, outcome = job.state, result.validator, dict[str, Any]()
    ended_by, warnings = job.budget.limit(state.step), result.plan.warnings
    if validator is not None:
        selected = validator.select_weights(state)
        outcome["validation"] = {
            "flows": len(job.held_out),
            "kept": None if selected is None else dataclasses.asdict(selected),
            "stopped": validator.stopped or None,
            **validator.to_json(),
        }
        if validator.stopped:
            ended_by = "memorisation"
    if ended_by in ("minutes", "memorisation") and state.step < MIN_STEPS:
        warnings.append(f"training stopped after {state.step:,} steps; a model needs about {MIN_STEPS:,}")
    counts = job.table.counts()
    return {
        **outcome,
        "flows": {name: counts[name] for name in job.table.classes},
        "steps": state.step,
        "ended_by": ended_by,
        "minutes": round(state.seconds / 60, 2),
        "warnings": warnings,
    }


def _log_warnings(plan: TrainingPlan) -> None:
    for warning in plan.warnings:
        logging.getLogger(__name__).warning("%s", warning)
