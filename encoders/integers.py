"""From drawn numbers to whole packets and bytes.

A model draws four numbers a bin that need not agree: bytes and packets, up and down. Here they
become integers that packets can make, and that change the drawn numbers as little as possible.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from encoders.scale import IDLE, LogScale

#: Passes of `add_up`; bins that meet a bound leave the rest to the others.
_PASSES = 12

#: Below about so many packets (bytes) in a bin they are drawn exactly; above, wrong by a factor.
_EXACT = 16


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Packets nearest to drawn numbers.

    Parameters
    ----------
    packets : ndarray of int64, shape (flows, 2, bins)
        Up and down.
    amount : ndarray of float64, same shape
        Packets before rounding, at most half a packet off: what flows are ranked by.
    size : ndarray of float64, same shape
        IP bytes a packet, as drawn; 0 where there is none.
    """

    packets: np.ndarray
    amount: np.ndarray
    size: np.ndarray


def nearest_packets(scaled: np.ndarray, scale: LogScale, smallest: np.ndarray, largest: np.ndarray) -> Drawn:
    """The whole packets that, with bytes they can hold, lie nearest to drawn numbers.

    Both say how much a bin holds. Bytes alone would make two packets of 60 bytes a bin that a
    little more than one full packet was drawn for; packets alone would lose a large one that was
    drawn a little too small. Distance is measured on the scale that the model learnt.

    Parameters
    ----------
    scaled : ndarray of float, shape (flows, 4, bins)
        up_bytes, down_bytes, up_packets, down_packets, as `LogScale.scale` gives.
    scale : LogScale
    smallest, largest : ndarray of float, shape (flows, 2) or (2,)
        IP bytes of a packet, up and down.
    """
    share = np.clip((np.asarray(scaled, np.float64) - IDLE) / (1 - IDLE), 0.0, 1.0)
    top = np.log1p(scale.top)[:, None]
    drawn = np.expm1(share * top)
    volume, count = drawn[:, :2], drawn[:, 2:]
    low, high = (np.asarray(each, np.float64)[..., None] for each in (smallest, largest))
    packets, least = np.ones(count.shape), np.full(count.shape, np.inf)
    for candidate in (np.floor(count), np.floor(count) + 1, np.ceil(volume / high), np.floor(volume / low)):
        candidate = np.maximum(candidate, 1)
        bytes_ = np.clip(volume, low * candidate, high * candidate)
        cost = np.square(np.log1p(candidate) / top[2:] - share[:, 2:])
        cost += np.square(np.log1p(bytes_) / top[:2] - share[:, :2])
        better = cost < least
        packets = np.where(better, candidate, packets)
        least = np.where(better, cost, least)
    gain = np.square(share[:, :2]) + np.square(share[:, 2:]) - least  # over an idle bin
    busy = gain > 0
    # bin 0 begins with the flow's first packet: where neither direction has one, it is the likelier one's
    first = np.where(busy[:, :, 0].any(1), -1, gain[:, :, 0].argmax(1))
    busy[:, :, 0] |= first[:, None] == np.arange(2)
    packets = np.where(busy, packets, 0)
    amount = np.where(busy, np.clip(count, packets - 0.5, packets + 0.5), 0.0)
    size = np.where(busy, volume / np.maximum(packets, 1), 0.0)
    return Drawn(packets.astype(np.int64), amount, size)


def add_up(values: np.ndarray, total: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Integers between `low` and `high` that add up to `total`, near to `values`.

    Large drawn numbers are wrong by a factor and small ones not at all: so large bins move in
    proportion to what they hold, small ones in proportion to its square.

    Parameters
    ----------
    values, low, high : ndarray of float, shape (rows, bins)
    total : ndarray of float, shape (rows,)
        What cannot be reached within the bounds is met as nearly as they allow.

    Returns
    -------
    ndarray of int64, shape (rows, bins)
    """
    total = np.clip(np.rint(total), low.sum(1), high.sum(1))
    out = np.clip(values, low, high)
    for _ in range(_PASSES):
        missing = (total - out.sum(1))[:, None]
        room = np.where(missing > 0, high - out, out - low) > 1e-9
        held = np.maximum(out, 1e-3)
        weight = np.where(room, np.square(held) / (1 + held / _EXACT), 0.0)
        whole = weight.sum(1, keepdims=True)
        out = np.clip(out + missing * weight / np.maximum(whole, 1e-9), low, high)
    floor = np.floor(out + 1e-9)
    remainder = np.where(floor + 1 <= high, out - floor, -1.0)
    order = np.argsort(np.argsort(-remainder, axis=1, kind="stable"), axis=1, kind="stable")
    needed = np.rint(total - floor.sum(1))[:, None]
    return (floor + ((order < needed) & (remainder >= 0))).astype(np.int64)


def keep_strongest(amount: np.ndarray, total: np.ndarray) -> np.ndarray:
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
