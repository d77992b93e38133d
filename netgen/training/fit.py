"""Fit the network of a training: speed trial, checkpoints, log, checks, and interruption."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from netgen.capture.errors import NetgenError
from netgen.diffusion.train import Hooks, Progress, TrainState, fastest
from netgen.diffusion.train import train as run_training
from netgen.model.sampling import cores
from netgen.training.budget import TrainingPlan
from netgen.training.prepare import TrainingJob
from netgen.training.validation import Validator, check_is_due

TRIAL_STEPS = 2  # steps of a speed trial


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What fitting used, beside the state in the job."""

    settings: dict[str, Any]  # device, threads, precision and so on, as JSON types
    validator: Validator | None
    plan: TrainingPlan


def fit(
    job: TrainingJob, progress: Callable[[Progress], None] | None, on_plan: Callable[[TrainingPlan], None]
) -> FitResult:
    """Train the network of `job` until its budget is spent; a NetgenError if interrupted, or if the loss diverges."""
    validator, fingerprint = job.validator(), job.fingerprint()
    if job.files and job.options.resume:
        job.files.restore(job.state, fingerprint, validator)
    threads, bfloat16, seconds_per_step = _choose_speed(job)
    plan = TrainingPlan(job.budget, len(job.held_out), job.table.counts(), seconds_per_step)
    on_plan(plan)
    settings = {
        "device": job.data.device.type,
        "threads": threads,
        "precision": "bfloat16" if bfloat16 else "float32",
        "seed": job.options.seed,
        "batch": job.config.batch,
        "preset": job.options.preset,
    }

    def save(state: TrainState) -> None:
        if job.files:
            job.files.checkpoint(state, fingerprint, validator)

    with (
        _torch_threads(threads),
        _interruptible() as interrupted,
        job.files.metrics(job.state, settings) if job.files else contextlib.nullcontext() as write_metrics,
    ):

        def log(report: Progress) -> None:
            for receiver in (write_metrics, progress):
                if receiver:
                    receiver(report)

        hooks = Hooks(interrupted.is_set, log, save, _Checker(job, validator))
        try:
            run_training(job.state, job.data, dataclasses.replace(job.config, bfloat16=bfloat16), hooks)
        except ArithmeticError as error:
            raise NetgenError(f"the training diverged: {error}", "Train again with another --seed") from error
    if interrupted.is_set():
        save(job.state)
        hint = f"Continue with the same command and --resume, from {job.files.checkpoint_path}" if job.files else None
        raise NetgenError(f"interrupted at step {job.state.step}, after {job.state.seconds / 60:.1f} minutes", hint)
    return FitResult(settings, validator, plan)


@dataclasses.dataclass
class _Checker:
    """Runs the checks of a training when they are due."""

    job: TrainingJob
    validator: Validator | None
    seconds: float = 0.0

    def __call__(self, state: TrainState, share_done: float) -> bool:
        validator = self.validator
        if validator is None or not check_is_due(
            len(validator.history), share_done, state.step, self.job.config.seconds, state.seconds, self.seconds
        ):
            return False
        start = time.monotonic()
        stop = validator.check(state)
        self.seconds += time.monotonic() - start
        if self.job.files:
            self.job.files.log_check(validator.history[-1])
        return stop


def _choose_speed(job: TrainingJob) -> tuple[int, bool, float | None]:
    """Return threads, whether to use bfloat16, and seconds per step: as given, or by a short trial on a copy."""
    threads, precision = job.options.threads, job.options.precision
    if job.data.device.type == "cuda":
        bfloat16 = precision != "float32" and torch.cuda.is_bf16_supported()
        return threads or torch.get_num_threads(), bfloat16, None
    choices = [
        (number, bfloat16)
        for number in ([threads] if threads else sorted({1, cores()}))
        for bfloat16 in ([False, True] if precision == "auto" else [precision == "bfloat16"])
    ]
    if len(choices) == 1 and job.budget.seconds is None:
        return *choices[0], None
    state = copy.deepcopy(job.state)

    def trial(choice: tuple[int, bool]) -> None:
        with _torch_threads(choice[0]):
            steps = state.step + TRIAL_STEPS
            config = dataclasses.replace(job.config, steps=steps, seconds=None, bfloat16=choice[1], log_every=10**9)
            run_training(state, job.data, config)

    choice, seconds = fastest(choices, trial)
    return *choice, seconds / TRIAL_STEPS


@contextlib.contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event that is checked between steps; the second one interrupts at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals can only be caught in the main thread
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(number: int, _frame: Any) -> None:
        event.set()
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, interrupt)
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
