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
from encoders.steps import STEPS, Steps, frequent, quantiles

#: The smallest size lies so far above an idle bin, so that idle is not taken for small.
GAP = 0.15

LOWEST = IDLE + GAP
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

    #: Rows of a scaled series.
    CHANNELS = 4

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
                sizes[way] = quantiles(mean)
        return cls(series[:, 2:].max(axis=(0, 2), initial=1).astype(np.float64), sizes)

    def scale(self, series: np.ndarray) -> np.ndarray:
        """Series to float64 in [0.25, 1], shape kept: sizes up and down, packets up and down."""
        volume, packets = series[:, :2], series[:, 2:]
        place = np.zeros(packets.shape)
        for way in (0, 1):
            busy = packets[:, way] > 0
            place[:, way][busy] = self._steps(way).place(volume[:, way][busy] / packets[:, way][busy])
        out = self.scaled(place, np.minimum(np.log1p(packets) / np.log1p(self.top)[:, None], 1.0))
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

    def size(self, share: np.ndarray) -> np.ndarray:
        """Bytes a packet at places (flows, 2, bins) of the scale of sizes."""
        out = np.empty(share.shape)
        for way in (0, 1):
            out[:, way] = self._steps(way).value(share[:, way])
        return out

    def frequent(self, size: np.ndarray) -> np.ndarray:
        """Whether sizes (flows, 2, bins) are those that real bins have again and again, as a mask."""
        return np.stack([np.isin(size[:, way], frequent(self.sizes[way])) for way in (0, 1)], axis=1)

    def _steps(self, way: int) -> Steps:
        return Steps.of(self.sizes[way], bent)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {"top": self.top.tolist(), "sizes": self.sizes.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PacketScale:
        """The scale that `to_json` wrote."""
        return cls(np.array(data["top"], np.float64), np.array(data["sizes"], np.float64).reshape(2, STEPS + 1))


def bent(size: np.ndarray) -> np.ndarray:
    """Sizes, those over a full packet by their logarithm."""
    out: np.ndarray = np.where(size <= _FULL, size / _FULL, 1 + np.log(np.maximum(size, _FULL) / _FULL))
    return out
