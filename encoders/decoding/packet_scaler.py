"""The first packets of flows into numbers that are learnt well, and back: each one's size, direction and gap.

A packet goes up or down, and there is none after the flow's last. One number for all three would put "no
packet" between small packets of either direction; so sizes up and sizes down are two numbers, of which
at most one is not idle.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from netgen.encoders.decoding.bin_scaler import LOWEST
from netgen.encoders.decoding.quantile_scale import STEPS, QuantileScale, quantiles
from netgen.encoders.decoding.sizes import bent
from netgen.encoders.log_scale import IDLE


@dataclasses.dataclass(frozen=True)
class PacketScaler:
    """Sizes up, sizes down and gaps, each in [0.25, 1]; what there is not is 0.25.

    Sizes: ``x = 0.4 + 0.6 place`` on a scale of `netgen.encoders.decoding.quantile_scale`, as of `netgen.encoders.decoding.bin_scaler`. Gaps:
    ``x = 0.25 + 0.75 place``, where heights are even on a logarithmic ruler.

    Parameters
    ----------
    sizes : ndarray of float64, shape (2, STEPS + 1)
        Quantiles of the sizes of real packets, IP bytes, up and down.
    gaps : ndarray of float64, shape (STEPS + 1,)
        Quantiles of the gaps between them, microseconds.
    """

    #: Rows of a scaled series.
    CHANNELS = 3

    sizes: np.ndarray
    gaps: np.ndarray

    @classmethod
    def of(cls, series: np.ndarray) -> PacketScaler:
        """The scale of real series, int (flows, 2, packets): size, gap."""
        size, gap = series[:, 0], series[:, 1]
        sizes = np.zeros((2, STEPS + 1))
        for way, mine in enumerate((size > 0, size < 0)):
            if mine.any():
                sizes[way] = quantiles(np.abs(size[mine]))
        later = gap[:, 1:][size[:, 1:] != 0]
        return cls(sizes, quantiles(later) if len(later) else np.zeros(STEPS + 1))

    def scale(self, series: np.ndarray) -> np.ndarray:
        """Series to float64 in [0.25, 1], (flows, 3, packets)."""
        size, gap = series[:, 0], series[:, 1]
        out = np.full((len(series), 3, series.shape[2]), IDLE)
        for way, mine in enumerate((size > 0, size < 0)):
            out[:, way][mine] = LOWEST + (1 - LOWEST) * self._size(way).place(np.abs(size[mine]))
        there = size != 0
        there[:, 0] = False  # nothing is before the first packet
        out[:, 2][there] = IDLE + (1 - IDLE) * self._gap.place(gap[there])
        return out

    def decode(self, scaled: np.ndarray, smallest: np.ndarray, largest: np.ndarray) -> np.ndarray:
        """The packets nearest to drawn numbers, int64 (flows, 2, packets).

        Each goes up or down, and the flow ends behind one of them, whichever lies nearest on the scale that the model
        learnt. The first packet is always there.

        Parameters
        ----------
        scaled : ndarray of float, shape (flows, 3, packets)
            As `scale` gives.
        smallest, largest : ndarray of float, shape (flows, 2) or (2,)
            IP bytes of a packet, up and down.
        """
        drawn = np.asarray(scaled, np.float64)
        place = np.clip((drawn[:, :2] - LOWEST) / (1 - LOWEST), 0.0, 1.0)
        from_idle = np.square(drawn[:, :2] - IDLE)
        gain = from_idle - np.square(drawn[:, :2] - LOWEST - (1 - LOWEST) * place)
        best = gain.argmax(1)
        # of all flows that end somewhere, the nearest: one packet that looks like none does not end it
        number = gain.max(1).cumsum(1).argmax(1) + 1
        there = np.arange(drawn.shape[2]) < number[:, None]
        low, high = (np.broadcast_to(each, (len(drawn), 2)) for each in (smallest, largest))
        size = np.zeros(best.shape, np.int64)
        for way in (0, 1):
            flow, packet = np.nonzero(there & (best == way))
            bytes_ = np.rint(self._size(way).value(place[flow, way, packet]))
            size[flow, packet] = np.clip(bytes_, low[flow, way], high[flow, way]) * (1 - 2 * way)
        gap = np.rint(self._gap.value(np.clip((drawn[:, 2] - IDLE) / (1 - IDLE), 0.0, 1.0))).astype(np.int64)
        gap[:, 0] = 0
        return np.stack([size, np.where(there, gap, 0)], axis=1)

    def _size(self, way: int) -> QuantileScale:
        return QuantileScale.of(self.sizes[way], bent)

    @property
    def _gap(self) -> QuantileScale:
        return QuantileScale.of(self.gaps, np.log1p)

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {"sizes": self.sizes.tolist(), "gaps": self.gaps.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PacketScaler:
        """The scale that `to_json` wrote."""
        sizes, gaps = (np.array(data[name], np.float64) for name in ("sizes", "gaps"))
        return cls(sizes.reshape(2, STEPS + 1), gaps.reshape(STEPS + 1))


@dataclasses.dataclass(frozen=True)
class PacketDecoder:
    """Scaled series of a model into packets.

    Parameters
    ----------
    scale : SequenceScale
    limits : ndarray of float, shape (2, classes, 2)
        Smallest and largest packet of each class, up and down.
    """

    scale: PacketScaler
    limits: np.ndarray

    def group(self, label: int) -> int:
        """Flows of a class that are to be decoded together: each by itself."""
        return 1

    def decode(
        self, scaled: np.ndarray, labels: np.ndarray, numbers: np.ndarray | None = None, *, seed: int = 0
    ) -> np.ndarray:
        """Packets, int64 (flows, 2, packets), of flows of these classes, whatever their numbers."""
        return self.scale.decode(scaled, self.limits[0][labels], self.limits[1][labels])
