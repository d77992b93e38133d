"""What a training keeps on disk: the model to be, a checkpoint to go on from, and a log of how it went."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from netgen.capture.errors import ModelError, OutputError
from netgen.capture.files import check_output, whole_file
from netgen.diffusion import model_file
from netgen.diffusion.train import Progress, TrainState
from netgen.model.model import FORMAT
from netgen.training.validation import Check, Validator


class TrainingFiles:
    """The files of a training: the model to be, its checkpoint, its metrics.

    Parameters
    ----------
    path : Path
        Of the model.
    resume, force : bool
        Whether the training goes on from a checkpoint, and whether what is there may be replaced.

    Raises
    ------
    ModelError, OutputError
        If there is nothing to resume from, or something that must not be lost.
    """

    def __init__(self, path: Path, *, resume: bool, force: bool) -> None:
        stem = path.name.removesuffix(".safetensors")
        self.path = path
        self.checkpoint_path = path.with_name(f"{stem}.checkpoint.safetensors")
        self.metrics_path = path.with_name(f"{stem}.metrics.jsonl")
        check_output(path, force=force)
        self.waiting = self.checkpoint_path.is_file()
        if resume and not self.waiting:
            raise ModelError(f"there is no {self.checkpoint_path} to resume from", "Leave --resume out to begin anew")
        if self.waiting and not resume and not force:
            raise ModelError(
                f"{self.checkpoint_path} holds an unfinished training",
                "Go on with --resume, or begin anew with --force",
            )

    def need_room(self, parameters: int) -> None:
        """Refuse a disk that cannot hold the model and two checkpoints, before hours go into them."""
        needed = parameters * 4 * (1 + 2 * 4)  # float32; a checkpoint has weights, average and two moments
        free = shutil.disk_usage(self.path.parent).free
        if free < needed:
            raise OutputError(
                f"{self.path} cannot be written: {free / 1e6:.0f} MB are free there, and the training needs "
                f"{needed / 1e6:.0f} MB for the model and its checkpoints",
                "Free some room, or name another place: -o FOLDER/NAME.safetensors",
            )

    def checkpoint(self, state: TrainState, fingerprint: str, validator: Validator | None) -> None:
        """Write all that it takes to go on from here."""
        metadata = {
            **({} if validator is None else validator.to_json()),
            "format": FORMAT,
            "checkpoint": True,
            "fingerprint": fingerprint,
            "step": state.step,
            "seconds": state.seconds,
        }
        with whole_file(self.checkpoint_path) as temporary:
            best = {} if validator is None else validator.tensors()
            model_file.save(temporary, {**model_file.state_tensors(state), **best}, metadata)

    def restore_checks(self, validator: Validator) -> None:
        """Give the validator the checks that were made before the checkpoint."""
        validator.restore(model_file.load_metadata(self.checkpoint_path), model_file.load_tensors(self.checkpoint_path))

    def note_check(self, check: Check) -> None:
        """A line of the log for a check."""
        with self.metrics_path.open("a") as stream:
            stream.write(json.dumps({"check": True, **check.to_json()}) + "\n")

    def restore(self, state: TrainState, fingerprint: str) -> None:
        """Bring the state to where the checkpoint has it; a ModelError if that is of another training."""
        try:
            metadata = model_file.load_metadata(self.checkpoint_path)
            if not metadata.get("checkpoint") or metadata.get("format") != FORMAT:
                raise ValueError(f"a checkpoint of format {metadata.get('format')}; this netgen reads {FORMAT}")
            if metadata["fingerprint"] != fingerprint:
                raise ModelError(
                    f"{self.checkpoint_path} belongs to other flows, another seed or another netgen",
                    "Resume with the very flows, --seed and netgen it began with, or begin anew with --force",
                )
            model_file.restore_state(state, model_file.load_tensors(self.checkpoint_path))
            state.step, state.seconds = int(metadata["step"]), float(metadata["seconds"])
        except (ValueError, KeyError) as error:
            raise ModelError(
                f"{self.checkpoint_path} cannot be resumed from: {error}", "Begin anew with --force"
            ) from error

    @contextlib.contextmanager
    def metrics(self, state: TrainState, settings: dict[str, Any]) -> Iterator[Callable[[Progress], None]]:
        """A log, a JSON line a report; a resumed training drops the lines after its checkpoint."""
        lines = []
        if state.step and self.metrics_path.is_file():
            for line in self.metrics_path.read_text().splitlines():
                with contextlib.suppress(ValueError):  # the last line may have been cut by a crash
                    if json.loads(line).get("step", 0) <= state.step:
                        lines.append(line + "\n")
        with whole_file(self.metrics_path) as temporary:
            temporary.write_text("".join(lines) + json.dumps({"begin_at_step": state.step, **settings}) + "\n")
        try:
            with self.metrics_path.open("a") as stream:

                def note(report: Progress) -> None:
                    stream.write(json.dumps(report.to_json()) + "\n")
                    stream.flush()

                yield note
        except OSError as error:
            raise OutputError(
                f"cannot write {self.metrics_path}: {error.strerror or error}",
                "Mend that, and go on with --resume if there is a checkpoint",
            ) from error


@contextlib.contextmanager
def no_metrics() -> Iterator[Callable[[Progress], None]]:
    """The log of a training without files."""
    yield lambda report: None
