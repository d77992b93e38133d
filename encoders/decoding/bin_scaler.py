"""Scale series of bins to what a model learns well, and back.

Bytes and packets of a bin depend on each other: a model that samples both, each with a small error of its own in
the logarithm, makes packets of sizes that no network has. So the first two channels are the mean packet sizes of
a bin, on a scale with wide steps at the frequent sizes of real traffic (a bare acknowledgement, a full packet, a
cell): a sample near such a size becomes that very size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from netgen.encoders.decoding.counts import Counts
from netgen.encoders.decoding.sizes import Sizes
from netgen.encoders.log_scale import IDLE

MIN_BUSY = IDLE + 0.15  # scaled value of the smallest size: far enough above an idle bin not to be taken for one


@dataclasses.dataclass(frozen=True)
class BinScaler:
    """Scales of sizes and numbers of packets, each in [0.25, 1]; an idle bin is 0.25.

    Packets: ``x = 0.25 + 0.75 log(1 + n) / log(1 + top)``, with frequent numbers as atoms
    (`netgen.encoders.decoding.counts`). Sizes: ``x = 0.4 + 0.6 u``, with u on the quantile scale of bins of similar
    position and number of packets.
    """

    #: Channels of a scaled series.
    CHANNELS = 4

    sizes: tuple[Sizes, Sizes]  # scales of the mean packet sizes of real bins, up and down
    counts: tuple[Counts, Counts]  # scales of their numbers of packets, up and down

    @property
    def top(self) -> np.ndarray:
        """The largest number of packets in a bin, up and down, where the scale ends; float64 (2,)."""
        return np.array([counts.top for counts in self.counts])

    @classmethod
    def of(cls, series: np.ndarray) -> BinScaler:
        """Fit the scale to real series, int (flows, 4, bins): up_bytes, down_bytes, up_packets, down_packets."""
        volume, packets = series[:, :2], series[:, 2:]
        mean = volume / np.maximum(packets, 1)
        up, down = (Sizes.of(mean[:, way], packets[:, way]) for way in (0, 1))
        return cls((up, down), (Counts.of(packets[:, 0]), Counts.of(packets[:, 1])))

    def scale(self, series: np.ndarray) -> np.ndarray:
        """Scale series to float64 in [0.25, 1], shape kept: sizes up and down, packets up and down."""
        volume, packets = series[:, :2], series[:, 2:]
        mean = volume / np.maximum(packets, 1)
        out = self.combine(self._by_size(Sizes.place, mean, packets), self.count_forward(packets))
        out[:, :2][packets == 0] = IDLE
        return out

    @staticmethod
    def combine(size_u: np.ndarray, count_u: np.ndarray) -> np.ndarray:
        """Return busy bins, (..., 4, bins), from u of sizes and of packet counts, each (..., 2, bins)."""
        return np.concatenate([MIN_BUSY + (1 - MIN_BUSY) * size_u, IDLE + (1 - IDLE) * count_u], axis=-2)

    @staticmethod
    def split(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Invert `combine`; a size below 0 is between the smallest size and an idle bin."""
        scaled = np.asarray(scaled, np.float64)
        return (scaled[..., :2, :] - MIN_BUSY) / (1 - MIN_BUSY), (scaled[..., 2:, :] - IDLE) / (1 - IDLE)

    def count_forward(self, packets: np.ndarray) -> np.ndarray:
        """Return the u of numbers of packets, (..., 2, bins)."""
        return self._by_count(Counts.share, packets)

    def count_inverse(self, u: np.ndarray) -> np.ndarray:
        """Return numbers of packets, before rounding, of u (..., 2, bins)."""
        return self._by_count(Counts.number, u)

    def is_frequent_count(self, packets: np.ndarray) -> np.ndarray:
        """Return a mask of numbers of packets (..., 2, bins) that are atoms."""
        return self._by_count(Counts.often, packets)

    def size_inverse(self, u: np.ndarray, packets: np.ndarray) -> np.ndarray:
        """Return bytes per packet of u (flows, 2, bins); 0 where there is no packet."""
        return self._by_size(Sizes.size, u, packets)

    def is_frequent_size(self, size: np.ndarray, packets: np.ndarray) -> np.ndarray:
        """Return a mask of sizes (flows, 2, bins) that are atoms for bins of so many packets."""
        return self._by_size(Sizes.often, size, packets)

    def _by_size(
        self, function: Callable[[Sizes, np.ndarray, np.ndarray], np.ndarray], values: np.ndarray, packets: np.ndarray
    ) -> np.ndarray:
        return np.stack([function(sizes, values[:, i], packets[:, i]) for i, sizes in enumerate(self.sizes)], axis=1)

    def _by_count(self, function: Callable[[Counts, np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
        return np.stack([function(counts, values[..., i, :]) for i, counts in enumerate(self.counts)], axis=-2)

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return {
            "top": self.top.tolist(),
            "sizes": [sizes.to_json() for sizes in self.sizes],
            "counts": [counts.to_json() for counts in self.counts],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> BinScaler:
        """Read what `to_json` wrote."""
        up, down = (Sizes.from_json(sizes) for sizes in data["sizes"])
        top = np.array(data["top"], np.float64)
        first, second = (Counts.from_json(*counts) for counts in zip(data["counts"], top.tolist(), strict=True))
        return cls((up, down), (first, second))
