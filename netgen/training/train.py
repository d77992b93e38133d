"""From a flow table to a model: scaling, imaging, training, checkpoints, metrics."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netgen.capture.errors import InputError, NetgenError, TableError
from netgen.capture.series.feasible import PacketLimits
from netgen.capture.series.first_packets import as_bins
from netgen.capture.series.profile import read_profiles
from netgen.capture.series.spec import BINS
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.diffusion.denoiser import NoiseConfig, Statistics
from netgen.diffusion.network import BandTransformer, NetworkConfig
from netgen.diffusion.train import Images, Progress, TrainConfig, TrainState, fastest, new_state
from netgen.diffusion.train import train as run_training
from netgen.encoders.decoding.changes import KINDS, change, odds_after
from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.traits import TRAITS, Traits, blurred, traits_of
from netgen.encoders.registry import ENCODERS
from netgen.model.model import SCALES, Model
from netgen.model.sampling import choose_device, cores
from netgen.model.strata import assign_strata, fit_strata
from netgen.training.calibration import calibrate
from netgen.training.checkpoint import TrainingFiles, no_metrics
from netgen.training.presets import DEFAULT, DEFAULT_ENCODER
from netgen.training.presets import preset as preset_named
from netgen.training.validation import Validator, due, train_val_split

DEFAULT_MINUTES = 10.0

#: A training by the clock ends where each flow was seen so often, on the mean: a classifier learns no more from longer
#: ones, which begin to remember. However few flows there are, a network takes FEWEST_STEPS.
SEEN_ENOUGH, FEWEST_STEPS = 300, 3000

#: Share of the minutes that is left for what is measured after a training of series of bins (`netgen.training.calibration`): it
#: takes as long however short the training was, half a minute where there are many classes.
AFTER = 0.1

PRECISIONS = ("auto", "float32", "bfloat16")


def train(
    flows: FlowTable | Sequence[FlowTable],
    *,
    out: str | os.PathLike[str] | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    preset: str = DEFAULT,
    encoder: str = DEFAULT_ENCODER,
    resume: bool = False,
    force: bool = False,
    name: str | None = None,
    validation: float = 0.1,
    store_flows: bool = True,
    progress: Callable[[Progress], None] | None = None,
) -> Model:
    """Train a model on labelled flows.

    Parameters
    ----------
    flows : FlowTable or sequence of FlowTable
        Of equal series; rows without a label are left out.
    out : path, optional
        Where to write the model. Beside it go ``OUT.metrics.jsonl``, a line every few steps, and
        while it trains ``OUT.checkpoint.safetensors``, from which `resume` goes on.
    minutes, steps : float, int, optional
        The budget, earlier sessions of a resumed training counted in, and what is measured after it; whichever comes
        first, and 10 minutes where neither is given. Where `steps` are not given, a training ends earlier if each flow
        was seen `SEEN_ENOUGH` times. With `steps`, `threads` and `precision` given, the same seed makes the same model.
    device : {"auto", "cpu", "cuda"}
    threads, precision : int, {"auto", "float32", "bfloat16"}
        Otherwise chosen by a trial of a few steps, since neither more threads nor bfloat16 is sure
        to be faster.
    preset : {"tiny", "small", "base"}
        Size of the network; `base` wants an accelerator.
    encoder : {"series", "gasf", "gadf", "delay"}
        How series become images: not at all, Gramian angular fields, or delay embeddings.
    name : str, optional
        The model's name; otherwise that of `out`.
    validation : float
        Share of the flows of each class of 10 or more that the network does not learn from, but is checked on
        (`netgen.training.validation`); 0: none. What is measured after the training is measured on all flows.
    holds_flows : bool
        Whether the model may hold numbers of flows as they are: what some add up to, and what several are. Otherwise
        it holds distributions alone, that of about how long and busy flows are among them, and its flows are easier to
        tell from real ones.
    progress : callable, optional
        Told of the progress every few steps.

    Returns
    -------
    Model

    Raises
    ------
    TableError, ModelError, OutputError
        Before anything is trained, if flows, checkpoint or `out` cannot be used.
    NetgenError
        If interrupted; the checkpoint then holds all that was done.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision {precision!r} is not known", f"Take one of: {', '.join(PRECISIONS)}")
    for what, value in (("minutes", minutes), ("steps", steps), ("threads", threads)):
        if value is not None and not value > 0:
            raise InputError(f"{value} {what} cannot be trained with", f"Take a positive number: --{what} 10")
    if not 0 <= seed < 2**31:
        raise InputError(f"seed {seed} cannot be trained with", "Take one from 0 to 2147483647")
    if not 0 <= validation <= 0.5:
        raise InputError(f"a share of {validation} cannot be held back", "Take 0 to 0.5: --validation 0.1")
    if encoder not in ENCODERS:
        raise InputError(f"encoder {encoder!r} is not known", f"Take one of: {', '.join(ENCODERS)}")
    size = preset_named(preset)
    whole = (flows if isinstance(flows, FlowTable) else concat(flows)).labelled()
    kept, held = train_val_split(whole, validation, seed)
    table = whole.take(kept) if len(held) else whole
    files = TrainingFiles(Path(out), resume=resume, force=force) if out is not None else None
    if files is None and resume:
        raise InputError("only a training that writes a file can be resumed", "Name it: out=FILE")
    where = choose_device(device)
    series, classes = table.series(), table.classes
    of_bins = table.spec.view == BINS
    counted = as_bins(series, table.spec)
    if not counted[:, :2].any():
        raise TableError("the flows hold no bytes: there is nothing to learn", "Extract them with another --bin")
    conditions = fit_strata(table)
    labels = torch.from_numpy(assign_strata(table, conditions))
    of_class = torch.from_numpy(np.searchsorted(np.array(classes), table.labels.astype(str)))
    scale = SCALES[table.spec.view].of(series)
    scaled = torch.from_numpy(scale.scale(series).astype(np.float32)).to(where)
    imaging, bins = ENCODERS[encoder](), table.spec.length
    some = np.random.default_rng(seed).permutation(len(table))[:256]
    statistics = Statistics.of(imaging.encode_tensor(scaled[torch.from_numpy(some).to(where)]))
    noise = NoiseConfig.of(imaging.repeats(bins))
    network = NetworkConfig(
        scale.CHANNELS, bins, len(conditions), rows=_rows(bins), columns=imaging.columns(bins), mirror=imaging.mirror,
        width=size.width, depth=size.depth, heads=size.heads, changes=KINDS if of_bins else 0,
        traits=TRAITS if of_bins else 0, own_places=True,
    )  # fmt: skip
    enough = max(math.ceil(SEEN_ENOUGH * len(table) / size.batch), FEWEST_STEPS)
    config = TrainConfig(
        steps=steps or enough,
        seconds=60 * (minutes or DEFAULT_MINUTES) * (1 - AFTER * of_bins) if minutes or not steps else None,
        batch=size.batch,
        rate=size.rate,
        seed=seed,
    )
    state = new_state(network, config, where)
    fingerprint = _fingerprint(table, labels, seed, encoder, scale.to_json())
    validator: Validator | None = None
    if files:
        files.need_room(sum(each.numel() for each in state.network.parameters()))
    if files and resume:
        files.restore(state, fingerprint)
    name = name or (Path(out).name.removesuffix(".safetensors") if out is not None else "model")
    # what flows add up to, how large their packets are and what they are like is no matter of the network: after the
    # training, those held back tell it, too
    learnt, every = (counted, labels.numpy()), (as_bins(whole.series(), whole.spec), assign_strata(whole, conditions))

    def model_of(
        network: BandTransformer, training: dict[str, Any] | None = None, of: tuple[np.ndarray, np.ndarray] = learnt
    ) -> Model:
        traits = Traits.none()
        if of_bins:
            mine = torch.from_numpy(scale.scale(of[0]))
            traits = Traits.learn(mine, of[1], len(conditions), exact=store_flows)
        return Model(
            name=name,
            spec=table.spec,
            conditions=conditions,
            network=network.cpu().eval(),
            scale=scale,
            limits=PacketLimits.of(*of, len(conditions)),
            statistics=statistics,
            noise=noise,
            totals=Marginals.none(len(conditions)),
            traits=traits,
            encoder=encoder,
            training=training or {},
            profile={each: found for each, found in read_profiles(table.metadata).items() if each in classes},
        )

    if len(held) and len(classes) > 1:
        validator = Validator(table, whole.take(held), model_of, seed=seed)
        if files and resume:
            files.restore_checks(validator)

    def images(index: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not of_bins:
            return imaging.encode_tensor(scaled[index]), None
        seen = state.step * config.batch / len(table)
        changed, how = change(scaled[index], generator, odds_after(seen))
        like = blurred(traits_of(changed), generator)
        return imaging.encode_tensor(changed), torch.cat([how, like], dim=1)

    def save(state: TrainState) -> None:
        if files:
            files.checkpoint(state, fingerprint, validator)

    before = torch.get_num_threads()
    used_threads, bfloat16 = _choose(state, images, labels, config, noise, statistics, where, threads, precision)
    config = dataclasses.replace(config, bfloat16=bfloat16)
    settings = {
        "device": where.type,
        "threads": used_threads,
        "precision": "bfloat16" if bfloat16 else "float32",
        "seed": seed,
        "batch": config.batch,
        "preset": preset,
    }
    try:
        torch.set_num_threads(used_threads)
        with _interruptible() as interrupted, files.metrics(state, settings) if files else no_metrics() as note:

            def log(report: Progress) -> None:
                note(report)
                if progress:
                    progress(report)

            spent = 0.0

            def look(state: TrainState, share: float) -> bool:
                nonlocal spent
                if validator is None or not due(
                    len(validator.history), share, state.step, config.seconds, state.seconds, spent
                ):
                    return False
                begun = time.monotonic()
                stop = validator.check(state)
                spent += time.monotonic() - begun
                if files:
                    files.note_check(validator.history[-1])
                return stop

            try:
                run_training(
                    state, images, labels, config, noise, statistics,
                    device=where, classes=of_class, stop=interrupted.is_set, on_log=log, on_checkpoint=save,
                    on_step=look,
                )  # fmt: skip
            except ArithmeticError as error:
                raise NetgenError(f"the training diverged: {error}", "Train again with another --seed") from error
        if interrupted.is_set():
            save(state)
            again = f"Go on with the same command and --resume; {files.checkpoint_path} holds it" if files else None
            raise NetgenError(f"interrupted at step {state.step}, after {state.seconds / 60:.1f} minutes", again)
    finally:
        torch.set_num_threads(before)
    counts = table.counts()
    if validator is not None:
        checked = validator.settle(state)
        settings["validation"] = {
            "flows": len(held),
            "kept": None if checked is None else checked.to_json(),
            "stopped": validator.stopped or None,
            **validator.to_json(),
        }
    model = model_of(
        state.average,
        {
            **settings,
            "flows": {name: counts[name] for name in classes},
            "steps": state.step,
            "enough": steps is None and state.step >= enough,
            "minutes": round(state.seconds / 60, 2),
            "parameters": sum(parameter.numel() for parameter in state.average.parameters()),
        },
        every,
    )
    if of_bins:
        begun = time.monotonic()
        model = calibrate(model, *every, store_flows=store_flows, device=device)
        took = (state.seconds + time.monotonic() - begun) / 60
        model = dataclasses.replace(model, training={**model.training, "minutes": round(took, 2)})
    if files:
        model.save(files.path, force=True)
        files.checkpoint_path.unlink(missing_ok=True)
    return model


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event asked for between steps; the second one is Python's own."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals can only be caught in the main thread
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def caught(number: int, frame: Any) -> None:
        event.set()
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, caught)
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _rows(length: int) -> int:
    return next(rows for rows in (8, 4, 2, 1) if length % rows == 0)


