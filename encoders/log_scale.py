"""Integers into the range in which a Gramian angular field can be inverted, and back."""

from __future__ import annotations

import dataclasses

import numpy as np

#: An idle bin. From here to 1, the cosine and its inverse are well-conditioned; near 0 and -1 they are not.
IDLE = 0.25


@dataclasses.dataclass(frozen=True)
class LogScale:
    """``x = 0.25 + 0.75 log(1 + v) / log(1 + top)``, one `top` a channel for all flows.

    One global scale keeps the volume of a flow, which a scale of its own for each trace (the
    paper's, and pyts' default) throws away.

    Parameters
    ----------
    top : ndarray of float64, shape (channels,)
        The largest value of each channel, which becomes 1.
    """

    top: np.ndarray

    @classmethod
    def of(cls, series: np.ndarray) -> LogScale:
        """The scale of series of shape (flows, channels, bins)."""
        return cls(np.maximum(series.max(axis=(0, 2), initial=1), 1).astype(np.float64))

    def scale(self, series: np.ndarray) -> np.ndarray:
        """Integers to float64 in [0.25, 1], shape kept; values over `top` become 1."""
        share = np.log1p(series) / np.log1p(self.top)[:, None]
        return IDLE + (1 - IDLE) * np.minimum(share, 1.0)

    def unscale(self, scaled: np.ndarray) -> np.ndarray:
        """The integers nearest to `scaled`, int64."""
        share = np.clip((np.asarray(scaled, dtype=np.float64) - IDLE) / (1 - IDLE), 0.0, 1.0)
        return np.rint(np.expm1(share * np.log1p(self.top)[:, None])).astype(np.int64)
