"""Series into numbers that are learnt well, and back: packets a bin, and how large they are on average.

Bytes and packets of a bin hang together: a model that draws both, each with a small error of its own in
the logarithm, makes packets of sizes that no network has. Here the first two channels say how large the packets of
a bin are, on a scale on which sizes that real traffic has again and again (a bare acknowledgement, a full packet, a
cell) are wide steps: what is drawn near such a size becomes that very size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from netgen.encoders.decoding.counts import Counts
from netgen.encoders.decoding.sizes import Sizes
from netgen.encoders.log_scale import IDLE

#: The smallest size lies so far above an idle bin, so that idle is not taken for small.
GAP = 0.15

LOWEST = IDLE + GAP


@dataclasses.dataclass(frozen=True)
class BinScaler:
    """Sizes and numbers of packets, each in [0.25, 1]; an idle bin is 0.25.

    Packets: ``x = 0.25 + 0.75 log(1 + n) / log(1 + top)``, but that numbers which many bins have are steps
    (`netgen.encoders.decoding.counts`). Sizes: ``x = 0.4 + 0.6 (rank + height) / 2``, on the scale of bins of like place and number of
    packets, where a size that many bins have has all their ranks, of which the middle one stands in the series.

    Parameters
    ----------
    sizes : tuple of Sizes
        Scales of the mean sizes of real bins, up and down.
    counts : tuple of Counts
        Scales of their numbers of packets, up and down.
    """

    #: Rows of a scaled series.
    CHANNELS = 4

    sizes: tuple[Sizes, Sizes]
    counts: tuple[Counts, Counts]

    @property
    def top(self) -> np.ndarray:
        """The most packets of a bin, up and down, where the scale ends; float64 (2,)."""
        return np.array([each.top for each in self.counts])

    @classmethod
    def of(cls, series: np.ndarray) -> BinScaler:
        """The scale of real series, int (flows, 4, bins): up_bytes, down_bytes, up_packets, down_packets."""
        volume, packets = series[:, :2], series[:, 2:]
        mean = volume / np.maximum(packets, 1)
        up, down = (Sizes.of(mean[:, way], packets[:, way]) for way in (0, 1))
        return cls((up, down), (Counts.of(packets[:, 0]), Counts.of(packets[:, 1])))

    def scale(self, series: np.ndarray) -> np.ndarray:
        """Series to float64 in [0.25, 1], shape kept: sizes up and down, packets up and down."""
        volume, packets = series[:, :2], series[:, 2:]
        mean = volume / np.maximum(packets, 1)
        place = self._by_way(Sizes.place, mean, packets)
        out = self.scaled(place, self.share(packets))
        out[:, :2][packets == 0] = IDLE
        return out

    @staticmethod
    def scaled(place: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Busy bins, (..., 4, bins), of places on the scales of sizes and of packets, each (..., 2, bins)."""
        return np.concatenate([LOWEST + (1 - LOWEST) * place, IDLE + (1 - IDLE) * share], axis=-2)

    @staticmethod
    def shares(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `scaled` was given; a place below 0 lies between the smallest size and an idle bin."""
        scaled = np.asarray(scaled, np.float64)
        return (scaled[..., :2, :] - LOWEST) / (1 - LOWEST), (scaled[..., 2:, :] - IDLE) / (1 - IDLE)

    def share(self, packets: np.ndarray) -> np.ndarray:
        """Where numbers of packets, (..., 2, bins), stand on their scale."""
        return self._counted(Counts.share, packets)

    def number(self, share: np.ndarray) -> np.ndarray:
        """Numbers of packets, not whole ones, at places of their scale, (..., 2, bins)."""
        return self._counted(Counts.number, share)

    def frequent_counts(self, packets: np.ndarray) -> np.ndarray:
        """Whether numbers of packets (..., 2, bins) are such as bins have again and again, as a mask."""
        return self._counted(Counts.often, packets)

    def size(self, place: np.ndarray, packets: np.ndarray) -> np.ndarray:
        """Bytes a packet at places of the scale of sizes, (flows, 2, bins); 0 where there is no packet."""
        return self._by_way(Sizes.size, place, packets)

    def frequent(self, size: np.ndarray, packets: np.ndarray) -> np.ndarray:
        """Whether sizes (flows, 2, bins) are those that such bins have again and again, as a mask."""
        return self._by_way(Sizes.often, size, packets)

    def _by_way(
        self, how: Callable[[Sizes, np.ndarray, np.ndarray], np.ndarray], values: np.ndarray, packets: np.ndarray
    ) -> np.ndarray:
        return np.stack([how(each, values[:, way], packets[:, way]) for way, each in enumerate(self.sizes)], axis=1)

    def _counted(self, how: Callable[[Counts, np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
        return np.stack([how(each, values[..., way, :]) for way, each in enumerate(self.counts)], axis=-2)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "top": self.top.tolist(),
            "sizes": [each.to_json() for each in self.sizes],
            "counts": [each.to_json() for each in self.counts],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> BinScaler:
        """The scale that `to_json` wrote."""
        up, down = (Sizes.from_json(each) for each in data["sizes"])
        top = np.array(data["top"], np.float64)
        if "counts" in data:
            first, second = (Counts.from_json(*each) for each in zip(data["counts"], top.tolist(), strict=True))
        else:
            first, second = (Counts.even(each) for each in top.tolist())
        return cls((up, down), (first, second))
