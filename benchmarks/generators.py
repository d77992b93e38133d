"""What makes flows of a training set, each in the same way called: netgen, its peers, and no model at all."""

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

#: Samples that FLOPs are counted of: whole blocks, however many are drawn together.
COUNTED = 128


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a generator may use.

    Parameters
    ----------
    minutes : float
        Of training, by the clock.
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
class Drawn:
    """New flows and what they took.

    Parameters
    ----------
    flows : FlowTable
    cost : dict of str to float
        ``parameters`` of what draws, ``flops`` a sample, ``train_minutes``, ``steps``, ``flows_per_second``.
    said : str
        What a reader must know of how they were made.
    """

    flows: FlowTable
    cost: dict[str, float] = dataclasses.field(default_factory=dict)
    said: str = ""


Wanted = dict[str, int]
Generator = Callable[[FlowTable, Wanted, int, Budget], Drawn]


def real(train: FlowTable, wanted: Wanted, seed: int, budget: Budget) -> Drawn:
    """The training flows: what is compared with the test flows is then the floor."""
    return Drawn(train)


def _of_real_flows(how: Callable[..., ids.FlowSet]) -> Generator:
    """Real flows again, as one of `ids`' ways has it."""

    def draw(train: FlowTable, wanted: Wanted, seed: int, budget: Budget) -> Drawn:
        begun = time.perf_counter()
        series, labels = how(train, wanted, np.random.default_rng(seed))
        flows = FlowTable.build(series, train.spec, label=labels.tolist(), synthetic=True)
        return Drawn(flows, {"flows_per_second": len(flows) / (time.perf_counter() - begun)})

    return draw


def small_vae(train: FlowTable, wanted: Wanted, seed: int, budget: Budget) -> Drawn:
    """`vae`."""
    log = _Logs(train)
    model, steps, minutes = vae.fit(log.points, log.labels, len(log.classes), minutes=budget.minutes, seed=seed)
    label = torch.from_numpy(log.numbers(wanted))
    generator = torch.Generator().manual_seed(seed)
    begun = time.perf_counter()
    points = model.sample(label, generator).numpy()
    seconds = time.perf_counter() - begun
    some = label[torch.arange(COUNTED) % len(label)]
    cost = {
        "parameters": sum(each.numel() for part in (model.begin, model.build) for each in part.parameters()),
        "flops": flops(lambda: model.sample(some, generator)) / COUNTED,
        "train_minutes": minutes,
        "steps": steps,
        "flows_per_second": len(label) / seconds,
    }
    return Drawn(log.table(points, label.numpy()), cost)


def doppelganger(train: FlowTable, wanted: Wanted, seed: int, budget: Budget) -> Drawn:
    """``peer_scripts/doppelganger.py``, in its own environment."""
    if budget.peer is None:
        raise ValueError("DoppelGANger needs --dgan-python")
    log = _Logs(train)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        number = np.array([wanted.get(name, 0) for name in log.classes])
        np.savez(source, points=log.points, labels=log.labels, wanted=number)
        script = Path(__file__).parent / "peer_scripts" / "doppelganger.py"
        words = [budget.peer, "-W", "ignore", script, source, target, budget.minutes, seed, budget.threads]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))} failed:\n{done.stderr[-2000:]}")
        said = json.loads(done.stdout.splitlines()[-1])
        drawn = np.load(target)
        points, labels = drawn["points"], drawn["labels"]
    cost = {name: said[name] for name in ("parameters", "flops", "steps", "flows_per_second")}
    missing = int(number.sum()) - len(labels)
    text = f"{missing} flows of {number.sum()} missing: their classes were not drawn in {said['drawn']}"
    flows = log.table(points.reshape(-1, *train.spec.shape), labels)
    return Drawn(flows, {**cost, "train_minutes": said["minutes"]}, text if missing else "")


