"""Sample scaled series in blocks, so that each sample is the same however many there are."""

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
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from netgen.capture.errors import InputError
from netgen.diffusion.denoiser import Denoiser, NoiseConfig, Statistics, image_noise
from netgen.diffusion.network import BandTransformer
from netgen.diffusion.sampler import karras_sigmas, pack_blocks, sample_block, sample_seed
from netgen.encoders.base import Encoder
from netgen.encoders.decoding.traits import Traits

T = TypeVar("T")
R = TypeVar("R")

#: Samples per block. Fixed for each device: a sample must not depend on how many there are.
BLOCK_SIZE = {"cpu": 16, "cuda": 256}

BLOCKS_AHEAD = 4  # blocks that wait for a thread, per core
BATCH_SIZE = 512  # samples of a batch, at least, unless there are fewer
CHUNK_SIZE = 256  # samples of a stratum that are decoded together, about


@dataclasses.dataclass(frozen=True, eq=False)
class BatchRequest:
    """Samples to make together: complete groups of strata, as totals may be assigned within a group."""

    samples: list[tuple[int, int]]  # (stratum, index in the stratum)
    wanted: np.ndarray  # bool (samples,); False: only there to complete a group


@dataclasses.dataclass(frozen=True, eq=False)
class SampleBatch:
    """Samples of a `BatchRequest`."""

    strata: np.ndarray  # int64 (samples,)
    indices: np.ndarray  # int64 (samples,)
    wanted: np.ndarray  # bool (samples,)
    scaled: np.ndarray  # float64 (samples, channels, bins)
    residual: np.ndarray  # float64 (samples, channels): distance of each image from the image of its series


class _Block(NamedTuple):
    """Rows of a request that are sampled together, and their scaled series and residuals."""

    request: BatchRequest
    rows: list[int]
    scaled: np.ndarray
    residual: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sampler:
    """The fields of a model that sampling needs (see `netgen.model.model.Model`)."""

    network: BandTransformer
    statistics: Statistics
    noise: NoiseConfig
    encoder: Encoder
    flow_features: Traits

    def sample(
        self,
        requests: Iterable[BatchRequest],
        *,
        seed: int,
        guidance: float,
        sampling_steps: int,
        device: torch.device,
        threads: int | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> Iterator[SampleBatch]:
        """Sample scaled series, one batch at a time, in the order of `requests`.

        Images take 2 N times the memory of series of N bins, so they exist for a block only. `progress` is called with
        the number of wanted samples done.
        """
        config = self.network.config
        denoiser = Denoiser(self.network.to(device), self.statistics, no_stratum=config.strata)
        denoise = functools.partial(denoiser.guided, guidance=guidance)
        sigmas = karras_sigmas(sampling_steps, self.noise.sigma_max, self.noise.sigma_min)
        shape = (config.channels, config.bins, self.encoder.columns(config.bins))

        def noise(stratum: int, index: int) -> torch.Tensor:
            generator = torch.Generator().manual_seed(sample_seed(seed, stratum, index))
            return image_noise(shape, generator, self.encoder.symmetry)

        def cond(stratum: int, index: int) -> torch.Tensor:  # no augmentation
            features = torch.from_numpy(self.flow_features.told(stratum, index, seed=seed))
            return torch.cat([torch.zeros(config.n_augmentations), features])

        def sample(block: tuple[BatchRequest, list[int | None]]) -> _Block:
            request, slots = block
            members = [None if row is None else request.samples[row] for row in slots]
            images = sample_block(
                denoise, noise, members, sigmas, device=device, cond=cond if config.n_features else None
            )
            return _Block(request, [row for row in slots if row is not None], *self.encoder.decode(images))

        blocks = (
            (request, slots) for request in requests for slots in pack_blocks(request.samples, BLOCK_SIZE[device.type])
        )
        with _single_threaded_pool(threads if device.type == "cpu" else 1) as pool:
            results = _map_ahead(pool, sample, blocks)
            for request, done in itertools.groupby(results, key=lambda block: block.request):
                n = len(request.samples)
                scaled, residual = np.empty((n, config.channels, config.bins)), np.empty((n, config.channels))
                for block in done:
                    scaled[block.rows], residual[block.rows] = block.scaled, block.residual
                    progress(int(request.wanted[block.rows].sum()))
                strata, indices = np.array(request.samples).T
                yield SampleBatch(strata, indices, request.wanted, scaled, residual)


def batch_requests(counts: Mapping[int, int], group: Callable[[int], int]) -> Iterator[BatchRequest]:
    """Collect the samples of `counts` (stratum -> flows) in batches, each of complete groups of `group(stratum)`."""
    samples: list[tuple[int, int]] = []
    wanted: list[bool] = []
    for stratum, count in counts.items():
        size = group(stratum)
        chunk = max(CHUNK_SIZE // size, 1) * size
        for begin in range(0, count, chunk):
            end = begin + min(chunk, -(-(count - begin) // size) * size)
            samples += [(stratum, index) for index in range(begin, end)]
            wanted += [index < count for index in range(begin, end)]
            if len(samples) >= BATCH_SIZE:
                yield BatchRequest(samples, np.array(wanted))
                samples, wanted = [], []
    if samples:
        yield BatchRequest(samples, np.array(wanted))


def concat_batches(batches: Iterable[SampleBatch]) -> tuple[np.ndarray, np.ndarray]:
    """Return the scaled series of all wanted samples, (samples, channels, bins), and their strata, (samples,)."""
    kept = [(batch.scaled[batch.wanted], batch.strata[batch.wanted]) for batch in batches]
    return np.concatenate([scaled for scaled, _ in kept]), np.concatenate([strata for _, strata in kept])


def _map_ahead(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Like `Executor.map`, with few items waiting: Ctrl-C while thousands are queued breaks the pool's locks."""
    waiting: collections.deque[Future[R]] = collections.deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > BLOCKS_AHEAD * cores():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextlib.contextmanager
def _single_threaded_pool(threads: int | None) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of threads in which torch computes with one thread each.

    Blocks are independent, so this is as fast as many threads per block on idle cores, far
    faster on busy ones (threads that wait for each other spin), and sums in the same order
    for any number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads or cores(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_device(device: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA if available."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in BLOCK_SIZE:
        raise InputError(f"--device must be auto, cpu or cuda, got {device!r}", "Leave it out for auto")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device", "Use --device cpu")
    return torch.device(device)


def check_sampling(guidance: float, sampling_steps: int | None) -> None:
    """Raise an InputError for impossible settings."""
    if not math.isfinite(guidance) or guidance < 0:
        raise InputError(f"--guidance must be 0 or greater, got {guidance}", "Use 1, or a little more: --guidance 1.5")
    if sampling_steps is not None and sampling_steps < 2:
        raise InputError(
            f"--sampling-steps must be at least 2, got {sampling_steps}", "Leave it out for the model's own, 10"
        )
