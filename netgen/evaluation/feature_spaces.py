"""Flows as points: what classifiers see, where distances are measured, and a fixed encoder."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread: small nets gain nothing by more, which on busy cores wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def signed_log(values: np.ndarray) -> np.ndarray:
    """``log(1 + |x|)`` with the sign of x; that of float32 is float32."""
    found: np.ndarray = np.copysign(np.log1p(np.abs(values)), values)
    return found


def cumulative(series: np.ndarray) -> np.ndarray:
    """What the forest sees: each channel and its running sum, float32 (flows, 2 * channels * bins)."""
    return np.concatenate([series, series.cumsum(-1)], axis=1).reshape(len(series), -1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class LogSpace:
    """Series by their logarithms, each channel's largest real one being 1; what is negative stays so.

    Parameters
    ----------
    top : ndarray of float64, shape (channels,)
        ``log(1 + |x|)`` of the largest number of each channel.
    """

    top: np.ndarray

    @classmethod
    def of(cls, series: np.ndarray) -> LogSpace:
        """The space of real series, int64 (flows, channels, bins)."""
        return cls(np.maximum(np.log1p(np.abs(series).max(axis=(0, 2), initial=0).astype(float)), 1.0))

    def __call__(self, series: np.ndarray) -> np.ndarray:
        """Points, float32 (flows, channels, bins): 0 is idle."""
        return (signed_log(series.astype(np.float32)) / self.top[:, None].astype(np.float32)).astype(np.float32)


class FixedEncoder:
    """Features by random convolutions, the same ones always: nothing is learnt, nothing can be tuned.

    After Dempster et al., "ROCKET" (arXiv 1910.13051): for each of `KERNELS` random kernels, the
    share of bins where its response is positive, and its largest response. Each feature is divided
    by its spread over the real flows; those that do not vary there are left out.

    Parameters
    ----------
    real : ndarray of float32, shape (flows, channels, bins)
        Real flows in `LogSpace`.
    """

    KERNELS = 32
    TAPS = 9

    def __init__(self, real: np.ndarray) -> None:
        channels, bins = real.shape[1:]
        generator = np.random.default_rng(2310_04429)
        weights = generator.standard_normal((self.KERNELS, channels, self.TAPS)).astype(np.float32)
        self._weights = weights - weights.mean(axis=2, keepdims=True)
        most = max(1, (bins - 1) // (self.TAPS - 1))
        reach = np.log2(most) * generator.random(self.KERNELS)
        self._dilation = np.floor(2**reach).astype(int)
        self._shift = generator.uniform(-0.5, 0.5, self.KERNELS).astype(np.float32)
        raw = self._raw(real)
        self._centre, spread = raw.mean(0), raw.std(0)
        self._kept = spread > 1e-6
        self._spread = spread[self._kept]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Features, float64 (flows, at most 2 * KERNELS)."""
        return (self._raw(points) - self._centre)[:, self._kept] / self._spread

    def _raw(self, points: np.ndarray) -> np.ndarray:
        import torch
        from torch.nn.functional import conv1d

        out = np.empty((len(points), 2 * self.KERNELS))
        with one_thread(), torch.inference_mode():
            for dilation in np.unique(self._dilation).tolist():
                mine = np.flatnonzero(self._dilation == dilation)
                weights = torch.from_numpy(self._weights[mine])
                shift = torch.from_numpy(self._shift[mine])
                reach = dilation * (self.TAPS - 1) // 2
                for first in range(0, len(points), 1024):
                    part = torch.from_numpy(np.ascontiguousarray(points[first : first + 1024]))
                    response = conv1d(part, weights, shift, padding=reach, dilation=dilation)
                    rows = slice(first, first + len(part))
                    out[rows, mine] = (response > 0).float().mean(2).numpy()
                    out[rows, mine + self.KERNELS] = response.amax(2).numpy()
        return out