def paper(train: FlowTable, wanted: Wanted, seed: int, budget: Budget) -> Drawn:
    """`netdiffus`."""
    size = netdiffus.FULL if budget.device == "cuda" else netdiffus.REDUCED
    classes = np.array(train.classes)
    labels = np.searchsorted(classes, train.labels.astype(str))
    recipe = netdiffus.Recipe(train.series(), labels, len(classes), size, seed, budget.device)
    steps, minutes = recipe.train(budget.minutes)
    label = np.repeat(np.arange(len(classes)), [wanted.get(name, 0) for name in classes])
    begun = time.perf_counter()
    series = recipe.sample(label)
    seconds = time.perf_counter() - begun
    cost = {
        "parameters": sum(each.numel() for each in recipe.network.parameters()),
        # all steps cost alike
        "flops": flops(lambda: recipe.sample(label[:1], steps=2)) / 2 * size.sampling_steps,
        "train_minutes": minutes,
        "steps": steps,
        "flows_per_second": len(label) / seconds,
    }
    text = f"{size.description}; {steps} steps of {size.batch}; volume from a random training trace of the class"
    return Drawn(FlowTable.build(series, train.spec, label=classes[label].tolist(), synthetic=True), cost, text)


def ours(name: str | None = None) -> Generator:
    """netgen as `netgen train` does it, or by a preset or an encoder."""
    options: dict[str, Any] = {}
    if name in PRESETS:
        options["preset"] = name
    elif name in ENCODERS:
        options["encoder"] = name
    elif name is not None:
        raise ValueError(f"netgen has no preset or encoder {name}: take one of {', '.join([*PRESETS, *ENCODERS])}")

    def generate(train: FlowTable, wanted: Wanted, seed: int, budget: Budget) -> Drawn:
        begun = time.monotonic()
        model = netgen.train(
            train, minutes=budget.minutes, threads=budget.threads, seed=seed, device=budget.device, **options
        )
        minutes = (time.monotonic() - begun) / 60  # start and checks included
        begun = time.perf_counter()
        flows = model.sample(wanted, seed=seed, threads=budget.threads, device=budget.device)
        seconds = time.perf_counter() - begun
        one = next(name for name, number in wanted.items() if number)
        counted = flops(lambda: model.sample({one: COUNTED}, seed=seed, threads=1, device=budget.device))
        cost = {
            "parameters": model.training["parameters"],
            "flops": counted / COUNTED,
            "train_minutes": minutes,
            "steps": model.training["steps"],
            "flows_per_second": len(flows) / seconds,
        }
        text = f"{model.training['steps']} steps of {model.training['batch']}, {model.training['precision']}"
        return Drawn(flows, cost, text)

    return generate


METHODS: dict[str, Generator] = {
    "real": real,
    "bootstrap": _of_real_flows(ids.repeated),  # what one draws who has learnt them by heart
    "jitter": _of_real_flows(ids.jittered),  # each number times exp(N(0, 0.1))
    "vae": small_vae,
    "doppelganger": doppelganger,
    "netdiffus": paper,
    "netgen": ours(),
}

#: These learn nothing: no budget changes what they give.
UNTRAINED = ("real", "bootstrap", "jitter")


def method(name: str) -> Generator:
    """The generator of a name; ``netgen:NAME`` is netgen by that preset or encoder."""
    if name.startswith("netgen:"):
        return ours(name.removeprefix("netgen:"))
    if name not in METHODS:
        raise ValueError(f"there is no method {name}: take {', '.join(METHODS)} or netgen:NAME")
    return METHODS[name]


class _Logs:
    """Flows by their logarithms, each channel's largest being 1, and numbers for classes."""

    def __init__(self, train: FlowTable) -> None:
        self.spec, self.classes = train.spec, np.array(train.classes)
        series = train.series()
        self.labels = np.searchsorted(self.classes, train.labels.astype(str))
        self.top = np.maximum(np.log1p(series.max((0, 2)).astype(float)), 1.0)[:, None]
        self.points = np.log1p(series) / self.top

    def numbers(self, wanted: Wanted) -> np.ndarray:
        return np.repeat(np.arange(len(self.classes)), [wanted.get(name, 0) for name in self.classes])

    def table(self, points: np.ndarray, labels: np.ndarray) -> FlowTable:
        series = np.rint(np.expm1(np.clip(points, 0, 1).astype(float) * self.top)).astype(np.int64)
        return FlowTable.build(series, self.spec, label=self.classes[labels].tolist(), synthetic=True)


def flops(call: Callable[[], Any]) -> float:
    """Floating-point operations of a call: a multiplication and an addition are two."""
    with _in_this_thread(), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


@contextlib.contextmanager
def _in_this_thread() -> Iterator[None]:
    """Pools of threads run what they are given at once: torch counts in its own thread only."""

    def submit(pool: ThreadPoolExecutor, what: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(what(*given, **named))
        return done

    with mock.patch.object(ThreadPoolExecutor, "submit", submit):
        yield
