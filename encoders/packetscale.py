"""Series into numbers that are learnt well, and back: packets a bin, and how large they are on average.

Bytes and packets of a bin hang together: a model that draws both, each with a small error of its own in
the logarithm, makes packets of sizes that no network has. Here the first two channels say how large the packets of
a bin are, on a scale on which sizes that real traffic has again and again (a bare acknowledgement, a full packet, a
cell) are wide steps: what is drawn near such a size becomes that very size.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from encoders.scale import IDLE

#: Sizes of the real packets that a scale remembers, as quantiles.
STEPS = 512

#: The smallest size lies so far above an idle bin, so that idle is not taken for small.
GAP = 0.15

#: How much of the scale is the share of packets that are smaller; the rest is the size itself.
RANKED = 0.5

_LOWEST = IDLE + GAP
_FULL = 1500.0  # bytes of a full packet of Ethernet; larger ones are merged by network cards


@dataclasses.dataclass(frozen=True)
class PacketScale:
    """Sizes and numbers of packets, each in [0.25, 1]; an idle bin is 0.25.

    Packets: ``x = 0.25 + 0.75 log(1 + n) / log(1 + top)``. Sizes: ``x = 0.4 + 0.6 (rank + height) / 2``, where a
    size that many bins have has all their ranks, of which the middle one stands in the series; the height grows evenly
    from 0 for the smallest size to 1 for the largest, over 1500 bytes with the logarithm.

    Parameters
    ----------
    top : ndarray of float64, shape (2,)
        The most packets of a bin, up and down, which becomes 1.
    sizes : ndarray of float64, shape (2, STEPS + 1)
        Quantiles of the mean sizes of real bins, IP bytes, up and down; not falling.
    """

    top: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, series: np.ndarray) -> PacketScale:
        """The scale of real series, int (flows, 4, bins): up_bytes, down_bytes, up_packets, down_packets."""
        sizes = np.zeros((2, STEPS + 1))
        for way in (0, 1):
            busy = series[:, 2 + way] > 0
            if busy.any():
                mean = series[:, way][busy] / series[:, 2 + way][busy]
                sizes[way] = np.quantile(mean, np.linspace(0, 1, STEPS + 1), method="inverted_cdf")
        return cls(series[:, 2:].max(axis=(0, 2), initial=1).astype(np.float64), sizes)

    def scale(self, series: np.ndarray) -> np.ndarray:
        """Series to float64 in [0.25, 1], shape kept: sizes up and down, packets up and down."""
        volume, packets = series[:, :2], series[:, 2:]
        place = np.zeros(packets.shape)
        for way in (0, 1):
            busy = packets[:, way] > 0
            place[:, way][busy] = self._place(way, volume[:, way][busy] / packets[:, way][busy])
        out = self.scaled(place, np.minimum(np.log1p(packets) / np.log1p(self.top)[:, None], 1.0))
        out[:, :2][packets == 0] = IDLE
        return out

    @staticmethod
    def scaled(place: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Busy bins, (..., 4, bins), of places on the scales of sizes and of packets, each (..., 2, bins)."""
        return np.concatenate([_LOWEST + (1 - _LOWEST) * place, IDLE + (1 - IDLE) * share], axis=-2)

    def _place(self, way: int, size: np.ndarray) -> np.ndarray:
        """The middle of the step of a size, or its place between two steps."""
        values, first, last = self._steps(way)
        below = np.maximum(np.searchsorted(values, size, "right") - 1, 0)
        above = np.minimum(below + 1, len(values) - 1)
        part = np.clip((size - values[below]) / np.maximum(values[above] - values[below], 1e-9), 0.0, 1.0)
        between = last[below] + part * (first[above] - last[below])
        place: np.ndarray = np.where(size == values[below], (first[below] + last[below]) / 2, between)
        return place

    @staticmethod
    def shares(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `scaled` was given; a place below 0 lies between the smallest size and an idle bin."""
        scaled = np.asarray(scaled, np.float64)
        return (scaled[..., :2, :] - _LOWEST) / (1 - _LOWEST), (scaled[..., 2:, :] - IDLE) / (1 - IDLE)

    def size(self, share: np.ndarray) -> np.ndarray:
        """Bytes a packet at places (flows, 2, bins) of the scale of sizes."""
        out = np.empty(share.shape)
        for way in (0, 1):
            values, first, last = self._steps(way)
            places = np.stack([first, last], axis=1).ravel()
            out[:, way] = np.interp(share[:, way], places, np.repeat(values, 2))
        return out

    def _steps(self, way: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sizes, rising, and where on the scale the step of each begins and ends."""
        values, begin, count = np.unique(self.sizes[way], return_index=True, return_counts=True)
        span = _bent(values) - _bent(values[:1])
        height = (1 - RANKED) * span / max(span[-1], 1e-9)
        first, last = (RANKED * each / STEPS + height for each in (begin, begin + count - 1))
        # where all packets are alike, only the rank is left
        whole = max(last[-1], 1e-9)
        return values, first / whole, last / whole

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {"top": self.top.tolist(), "sizes": self.sizes.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PacketScale:
        """The scale that `to_json` wrote."""
        return cls(np.array(data["top"], np.float64), np.array(data["sizes"], np.float64).reshape(2, STEPS + 1))


def _bent(size: np.ndarray) -> np.ndarray:
    """Sizes, those over a full packet by their logarithm."""
    bent: np.ndarray = np.where(size <= _FULL, size / _FULL, 1 + np.log(np.maximum(size, _FULL) / _FULL))
    return bent
