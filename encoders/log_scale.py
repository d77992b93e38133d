"""Scale integers to the range in which a Gramian angular field can be inverted."""

from __future__ import annotations

import dataclasses

import numpy as np

#: Scaled value of an idle bin. From 0.25 to 1 the cosine and its inverse are well-conditioned; near 0 and -1 not.
IDLE = 0.25


@dataclasses.dataclass(frozen=True)
class LogScale:
    """``x = 0.25 + 0.75 log(1 + v) / log(1 + top)``, with one `top` per channel.

    One scale for all flows keeps the volume of a flow; a scale per trace (that of the paper, and
    the default of pyts) loses it.
    """

    top: np.ndarray  # float64 (channels,): largest value of each channel, which becomes 1

    @classmethod
    def of(cls, series: np.ndarray) -> LogScale:
        """Fit the scale to series (flows, channels, bins)."""
        return cls(np.maximum(series.max(axis=(0, 2), initial=1), 1).astype(np.float64))

    def scale(self, series: np.ndarray) -> np.ndarray:
        """Scale integers to float64 in [0.25, 1], shape kept; values above `top` become 1."""
        return IDLE + (1 - IDLE) * np.minimum(np.log1p(series) / np.log1p(self.top)[:, None], 1.0)
