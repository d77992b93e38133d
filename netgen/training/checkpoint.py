"""The files of a training: the model, a checkpoint to resume from, and a log of metrics."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from netgen.capture.errors import ModelError, OutputError
from netgen.capture.files import atomic_file, check_output
from netgen.diffusion import model_file
from netgen.diffusion.train import Progress, TrainState
from netgen.model.file import FORMAT
from netgen.training.validation import Check, Validator


class TrainingFiles:
    """The files of a training beside the model at `path`.

    Raises ModelError or OutputError if there is no checkpoint to `resume` from, or without `force` a file that must not
    be lost.
    """

    def __init__(self, path: Path, *, resume: bool, force: bool) -> None:
        stem = path.name.removesuffix(".safetensors")
        self.path = path
        self.checkpoint_path = path.with_name(f"{stem}.checkpoint.safetensors")
        self.metrics_path = path.with_name(f"{stem}.metrics.jsonl")
        check_output(path, force=force)
        exists = self.checkpoint_path.is_file()
        if resume and not exists:
            raise ModelError(f"there is no {self.checkpoint_path} to resume from", "Leave out --resume to begin anew")
        if exists and not resume and not force:
            raise ModelError(
                f"{self.checkpoint_path} holds an unfinished training",
                "Continue with --resume, or begin anew with --force",
            )

    def require_space(self, parameters: int) -> None:
        """Raise an OutputError if the disk cannot hold the model and two checkpoints, before hours of training."""
        needed = parameters * 4 * (1 + 2 * 4)  # float32; a checkpoint has weights, average and two moments
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise OutputError(
                f"{self.path} cannot be written: the training needs {needed / 1e6:.0f} MB for the model and its "
                f"checkpoints, and {free / 1e6:.0f} MB are free",
                "Free some space, or choose another folder: -o FOLDER/NAME.safetensors",
            )

    def checkpoint(self, state: TrainState, fingerprint: str, validator: Validator | None) -> None:
        """Write everything needed to resume."""
        metadata = {
            **({} if validator is None else validator.to_json()),
            "format": FORMAT,
            "checkpoint": True,
            "fingerprint": fingerprint,
            "step": state.step,
            "seconds": state.seconds,
        }
        best = {} if validator is None else validator.tensors()
        with atomic_file(self.checkpoint_path) as temporary:
            model_file.save(temporary, {**model_file.state_tensors(state), **best}, metadata)

    def restore(self, state: TrainState, fingerprint: str, validator: Validator | None) -> None:
        """Load the checkpoint into the state and the validator; ModelError if damaged or of another training."""
        try:
            metadata = model_file.load_metadata(self.checkpoint_path)
            if not metadata.get("checkpoint") or metadata.get("format") != FORMAT:
                raise ValueError(f"it has format {metadata.get('format')}; this netgen reads format {FORMAT}")
            if metadata["fingerprint"] != fingerprint:
                raise ModelError(
                    f"{self.checkpoint_path} belongs to other flows, another --seed or another netgen",
                    "Resume with the flows, --seed and netgen it began with, or begin anew with --force",
                )
            tensors = model_file.load_tensors(self.checkpoint_path)
            model_file.restore_state(state, tensors)
            state.step, state.seconds = int(metadata["step"]), float(metadata["seconds"])
        except (ValueError, KeyError) as error:
            raise ModelError(
                f"{self.checkpoint_path} cannot be resumed from: {error}", "Begin anew with --force"
            ) from error
        if validator is not None:
            validator.restore(metadata, tensors)

    def log_check(self, check: Check) -> None:
        """Append a check to the log."""
        with self.metrics_path.open("a") as stream:
            stream.write(json.dumps({"check": True, **dataclasses.asdict(check)}) + "\n")

    @contextlib.contextmanager
    def metrics(self, state: TrainState, settings: dict[str, Any]) -> Iterator[Callable[[Progress], None]]:
        """Yield a function that appends a JSON line per report; resuming drops the lines after the checkpoint."""
        lines = []
        if state.step and self.metrics_path.is_file():
            for line in self.metrics_path.read_text().splitlines():
                with contextlib.suppress(ValueError):  # a crash may have cut the last line
                    if json.loads(line).get("step", 0) <= state.step:
                        lines.append(line + "\n")
        with atomic_file(self.metrics_path) as temporary:
            temporary.write_text("".join(lines) + json.dumps({"begin_at_step": state.step, **settings}) + "\n")
        try:
            with self.metrics_path.open("a") as stream:

                def write(report: Progress) -> None:
                    stream.write(json.dumps(dataclasses.asdict(report)) + "\n")
                    stream.flush()

                yield write
        except OSError as error:
            raise OutputError(
                f"cannot write {self.metrics_path}: {error.strerror or error}",
                "Solve that, and continue with --resume if there is a checkpoint",
            ) from error
