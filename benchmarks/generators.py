"""Generators of flows behind one interface: netgen, its peers, and simple methods without a model."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import ids
import netdiffus
import numpy as np
import torch
import vae
from torch.utils.flop_counter import FlopCounterMode

import netgen
from netgen import FlowTable
from netgen.encoders.registry import ENCODERS
from netgen.training.presets import PRESETS

#: Samples whose FLOPs are counted; a multiple of every block size.
FLOP_SAMPLES = 128


@dataclasses.dataclass(frozen=True)
class Budget:
    """Resources of a generator.

    Parameters
    ----------
    minutes : float
        Of training.
    threads : int
    device : str
        ``cpu`` or ``cuda``.
    peer : str or None
        Python of the environment that has DoppelGANger.
    """

    minutes: float
    threads: int
    device: str = "cpu"
    peer: str | None = None


@dataclasses.dataclass(frozen=True)
class Generated:
    """Generated flows and their cost.

    Parameters
    ----------
    flows : FlowTable
    cost : dict of str to float
        ``parameters``, ``flops`` per sample, ``train_minutes``, ``steps``, ``flows_per_second``.
    note : str
        How they were made.
    """

    flows: FlowTable
    cost: dict[str, float] = dataclasses.field(default_factory=dict)
    note: str = ""


Counts = dict[str, int]
Generator = Callable[[FlowTable, Counts, int, Budget], Generated]


def real(train: FlowTable, _counts: Counts, _seed: int, _budget: Budget) -> Generated:
    """Return the training flows, whose metrics are the references."""
    return Generated(train)


def _without_model(method: ids.Balance) -> Generator:
    """Wrap a method of `ids`."""

    def generate(train: FlowTable, counts: Counts, seed: int, _budget: Budget) -> Generated:
        start = time.perf_counter()
        series, labels = method(train, counts, np.random.default_rng(seed))
        flows = FlowTable.build(series, train.spec, label=labels.tolist(), synthetic=True)
        return Generated(flows, {"flows_per_second": len(flows) / (time.perf_counter() - start)})

    return generate


def small_vae(train: FlowTable, counts: Counts, seed: int, budget: Budget) -> Generated:
    """Sample from a small variational autoencoder (`vae`)."""
    log = _LogSpace(train)
    model, steps, minutes = vae.fit(log.points, log.labels, len(log.classes), minutes=budget.minutes, seed=seed)
    label = torch.from_numpy(log.class_indices(counts))
    generator = torch.Generator().manual_seed(seed)
    start = time.perf_counter()
    points = model.sample(label, generator).numpy()
    seconds = time.perf_counter() - start
    block = label[torch.arange(FLOP_SAMPLES) % len(label)]
    cost = {
        "parameters": sum(weights.numel() for layers in (model.begin, model.build) for weights in layers.parameters()),
        "flops": flops(lambda: model.sample(block, generator)) / FLOP_SAMPLES,
        "train_minutes": minutes,
        "steps": steps,
        "flows_per_second": len(label) / seconds,
    }
    return Generated(log.table(points, label.numpy()), cost)


def doppelganger(train: FlowTable, counts: Counts, seed: int, budget: Budget) -> Generated:
    """Run ``peer_scripts/doppelganger.py`` in its own environment."""
    if budget.peer is None:
        raise ValueError("DoppelGANger needs --dgan-python")
    log = _LogSpace(train)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        number = np.array([counts.get(name, 0) for name in log.classes])
        np.savez(source, points=log.points, labels=log.labels, counts=number)
        script = Path(__file__).parent / "peer_scripts" / "doppelganger.py"
        words = [budget.peer, "-W", "ignore", script, source, target, budget.minutes, seed, budget.threads]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))} failed:\n{done.stderr[-2000:]}")
        report = json.loads(done.stdout.splitlines()[-1])
        with np.load(target) as sampled:
            points, labels = sampled["points"], sampled["labels"]
    cost = {name: report[name] for name in ("parameters", "flops", "steps", "flows_per_second")}
    missing = int(number.sum()) - len(labels)
    text = f"{missing} flows of {number.sum()} missing: their classes were not among {report['sampled']} samples"
    flows = log.table(points.reshape(-1, *train.spec.shape), labels)
    return Generated(flows, {**cost, "train_minutes": report["minutes"]}, text if missing else "")


def paper(train: FlowTable, counts: Counts, seed: int, budget: Budget) -> Generated:
    """Sample with the recipe of NetDiffus (`netdiffus`)."""
    size = netdiffus.FULL if budget.device == "cuda" else netdiffus.REDUCED
    classes = np.array(train.classes)
    labels = np.searchsorted(classes, train.labels.astype(str))
    recipe = netdiffus.Recipe(train.series(), labels, len(classes), size, seed, budget.device)
    steps, minutes = recipe.train(budget.minutes)
    label = np.repeat(np.arange(len(classes)), [counts.get(name, 0) for name in classes])
    start = time.perf_counter()
    series = recipe.sample(label)
    seconds = time.perf_counter() - start
    cost = {
        "parameters": sum(weights.numel() for weights in recipe.network.parameters()),
        # every step costs the same
        "flops": flops(lambda: recipe.sample(label[:1], steps=2)) / 2 * size.sampling_steps,
        "train_minutes": minutes,
        "steps": steps,
        "flows_per_second": len(label) / seconds,
    }
    text = f"{size.description}; {steps} steps of {size.batch}; volume from a random training trace of the class"
    return Generated(FlowTable.build(series, train.spec, label=classes[label].tolist(), synthetic=True), cost, text)


def netgen_generator(name: str | None = None) -> Generator:
    """Train netgen with its defaults, or with a preset or an encoder."""
    options: dict[str, Any] = {}
    if name in PRESETS:
        options["preset"] = name
    elif name in ENCODERS:
        options["encoder"] = name
    elif name is not None:
        raise ValueError(f"netgen has no preset or encoder {name}; choose one of {', '.join([*PRESETS, *ENCODERS])}")

    def generate(train: FlowTable, counts: Counts, seed: int, budget: Budget) -> Generated:
        start = time.monotonic()
        model = netgen.train(
            train, minutes=budget.minutes, threads=budget.threads, seed=seed, device=budget.device, **options
        )
        minutes = (time.monotonic() - start) / 60  # start and checks included
        start = time.perf_counter()
        flows = model.sample(counts, seed=seed, threads=budget.threads, device=budget.device)
        seconds = time.perf_counter() - start
        one = next(name for name, number in counts.items() if number)
        counted = flops(lambda: model.sample({one: FLOP_SAMPLES}, seed=seed, threads=1, device=budget.device))
        cost = {
            "parameters": model.training["parameters"],
            "flops": counted / FLOP_SAMPLES,
            "train_minutes": minutes,
            "steps": model.training["steps"],
            "flows_per_second": len(flows) / seconds,
        }
        text = f"{model.training['steps']} steps of {model.training['batch']}, {model.training['precision']}"
        return Generated(flows, cost, text)

    return generate


METHODS: dict[str, Generator] = {
    "real": real,
    "bootstrap": _without_model(ids.repeat_flows),  # as a model that memorised them
    "jitter": _without_model(ids.jitter),  # each number times exp(N(0, 0.1))
    "vae": small_vae,
    "doppelganger": doppelganger,
    "netdiffus": paper,
    "netgen": netgen_generator(),
}

#: Methods that learn nothing and have no budget.
UNTRAINED = ("real", "bootstrap", "jitter")


def generator_named(name: str) -> Generator:
    """Return the generator of a name; ``netgen:NAME`` is netgen with that preset or encoder."""
    if name.startswith("netgen:"):
        return netgen_generator(name.removeprefix("netgen:"))
    if name not in METHODS:
        raise ValueError(f"there is no method {name}; choose {', '.join(METHODS)} or netgen:NAME")
    return METHODS[name]


class _LogSpace:
    """Logarithms of flows, scaled to a maximum of 1 per channel, and class indices."""

    def __init__(self, train: FlowTable) -> None:
        self.spec, self.classes = train.spec, np.array(train.classes)
        series = train.series()
        self.labels = np.searchsorted(self.classes, train.labels.astype(str))
        self.top = np.maximum(np.log1p(series.max((0, 2)).astype(float)), 1.0)[:, None]
        self.points = np.log1p(series) / self.top

    def class_indices(self, counts: Counts) -> np.ndarray:
        return np.repeat(np.arange(len(self.classes)), [counts.get(name, 0) for name in self.classes])

    def table(self, points: np.ndarray, labels: np.ndarray) -> FlowTable:
        series = np.rint(np.expm1(np.clip(points, 0, 1).astype(float) * self.top)).astype(np.int64)
        return FlowTable.build(series, self.spec, label=self.classes[labels].tolist(), synthetic=True)


def flops(call: Callable[[], Any]) -> float:
    """Count the floating-point operations of a call; a multiplication and an addition are two."""
    with _in_this_thread(), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


@contextlib.contextmanager
def _in_this_thread() -> Iterator[None]:
    """Make thread pools run their tasks at once, as torch counts operations of the current thread only."""

    def submit(_pool: ThreadPoolExecutor, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(task(*args, **kwargs))
        return future

    with mock.patch.object(ThreadPoolExecutor, "submit", submit):
        yield
