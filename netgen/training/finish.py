"""Finish a training: select the weights, calibrate the decoder, write the model."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from netgen.model.model import Model
from netgen.training.budget import MIN_STEPS
from netgen.training.calibration import calibrate
from netgen.training.fit import FitResult
from netgen.training.prepare import TrainingJob


def finish(job: TrainingJob, result: FitResult) -> Model:
    """Return the model of a fitted job, and write it if the job has files.

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
            "kept": None if selected is None else selected.to_json(),
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
