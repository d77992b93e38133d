"""Feature spaces: what classifiers see, where distances are measured, and a fixed encoder."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: small networks gain nothing from more, which wait for each other on busy cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def signed_log(values: np.ndarray) -> np.ndarray:
    """Compute ``log(1 + |x|)`` with the sign of x, in the precision of x."""
    return np.copysign(np.log1p(np.abs(values)), values)


def with_cumulative(series: np.ndarray) -> np.ndarray:
    """Append the cumulative sum of each channel, (flows, 2 * channels, bins)."""
    return np.concatenate([series, series.cumsum(-1)], axis=1)


def cumulative(series: np.ndarray) -> np.ndarray:
    """Compute the features of the forest: channels and cumulative sums, float32 (flows, 2 * channels * bins)."""
    return with_cumulative(series).reshape(len(series), -1).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class LogSpace:
    """Series on a signed logarithmic scale, on which the largest real value of each channel is 1."""

    top: np.ndarray  # float64 (channels,): ``log(1 + |x|)`` of the largest number of each channel

    @classmethod
    def of(cls, series: np.ndarray) -> LogSpace:
        """Fit the space to real series, int64 (flows, channels, bins)."""
        return cls(np.maximum(np.log1p(np.abs(series).max(axis=(0, 2), initial=0).astype(float)), 1.0))

    def __call__(self, series: np.ndarray) -> np.ndarray:
        """Transform series to float32 (flows, channels, bins); 0 is idle."""
        return (signed_log(series.astype(np.float32)) / self.top[:, None].astype(np.float32)).astype(np.float32)


class FixedEncoder:
    """Features from fixed random convolutions: nothing is learned, nothing can be tuned.

    After Dempster et al., "ROCKET" (arXiv 1910.13051): for each of `KERNELS` random kernels, the share of bins with a
    positive response, and the largest response. Each feature is standardised over `real`, the real flows in `LogSpace`;
    features that do not vary there are left out.
    """

    KERNELS = 32
    TAPS = 9

    def __init__(self, real: np.ndarray) -> None:
        channels, bins = real.shape[1:]
        generator = np.random.default_rng(2310_04429)
        weights = generator.standard_normal((self.KERNELS, channels, self.TAPS)).astype(np.float32)
        self._weights = weights - weights.mean(axis=2, keepdims=True)
        max_dilation = max(1, (bins - 1) // (self.TAPS - 1))
        exponent = np.log2(max_dilation) * generator.random(self.KERNELS)
        self._dilation = np.floor(2**exponent).astype(int)
        self._bias = generator.uniform(-0.5, 0.5, self.KERNELS).astype(np.float32)
        raw = self._raw(real)
        self._mean, std = raw.mean(0), raw.std(0)
        self._varies = std > 1e-6
        self._std = std[self._varies]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Compute features, float64 (flows, at most 2 * KERNELS)."""
        return (self._raw(points) - self._mean)[:, self._varies] / self._std

    def _raw(self, points: np.ndarray) -> np.ndarray:
        import torch
        from torch.nn.functional import conv1d

        out = np.empty((len(points), 2 * self.KERNELS))
        with one_thread(), torch.inference_mode():
            for dilation in np.unique(self._dilation).tolist():
                kernels = np.flatnonzero(self._dilation == dilation)
                weights = torch.from_numpy(self._weights[kernels])
                bias = torch.from_numpy(self._bias[kernels])
                padding = dilation * (self.TAPS - 1) // 2
                for first in range(0, len(points), 1024):
                    batch = torch.from_numpy(np.ascontiguousarray(points[first : first + 1024]))
                    response = conv1d(batch, weights, bias, padding=padding, dilation=dilation)
                    rows = slice(first, first + len(batch))
                    out[rows, kernels] = (response > 0).float().mean(2).numpy()
                    out[rows, kernels + self.KERNELS] = response.amax(2).numpy()
        return out
