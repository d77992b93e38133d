"""Drawing scaled series from a network, in blocks that do not depend on how many are asked for."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch

from capture.errors import InputError
from diffusion.denoiser import Denoiser, image_noise
from diffusion.sampler import draw, karras_sigmas, sample_seed

if TYPE_CHECKING:
    from netgen.model import Model

# Samples drawn together, at most. Fixed for each device: a flow must not depend on how many are asked for.
BLOCK = {"cpu": 16, "cuda": 256}

#: Blocks that wait to be drawn, for each core.
AHEAD = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Flows drawn together: whole groups, as totals may be shared out among them.

    Parameters
    ----------
    label : int
        Number of their condition.
    first, wanted : int
        Number of the first in its condition; how many were asked for, which come first.
    scaled : ndarray of float64, shape (flows, channels, bins)
    residual : ndarray of float64, shape (flows, channels)
        Distance of the images from those of the series.
    """

    label: int
    first: int
    wanted: int
    scaled: np.ndarray
    residual: np.ndarray


def draw_scaled(
    model: Model,
    numbers: Mapping[int, int],
    *,
    seed: int,
    guidance: float,
    steps: int,
    device: torch.device,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Block]:
    """Scaled series, a block at a time: images take 2 N times the memory of the series they become.

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
    groups = {label: model.decoder.group(label) for label in numbers}
    # as many whole groups as there is room for
    sizes = {label: max(BLOCK[device.type] // group, 1) * group for label, group in groups.items()}
    blocks = [(label, begin) for label, number in numbers.items() for begin in range(0, number, sizes[label])]

    def noise(label: int, index: int) -> torch.Tensor:
        return image_noise(shape, torch.Generator().manual_seed(sample_seed(seed, label, index)), encoder.mirror)

    def draw_block(task: tuple[int, int]) -> Block:
        label, first = task
        size, group = sizes[label], groups[label]
        wanted = min(size, numbers[label] - first)
        images = draw(
            functools.partial(denoiser.guided, guidance=guidance),
            noise, label, range(first, first + -(-wanted // group) * group), sigmas, block=size, device=device,
        )  # fmt: skip
        return Block(label, first, wanted, *encoder.decode(torch.stack(images)))

    with _one_thread_each(workers if device.type == "cpu" else 1) as pool:
        for drawn in _in_order(pool, draw_block, blocks):
            yield drawn
            done += drawn.wanted
            if progress:
                progress(done, total)


def joined(blocks: Iterable[Block]) -> tuple[np.ndarray, np.ndarray]:
    """Scaled series that were asked for, (flows, channels, bins), and their conditions' numbers, (flows,)."""
    parts = list(blocks)
    labels = np.repeat([each.label for each in parts], [each.wanted for each in parts])
    return np.concatenate([each.scaled[: each.wanted] for each in parts]), labels


def _in_order(
    pool: ThreadPoolExecutor, draw_block: Callable[[tuple[int, int]], Block], tasks: Iterable[tuple[int, int]]
) -> Iterator[Block]:
    """As `map` of the pool, a few tasks ahead: Ctrl-C while thousands are handed in breaks the pool's locks."""
    waiting: collections.deque[Future[Block]] = collections.deque()
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
