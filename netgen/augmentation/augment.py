"""Add synthetic flows to the classes of a table that have few.

Sampled flow i of a class is the same for the same model and seed, jittered flow i for the same real flows and seed. So
a table that is augmented to 100 flows a class and then to 500 holds what one augmented to 500 at once does.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from netgen.augmentation.jitter import SPREAD, jitter_flows
from netgen.augmentation.jitter_selection import cross_validate_jitter
from netgen.augmentation.plan import AUTO, BALANCE, AugmentationPlan, ClassDeficit, parse_jitter, plan_augmentation
from netgen.capture.errors import InputError
from netgen.capture.table.arrow_utils import to_arrow
from netgen.capture.table.flow_table import FlowTable, PathLike
from netgen.capture.table.schema import FLOW_COLUMNS
from netgen.model.model import Model
from netgen.model.registry import load
from netgen.model.sampling import check_sampling, choose_device
from netgen.progress import flows_bar, jitter_bar, one_at_a_time, training_bar
from netgen.training.train import train

#: Metadata of a training that the table keeps: nothing that differs between equal trainings.
TRAINING_KEYS = ("steps", "seed", "device", "threads", "precision", "flows", "validation")
SAMPLING_KEYS = ("model", "weights_sha256", "guidance", "sampling_steps", "changed")


def augment(  # noqa: PLR0913 - the public API
    flows: FlowTable | PathLike | Sequence[FlowTable | PathLike],
    target: int | str = BALANCE,
    *,
    model: Model | PathLike | None = None,
    minutes: float | None = None,
    training_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    precision: str | None = None,
    validation: float | None = None,
    guidance: float = 1.0,
    sampling_steps: int | None = None,
    jitter: float | str = AUTO,
    only_synthetic: bool = False,
    skip_missing: bool = False,
    save_model: PathLike | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool | Callable[[int, int], None] = True,
) -> FlowTable:
    """Add synthetic flows to the classes that have few.

    Parameters
    ----------
    flows : FlowTable, path, or sequence of these
        Tables with equal series. All rows stay as they are. Synthetic flows count, but are not learned from.
    target : int or "balance"
        Flows that each class has afterwards; ``"balance"``: as many as the largest class.
    model : Model, path or name, optional
        Samples the flows. By default a model is trained on the real flows of the table.
    minutes, training_steps, precision, validation, resume
        Of that training, as in `train`.
    seed : int
        Of training and sampling. A training that `minutes` ends differs from run to run.
    device, threads
        Of training and sampling, as in `train`.
    guidance, sampling_steps
        As in `Model.sample`.
    jitter : float or "auto"
        Fraction of the new flows that are copies of real flows with each number changed by about a tenth; 1 needs no
        model. ``"auto"``: 0.5 if cross-validation on the real flows shows that such copies help a classifier, else
        0; 0 with `only_synthetic`, as jittered flows lie near real ones.
    only_synthetic : bool
        Return the new flows alone.
    skip_missing : bool
        Skip classes that `model` does not have, or that have too few real flows; otherwise they are an error.
    save_model : path, optional
        Keep the trained model in this file, which is replaced if `force` is true.
    progress : bool or callable
        True shows bars in terminals and notebooks. A callable gets flows sampled and flows in all.

    Returns
    -------
    FlowTable
        The rows of `flows`, then the new ones, class by class, with ``synthetic`` true. ``metadata["training"]``
        holds the check on held-out flows.

    Raises
    ------
    TableError, ModelError, SpecMismatchError, InputError
        Before training, if a class cannot be augmented, or `model` does not fit.
    """
    training: dict[str, Any] = {
        "minutes": minutes, "training_steps": training_steps, "precision": precision, "validation": validation,
        "resume": resume or None,
    }  # fmt: skip
    training = {name: value for name, value in training.items() if value is not None}
    sampling = {"guidance": guidance, "sampling_steps": sampling_steps, "device": device, "threads": threads}
    _check_options(model, save_model, training, parse_jitter(jitter), sampling)
    model = load(model) if isinstance(model, str | os.PathLike) else model
    plan = plan_augmentation(flows, target, model=model, jitter=jitter, skip_missing=skip_missing)
    with one_at_a_time(progress, training=training_bar, trial=jitter_bar, sampling=flows_bar) as callbacks:
        if model is None and plan.added and plan.jitter != 1:
            model = train(
                plan.training_flows(), out=save_model, force=force, name=None if save_model else "augment", seed=seed,
                device=device, threads=threads, progress=callbacks["training"], **training,
            )  # fmt: skip
        return _fill(plan, model, seed, sampling, callbacks, only_synthetic=only_synthetic)


def _check_options(
    model: Model | PathLike | None,
    save_model: PathLike | None,
    training: Mapping[str, Any],
    jitter: float | None,
    sampling: Mapping[str, Any],
) -> None:
    """Refuse options that contradict each other, before a training that would be in vain."""
    options = [*training, *(["save_model"] if save_model is not None else [])]
    if options and (model is not None or jitter == 1):
        reason = "--model is already trained" if model is not None else "--jitter 1 needs no model"
        option = f"--{options[0].replace('_', '-')}"
        raise InputError(f"{option} has no effect: {reason}", f"Leave out {option}")
    if model is not None and jitter == 1:
        raise InputError("--model has no effect: --jitter 1 needs no model", "Leave out --model")
    if save_model is not None and Path(save_model).suffix != ".safetensors":
        raise InputError(f"--save-model must end with .safetensors, got {save_model}", "For example: NAME.safetensors")
    if "resume" in training and save_model is None:
        raise InputError("--resume needs the model of the interrupted training", "Name its file: --save-model FILE")
    if sampling["threads"] is not None and sampling["threads"] < 1:
        raise InputError(f"--threads must be greater than 0, got {sampling['threads']}", "For example: --threads 1")
    check_sampling(sampling["guidance"], sampling["sampling_steps"])
    choose_device(sampling["device"])


def _fill(
    plan: AugmentationPlan,
    model: Model | None,
    seed: int,
    sampling: Mapping[str, Any],
    callbacks: Mapping[str, Callable[[int, int], None]],
    *,
    only_synthetic: bool,
) -> FlowTable:
    """Make the new flows of a plan; without `model`, all are jittered."""
    flows = plan.flows
    if not plan.added:
        if only_synthetic:
            raise InputError(
                f"no flow to write: each class already has --target {plan.target} flows", "Increase it: --target NUMBER"
            )
        return dataclasses.replace(flows, metadata={**plan.metadata(), "tables": [flows.metadata]})
    real, scores, fraction = plan.real(), None, plan.jitter or 0.0
    if plan.jitter is None and not only_synthetic and set(real.classes) & set(plan.added):
        scores = cross_validate_jitter(real, seed, callbacks["trial"])
        fraction = scores.fraction
    deficits = plan.deficits(fraction)
    tables, labels = [], np.zeros(0, object)
    metadata = {**plan.metadata(), "only_synthetic": only_synthetic, "seed": seed, "tables": [flows.metadata]}
    if model is not None:
        counts = {name: max(deficit.sampled.stop, 1) for name, deficit in deficits.items()}
        samples = model.sample(counts, seed=seed, progress=callbacks["sampling"], **sampling)
        tables, labels = [samples.table], samples.labels
        metadata |= {key: samples.metadata[key] for key in SAMPLING_KEYS}
        metadata["training"] = {key: model.training[key] for key in TRAINING_KEYS if key in model.training}
        metadata["tables"] = [flows.metadata, samples.metadata]
    jittered = {name: deficit.jittered for name, deficit in deficits.items() if deficit.jittered}
    if jittered:
        tables.append(jitter_flows(real, jittered, seed).table)
    new = pa.concat_tables(tables).take(pa.array(gather_indices(deficits, labels)))
    first = max(flows.table["flow"].to_pylist()) + 1
    new = new.combine_chunks().set_column(0, FLOW_COLUMNS.field("flow"), to_arrow(first + np.arange(len(new))))
    metadata["jittered"] = {
        "fraction": fraction, "spread": SPREAD, "flows": {name: len(numbers) for name, numbers in jittered.items()},
        **({"scores": scores.to_json()} if scores else {}),
    }  # fmt: skip
    table = new if only_synthetic else pa.concat_tables([flows.table, new]).combine_chunks()
    return FlowTable(table, flows.spec, metadata)


def gather_indices(deficits: Mapping[str, ClassDeficit], sampled_labels: np.ndarray) -> np.ndarray:
    """Return the row of each new flow in a table of all samples followed by the jittered flows."""
    indices, first = [], len(sampled_labels)
    for name, deficit in deficits.items():
        rows = np.empty(len(deficit.is_jittered), np.int64)
        rows[~deficit.is_jittered] = np.flatnonzero(sampled_labels == name)[
            deficit.sampled.start : deficit.sampled.stop
        ]
        rows[deficit.is_jittered] = first + np.arange(len(deficit.jittered))
        first += len(deficit.jittered)
        indices.append(rows)
    return np.concatenate(indices)
