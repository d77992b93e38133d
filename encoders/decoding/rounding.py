"""Round samples to whole packets and bytes.

A model samples four numbers per bin: mean size and number of packets, up and down. They become integers that
packets can make, with as little change as possible.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.log_scale import IDLE

MAX_PASSES = 12  # passes of `round_to_total`; bins that meet a bound leave the rest to the others
EXACT_UP_TO = 16  # packets (or bytes) in a bin up to which models are about exact; above it they are wrong by a factor


@dataclasses.dataclass(frozen=True)
class RoundedBins:
    """Whole packets nearest to samples."""

    packets: np.ndarray  # int64 (flows, 2, bins): up and down
    #: float64 of the same shape: packets before rounding, at most half a packet off, to rank flows by
    count_float: np.ndarray
    size: np.ndarray  # float64 of the same shape: IP bytes per packet, as sampled; 0 where there is none
    #: float64 of the same shape: position of the size on its scale, which depends on the number of packets
    size_u: np.ndarray
    scale: BinScaler

    def take(self, rows: np.ndarray) -> RoundedBins:
        """Select flows."""
        return RoundedBins(self.packets[rows], self.count_float[rows], self.size[rows], self.size_u[rows], self.scale)

    def sizes(self, packets: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """Return IP bytes per packet if the bins held `packets` instead.

        `limits`, (2, 2) or (2, flows, 2), are the smallest and largest packet, up and down.
        """
        same = packets == self.packets
        low, high = limits[..., None]
        size = self.scale.size_inverse(self.size_u, np.where(same, 0, packets))
        return np.where(same, self.size, np.clip(size, low, high))


def round_to_packets(scaled: np.ndarray, scale: BinScaler, smallest: np.ndarray, largest: np.ndarray) -> RoundedBins:
    """Return the whole packets nearest to samples, (flows, 4, bins) as `BinScaler.scale` returns.

    Size and count decide together whether a bin is idle: an idle bin or the nearest busy one, whichever is nearer on
    the scale that the model learnt. `smallest` and `largest` packet, (flows, 2) or (2,), are IP bytes up and down.
    """
    size_u, count, packets, margin = _nearest(scaled, scale)
    busy = margin > 0
    # bin 0 holds the flow's first packet: if neither direction has one, the more likely one gets it
    first = np.where(busy[:, :, 0].any(1), -1, margin[:, :, 0].argmax(1))
    busy[:, :, 0] |= first[:, None] == np.arange(2)
    low, high = (np.asarray(limit, np.float64)[..., None] for limit in (smallest, largest))
    packets = np.where(busy, packets, 0).astype(np.int64)
    count_float = np.where(busy, np.clip(count, packets - 0.5, packets + 0.5), 0.0)
    size = np.where(busy, np.clip(scale.size_inverse(size_u, packets), low, high), 0.0)
    return RoundedBins(packets, count_float, size, size_u, scale)


def activity_margin(scaled: np.ndarray, scale: BinScaler) -> np.ndarray:
    """Return how much nearer samples are to the nearest busy bin than to an idle one, (flows, 2, bins).

    By squared distance on the scale of the model, size and count together.
    """
    return _nearest(scaled, scale)[3]


def _nearest(scaled: np.ndarray, scale: BinScaler) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return u of the sizes, sampled counts, counts of the nearest busy bin, and the margin of that over idle."""
    size_u, count_u = (np.clip(u, 0.0, 1.0) for u in scale.split(scaled))
    count = scale.count_inverse(count_u)
    packets = np.maximum(np.floor(count), 1)
    height = np.log1p(count)  # neighbouring counts are equally near on it, however wide their steps are
    packets += np.abs(np.log1p(packets + 1) - height) < np.abs(np.log1p(packets) - height)
    nearest = scale.combine(size_u, scale.count_forward(packets))
    margin = np.square(scaled - IDLE) - np.square(scaled - nearest)
    return size_u, count, packets, margin[:, :2] + margin[:, 2:]


def round_to_total(
    values: np.ndarray, total: np.ndarray, low: np.ndarray, high: np.ndarray, weights: np.ndarray | float = 1.0
) -> np.ndarray:
    """Return integers (rows, bins) between `low` and `high` that add up to `total` (rows,), near to `values`.

    Large sampled numbers are wrong by a factor and small ones hardly at all: so large bins change in proportion to
    their value, small ones in proportion to its square, both times `weights`. A total outside the bounds is met as
    nearly as they allow.
    """
    total = np.clip(np.rint(total), low.sum(1), high.sum(1))
    out = np.clip(values, low, high)
    for _ in range(MAX_PASSES):
        missing = (total - out.sum(1))[:, None]
        if not missing.any():
            break
        has_room = np.where(missing > 0, high - out, out - low) > 1e-9
        value = np.maximum(out, 1e-3)
        weight = np.where(has_room, weights * (np.square(value) / (1 + value / EXACT_UP_TO)), 0.0)
        weight_sum = weight.sum(1, keepdims=True)
        out = np.clip(out + missing * weight / np.maximum(weight_sum, 1e-9), low, high)
    floor = np.floor(out + 1e-9)
    remainder = np.where(floor + 1 <= high, out - floor, -1.0)
    order = np.argsort(np.argsort(-remainder, axis=1, kind="stable"), axis=1, kind="stable")
    needed = np.rint(total - floor.sum(1))[:, None]
    return (floor + ((order < needed) & (remainder >= 0))).astype(np.int64)


def keep_top_k(values: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Return a mask of the largest positive values of each row, at most `k` (rows,) of them, column 0 always first."""
    rank = -values
    rank[:, 0] = np.where(values[:, 0] > 0, -np.inf, 0.0)
    order = np.argsort(np.argsort(rank, axis=1, kind="stable"), axis=1, kind="stable")
    return (values > 0) & (order < np.rint(k)[:, None])
