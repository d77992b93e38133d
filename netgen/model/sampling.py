"""Drawing scaled series from a network, in blocks in which each has its place, however many are asked for."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from netgen.capture.errors import InputError
from netgen.diffusion.denoiser import Denoiser, image_noise
from netgen.diffusion.sampler import draw, karras_sigmas, pack_blocks, sample_seed

if TYPE_CHECKING:
    from netgen.model.model import Model

# Samples drawn together, at most. Fixed for each device: a flow must not depend on how many are asked for.
BLOCK = {"cpu": 16, "cuda": 256}

#: Blocks that wait to be drawn, for each core.
AHEAD = 4

#: Samples that are put together in blocks, at least; more wait for their classes.
SECTION = 512

#: Flows of a class that are decoded together, about.
_TOGETHER = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Section:
    """Flows drawn one after the other: whole groups of conditions, as totals may be shared out among them.

    Parameters
    ----------
    labels, numbers : ndarray of int64, shape (flows,)
        Numbers of their conditions, and their numbers in these.
    wanted : ndarray of bool, shape (flows,)
        Those that were asked for; others of a group are drawn with them.
    scaled : ndarray of float64, shape (flows, channels, bins)
    residual : ndarray of float64, shape (flows, channels)
        Distance of the images from those of the series.
    """

    labels: np.ndarray
    numbers: np.ndarray
    wanted: np.ndarray
    scaled: np.ndarray
    residual: np.ndarray


def sample_scaled(
    model: Model,
    numbers: Mapping[int, int],
    *,
    seed: int,
    guidance: float,
    steps: int,
    device: torch.device,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Section]:
    """Scaled series, a section at a time, by condition and number.

    Images take 2 N times the memory of the series they become: these last for a block alone.

    Parameters
    ----------
    model : Model
    numbers : mapping
        Number of a condition -> flows.
    seed, guidance, steps, device, workers, progress
        See `Model.sample`.
    """
    denoiser = Denoiser(model.network.to(device), model.statistics, unlabelled=len(model.conditions))
    encoder = model.imaging
    sigmas = karras_sigmas(steps, model.noise.highest, model.noise.lowest)
    bins = model.spec.length
    shape = (model.network.config.channels, bins, encoder.columns(bins))
    total, done = sum(numbers.values()), 0
    sections = _sections(numbers, {label: model.decoder.group(label) for label in numbers})
    tasks = (
        _Task(section, block) for section in sections for block in pack_blocks(section.samples, BLOCK[device.type])
    )

    def noise(label: int, index: int) -> torch.Tensor:
        return image_noise(shape, torch.Generator().manual_seed(sample_seed(seed, label, index)), encoder.mirror)

    def told(label: int, index: int) -> torch.Tensor:  # of what was not changed
        like = torch.from_numpy(model.traits.told(label, index, seed=seed))
        return torch.cat([torch.zeros(model.network.config.changes), like])

    def draw_block(task: _Task) -> _Drawn:
        denoise = functools.partial(denoiser.guided, guidance=guidance)
        known = told if model.network.config.traits else None
        return _Drawn(task, *encoder.decode(draw(denoise, noise, task.members, sigmas, device=device, told=known)))

    with _one_thread_each(workers if device.type == "cpu" else 1) as pool:
        in_order = _in_order(pool, draw_block, tasks)
        for section, made in itertools.groupby(in_order, key=lambda drawn: drawn.task.section):
            parts = []
            for drawn in made:
                parts.append(drawn)
                done += int(section.wanted[drawn.task.taken].sum())
                if progress:
                    progress(done, total)
            order = np.argsort([each for part in parts for each in part.task.taken])
            labels, indices = np.array(section.samples).T
            scaled, residual = (
                np.concatenate([getattr(part, name) for part in parts])[order] for name in ("scaled", "residual")
            )
            yield Section(labels, indices, section.wanted, scaled, residual)


@dataclasses.dataclass(frozen=True, eq=False)
class _Samples:
    """Samples (label, index) of whole groups, and which of them are wanted, bool (samples,)."""

    samples: list[tuple[int, int]]
    wanted: np.ndarray


class _Task(NamedTuple):
    """A block to draw: of which section, and which of its samples lies at each place."""

    section: _Samples
    places: list[int | None]

    @property
    def members(self) -> list[tuple[int, int] | None]:
        return [None if each is None else self.section.samples[each] for each in self.places]

    @property
    def taken(self) -> list[int]:
        return [each for each in self.places if each is not None]


class _Drawn(NamedTuple):
    """Scaled series of a block, and the distances of their images; see `Section`."""

    task: _Task
    scaled: np.ndarray
    residual: np.ndarray


def _sections(numbers: Mapping[int, int], groups: Mapping[int, int]) -> Iterator[_Samples]:
    """Samples put together as far as memory goes, condition by condition."""
    samples: list[tuple[int, int]] = []
    wanted: list[bool] = []
    for label, number in numbers.items():
        group = groups[label]
        many = max(_TOGETHER // group, 1) * group
        for begin in range(0, number, many):
            end = begin + min(many, -(-(number - begin) // group) * group)
            samples += [(label, index) for index in range(begin, end)]
            wanted += [index < number for index in range(begin, end)]
            if len(samples) >= SECTION:
                yield _Samples(samples, np.array(wanted))
                samples, wanted = [], []
    if samples:
        yield _Samples(samples, np.array(wanted))


def concat_batches(sections: Iterable[Section]) -> tuple[np.ndarray, np.ndarray]:
    """Scaled series that were asked for, (flows, channels, bins), and their conditions' numbers, (flows,)."""
    parts = list(sections)
    scaled = np.concatenate([each.scaled[each.wanted] for each in parts])
    return scaled, np.concatenate([each.labels[each.wanted] for each in parts])


def _in_order(
    pool: ThreadPoolExecutor, draw_block: Callable[[_Task], _Drawn], tasks: Iterable[_Task]
) -> Iterator[_Drawn]:
    """As `map` of the pool, a few tasks ahead: Ctrl-C while thousands are handed in breaks the pool's locks."""
    waiting: collections.deque[Future[_Drawn]] = collections.deque()
    for task in tasks:
        waiting.append(pool.submit(draw_block, task))
        if len(waiting) > AHEAD * cores():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextlib.contextmanager
def _one_thread_each(workers: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool whose workers each compute with one thread.

    Blocks are independent, so this is as fast as many threads a block where the cores are idle, far
    faster where they are busy (threads that wait for each other spin), and sums in the same order
    however many workers there are.
    """
    number = workers or cores()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_device(device: str) -> torch.device:
    """The device of a name; ``auto`` is the accelerator where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in BLOCK:
        raise InputError(f"device {device!r} is not known", "Take auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here that torch can use", "Take --device cpu")
    return torch.device(device)


def check_sampling(guidance: float, steps: int | None) -> None:
    """Refuse what cannot be drawn with."""
    if not math.isfinite(guidance) or guidance < 0:
        raise InputError(f"guidance {guidance} cannot be drawn with", "Take 1, or somewhat more: --guidance 1.5")
    if steps is not None and steps < 2:
        raise InputError(f"{steps} steps are too few to sample with", "Take at least 2; 10 is the default")