def _fingerprint(table: FlowTable, labels: torch.Tensor, seed: int, encoder: str, scale: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([table.spec.to_json(), table.classes, seed, encoder, scale]).encode())
    digest.update(np.ascontiguousarray(table.series()).tobytes())
    digest.update(labels.numpy().tobytes())
    return digest.hexdigest()


def _choose(
    state: TrainState,
    images: Images,
    labels: torch.Tensor,
    config: TrainConfig,
    noise: NoiseConfig,
    statistics: Statistics,
    where: torch.device,
    threads: int | None,
    precision: str,
) -> tuple[int, bool]:
    """Threads and whether to use bfloat16: as told, or by a trial of a few steps on a copy."""
    if where.type == "cuda":
        return threads or torch.get_num_threads(), precision != "float32" and torch.cuda.is_bf16_supported()
    choices = [
        (number, half)
        for number in ([threads] if threads else sorted({1, cores()}))
        for half in ([False, True] if precision == "auto" else [precision == "bfloat16"])
    ]
    if len(choices) == 1:
        return choices[0]
    copied = copy.deepcopy(state)

    def trial(choice: tuple[int, bool]) -> None:
        torch.set_num_threads(choice[0])
        run_training(
            copied, images, labels,
            dataclasses.replace(config, steps=copied.step + 2, seconds=None, bfloat16=choice[1], log_every=10**9),
            noise, statistics, device=where,
        )  # fmt: skip

    before = torch.get_num_threads()
    try:
        return fastest(choices, trial)
    finally:
        torch.set_num_threads(before)
