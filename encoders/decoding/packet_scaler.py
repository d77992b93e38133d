"""Scale the first packets of flows, each with size, direction and gap, to what a model learns well, and back.

A packet goes up or down, and none follows the flow's last. One number for all three would put "no packet"
between small packets of either direction; so sizes up and sizes down are two channels, of which at most one
is not idle.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from netgen.encoders.decoding.bin_scaler import MIN_BUSY
from netgen.encoders.decoding.quantile_scale import N_QUANTILES, QuantileScale, quantiles
from netgen.encoders.decoding.sizes import bent
from netgen.encoders.log_scale import IDLE


@dataclasses.dataclass(frozen=True)
class PacketScaler:
    """Scales of sizes up, sizes down and gaps, each in [0.25, 1]; missing packets are 0.25.

    Sizes: ``x = 0.4 + 0.6 u``; gaps: ``x = 0.25 + 0.75 u``, with u on a `QuantileScale`, that of gaps logarithmic.
    """

    #: Channels of a scaled series.
    CHANNELS = 3

    sizes: np.ndarray  # float64 (2, N_QUANTILES + 1): quantiles of the sizes of real packets, IP bytes, up and down
    gaps: np.ndarray  # float64 (N_QUANTILES + 1,): quantiles of the gaps between them, microseconds

    @classmethod
    def of(cls, series: np.ndarray) -> PacketScaler:
        """Fit the scale to real series, int (flows, 2, packets): size, gap."""
        size, gap = series[:, 0], series[:, 1]
        sizes = np.zeros((2, N_QUANTILES + 1))
        for way, mask in enumerate((size > 0, size < 0)):
            if mask.any():
                sizes[way] = quantiles(np.abs(size[mask]))
        gaps = gap[:, 1:][size[:, 1:] != 0]
        return cls(sizes, quantiles(gaps) if len(gaps) else np.zeros(N_QUANTILES + 1))

    def scale(self, series: np.ndarray) -> np.ndarray:
        """Scale series to float64 in [0.25, 1], (flows, 3, packets)."""
        size, gap = series[:, 0], series[:, 1]
        out = np.full((len(series), 3, series.shape[2]), IDLE)
        for way, mask in enumerate((size > 0, size < 0)):
            out[:, way][mask] = MIN_BUSY + (1 - MIN_BUSY) * self._size(way).forward(np.abs(size[mask]))
        has_gap = size != 0
        has_gap[:, 0] = False  # nothing is before the first packet
        out[:, 2][has_gap] = IDLE + (1 - IDLE) * self._gap.forward(gap[has_gap])
        return out

    def decode(self, scaled: np.ndarray, smallest: np.ndarray, largest: np.ndarray) -> np.ndarray:
        """Return the packets nearest to samples (flows, 3, packets), int64 (flows, 2, packets).

        Each goes up or down, and the flow ends after one of them, whichever is nearest on the scale that the model
        learnt. A flow has at least one packet. `smallest` and `largest` packet, (flows, 2) or (2,), are IP bytes up and
        down.
        """
        scaled = np.asarray(scaled, np.float64)
        u = np.clip((scaled[:, :2] - MIN_BUSY) / (1 - MIN_BUSY), 0.0, 1.0)
        from_idle = np.square(scaled[:, :2] - IDLE)
        margin = from_idle - np.square(scaled[:, :2] - MIN_BUSY - (1 - MIN_BUSY) * u)
        direction = margin.argmax(1)
        # the nearest of all possible ends: a single packet that looks idle does not end the flow
        length = margin.max(1).cumsum(1).argmax(1) + 1
        exists = np.arange(scaled.shape[2]) < length[:, None]
        low, high = (np.broadcast_to(limit, (len(scaled), 2)) for limit in (smallest, largest))
        size = np.zeros(direction.shape, np.int64)
        for way in (0, 1):
            flow, packet = np.nonzero(exists & (direction == way))
            n_bytes = np.rint(self._size(way).inverse(u[flow, way, packet]))
            size[flow, packet] = np.clip(n_bytes, low[flow, way], high[flow, way]) * (1 - 2 * way)
        gap = np.rint(self._gap.inverse(np.clip((scaled[:, 2] - IDLE) / (1 - IDLE), 0.0, 1.0))).astype(np.int64)
        gap[:, 0] = 0
        return np.stack([size, np.where(exists, gap, 0)], axis=1)

    def _size(self, way: int) -> QuantileScale:
        return QuantileScale.of(self.sizes[way], bent)

    @property
    def _gap(self) -> QuantileScale:
        return QuantileScale.of(self.gaps, np.log1p)

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return {"sizes": self.sizes.tolist(), "gaps": self.gaps.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PacketScaler:
        """Read what `to_json` wrote."""
        sizes, gaps = (np.array(data[name], np.float64) for name in ("sizes", "gaps"))
        return cls(sizes.reshape(2, N_QUANTILES + 1), gaps.reshape(N_QUANTILES + 1))


@dataclasses.dataclass(frozen=True)
class PacketDecoder:
    """Turns scaled series of a model into packets."""

    scale: PacketScaler
    limits: np.ndarray  # float (2, strata, 2): smallest and largest packet of each stratum, up and down

    def group(self, stratum: int) -> int:  # noqa: ARG002 - as of `Decoder`
        """Return 1: flows are decoded one by one."""
        return 1

    def decode(
        self,
        scaled: np.ndarray,
        strata: np.ndarray,
        indices: np.ndarray | None = None,  # noqa: ARG002 - as of `Decoder`
        *,
        seed: int = 0,  # noqa: ARG002 - as of `Decoder`
    ) -> np.ndarray:
        """Return packets, int64 (flows, 2, packets), of flows of these strata."""
        return self.scale.decode(scaled, self.limits[0][strata], self.limits[1][strata])
