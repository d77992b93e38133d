"""From drawn numbers to whole packets and bytes.

A model draws four numbers a bin: how large its packets are and how many, up and down. Here they become
integers that packets can make, and that change the drawn numbers as little as possible.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.log_scale import IDLE

#: Passes of `round_to_total`; bins that meet a bound leave the rest to the others.
_PASSES = 12

#: Below about so many packets (bytes) in a bin they are drawn exactly; above, wrong by a factor.
_EXACT = 16


@dataclasses.dataclass(frozen=True)
class RoundedBins:
    """Packets nearest to drawn numbers.

    Parameters
    ----------
    packets : ndarray of int64, shape (flows, 2, bins)
        Up and down.
    amount : ndarray of float64, same shape
        Packets before rounding, at most half a packet off: what flows are ranked by.
    size : ndarray of float64, same shape
        IP bytes a packet, as drawn; 0 where there is none.
    place : ndarray of float64, same shape
        Where the size stands on its scale, which for more or fewer packets is another one.
    scale : PacketScale
    """

    packets: np.ndarray
    amount: np.ndarray
    size: np.ndarray
    place: np.ndarray
    scale: BinScaler

    def take(self, rows: np.ndarray) -> RoundedBins:
        """Some of the flows."""
        return RoundedBins(self.packets[rows], self.amount[rows], self.size[rows], self.place[rows], self.scale)

    def sizes(self, packets: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """IP bytes a packet of bins that now have so many.

        `limits`, (2, 2) or (2, flows, 2), are the smallest and largest packet, up and down.
        """
        same = packets == self.packets
        low, high = limits[..., None]
        return np.where(same, self.size, np.clip(self.scale.size(self.place, np.where(same, 0, packets)), low, high))


def round_to_packets(scaled: np.ndarray, scale: BinScaler, smallest: np.ndarray, largest: np.ndarray) -> RoundedBins:
    """The whole packets nearest to drawn numbers.

    Whether a bin is idle, sizes and packets say together: the nearer of an idle bin and of the nearest
    busy one is taken, by the distance on the scale that the model learnt.

    Parameters
    ----------
    scaled : ndarray of float, shape (flows, 4, bins)
        Sizes up and down, packets up and down, as `BinScaler.scale` gives.
    scale : PacketScale
    smallest, largest : ndarray of float, shape (flows, 2) or (2,)
        IP bytes of a packet, up and down.
    """
    place, count, packets, gain = _nearest(scaled, scale)
    busy = gain > 0
    # bin 0 begins with the flow's first packet: where neither direction has one, it is the likelier one's
    first = np.where(busy[:, :, 0].any(1), -1, gain[:, :, 0].argmax(1))
    busy[:, :, 0] |= first[:, None] == np.arange(2)
    low, high = (np.asarray(each, np.float64)[..., None] for each in (smallest, largest))
    packets = np.where(busy, packets, 0).astype(np.int64)
    amount = np.where(busy, np.clip(count, packets - 0.5, packets + 0.5), 0.0)
    size = np.where(busy, np.clip(scale.size(place, packets), low, high), 0.0)
    return RoundedBins(packets, amount, size, place, scale)


def activity_margin(scaled: np.ndarray, scale: BinScaler) -> np.ndarray:
    """How much nearer drawn bins are to the nearest busy one than to an idle one, (flows, 2, bins).

    By the squares of the distances on the scale of the model, sizes and packets together.
    """
    return _nearest(scaled, scale)[3]


def _nearest(scaled: np.ndarray, scale: BinScaler) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places of sizes, packets as drawn, the nearest whole ones of a busy bin, and the gain of those over none."""
    place, share = (np.clip(each, 0.0, 1.0) for each in scale.shares(scaled))
    count = scale.number(share)
    packets = np.maximum(np.floor(count), 1)
    height = np.log1p(count)  # on which neighbours lie side by side, whatever room they have on the scale
    packets += np.abs(np.log1p(packets + 1) - height) < np.abs(np.log1p(packets) - height)
    nearest = scale.scaled(place, scale.share(packets))
    from_idle, from_busy = (np.square(scaled - each) for each in (IDLE, nearest))
    return place, count, packets, (from_idle - from_busy)[:, :2] + (from_idle - from_busy)[:, 2:]


def round_to_total(
    values: np.ndarray, total: np.ndarray, low: np.ndarray, high: np.ndarray, bears: np.ndarray | float = 1.0
) -> np.ndarray:
    """Integers between `low` and `high` that add up to `total`, near to `values`.

    Large drawn numbers are wrong by a factor and small ones not at all: so large bins move in
    proportion to what they hold, small ones in proportion to its square.

    Parameters
    ----------
    values, low, high : ndarray of float, shape (rows, bins)
    total : ndarray of float, shape (rows,)
        What cannot be reached within the bounds is met as nearly as they allow.
    bears : ndarray of float, shape (rows or 1, bins or 1), or float
        How much of the change a bin bears, for what it holds.

    Returns
    -------
    ndarray of int64, shape (rows, bins)
    """
    total = np.clip(np.rint(total), low.sum(1), high.sum(1))
    out = np.clip(values, low, high)
    for _ in range(_PASSES):
        missing = (total - out.sum(1))[:, None]
        if not missing.any():
            break
        room = np.where(missing > 0, high - out, out - low) > 1e-9
        held = np.maximum(out, 1e-3)
        weight = np.where(room, bears * (np.square(held) / (1 + held / _EXACT)), 0.0)
        whole = weight.sum(1, keepdims=True)
        out = np.clip(out + missing * weight / np.maximum(whole, 1e-9), low, high)
    floor = np.floor(out + 1e-9)
    remainder = np.where(floor + 1 <= high, out - floor, -1.0)
    order = np.argsort(np.argsort(-remainder, axis=1, kind="stable"), axis=1, kind="stable")
    needed = np.rint(total - floor.sum(1))[:, None]
    return (floor + ((order < needed) & (remainder >= 0))).astype(np.int64)


def keep_top_k(amount: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Busy bins, as a mask: at most as many as there are packets in all, bin 0 and those with the most drawn.

    Parameters
    ----------
    amount : ndarray of float, shape (rows, bins)
    total : ndarray of float, shape (rows,)
    """
    rank = -amount
    rank[:, 0] = np.where(amount[:, 0] > 0, -np.inf, 0.0)
    order = np.argsort(np.argsort(rank, axis=1, kind="stable"), axis=1, kind="stable")
    return (amount > 0) & (order < np.rint(total)[:, None])
