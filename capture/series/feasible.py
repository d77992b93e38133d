"""The nearest series that packets can make.

Numbers sampled from a model may hold bytes without a packet, or a packet smaller than its header. `feasible`
changes such series as little as possible, and counts the changes.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture.series.spec import BINS, PACKETS

MIN_PACKET = 20  # bytes of an IPv4 header
MAX_PACKET = 1500  # bytes, the MTU of Ethernet


@dataclasses.dataclass(frozen=True)
class PacketLimits:
    """The smallest and largest packet of each class in real flows, in IP bytes; for bins, the mean packet of a bin.

    Shape (classes, 2): up and down. Where all packets of a class have one size (Tor's cells), both are equal.
    """

    smallest: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, series: np.ndarray, classes: np.ndarray, n_classes: int, *, most: int = MAX_PACKET) -> PacketLimits:
        """Find the limits of each class in real series of bins, (flows, 4, bins)."""
        smallest = np.full((n_classes, 2), MIN_PACKET)
        largest = np.full((n_classes, 2), most)
        for index in range(n_classes):
            of_class = series[classes == index]
            for direction in (0, 1):
                total, count = of_class[:, direction], of_class[:, 2 + direction]
                busy = count > 0
                if busy.any():
                    mean = total[busy] / count[busy]
                    # offloaded frames may exceed the MTU, packets on the wire may not
                    smallest[index, direction] = np.clip(np.floor(mean.min()), MIN_PACKET, most)
                    largest[index, direction] = np.clip(np.ceil(mean.max()), MIN_PACKET, most)
        return cls(smallest.astype(np.int64), largest.astype(np.int64))

    def to_json(self) -> dict[str, list[list[int]]]:
        """Return JSON types."""
        return {"smallest": self.smallest.tolist(), "largest": self.largest.tolist()}

    @classmethod
    def from_json(cls, data: dict[str, list[list[int]]]) -> PacketLimits:
        """Read what `to_json` wrote."""
        return cls(np.array(data["smallest"], dtype=np.int64), np.array(data["largest"], dtype=np.int64))


def feasible(
    series: np.ndarray, classes: np.ndarray | None = None, limits: PacketLimits | None = None
) -> tuple[np.ndarray, dict[str, int]]:
    """Find the nearest series of bins, (flows, 4, bins), that packets can make, and count the flows changed, by reason.

    In each bin and direction ``smallest * packets <= bytes <= largest * packets``; bin 0 holds the flow's first packet.
    A feasible series is returned unchanged. `classes` gives each flow's row of `limits`, which are 20 to 1500 bytes a
    packet by default.
    """
    if limits is None or classes is None:
        low = np.full((len(series), 2, 1), MIN_PACKET)
        high = np.full((len(series), 2, 1), MAX_PACKET)
    else:
        low, high = limits.smallest[classes][:, :, None], limits.largest[classes][:, :, None]
    given = np.maximum(np.asarray(series, dtype=np.int64), 0)
    total, count = given[:, :2], given[:, 2:]

    # bytes below the smallest packet are dropped; otherwise there are as many packets as the bytes allow
    busy = total >= low
    fewest, most = -(-total // high), total // low
    packets = np.where(busy, np.clip(count, fewest, np.maximum(most, fewest)), 0)
    volume = np.where(busy, np.clip(total, low * packets, high * packets), 0)
    out = np.concatenate([volume, packets], axis=1)
    changed = {"bytes and packets of a bin made to agree": int((out != series).any((1, 2)).sum())}

    empty = ~out.any((1, 2))
    out[empty, 0, 0] = np.broadcast_to(low, (len(out), 2, 1))[empty, 0, 0]
    out[empty, 2, 0] = 1
    changed["empty flow given one packet"] = int(empty.sum())

    first = out.any(1).argmax(1)
    late = first > 0
    for row in np.flatnonzero(late):  # bin 0 begins with the first packet
        shift = int(first[row])
        out[row, :, :-shift] = out[row, :, shift:].copy()
        out[row, :, -shift:] = 0
    changed["moved to begin in bin 0"] = int(late.sum())
    return out, {reason: number for reason, number in changed.items() if number}


def feasible_packets(
    series: np.ndarray, classes: np.ndarray | None = None, limits: PacketLimits | None = None
) -> tuple[np.ndarray, dict[str, int]]:
    """Find the nearest series of packets, (flows, 2, packets), that a flow can have, as `feasible` does.

    Sizes are within the limits of their class, all packets stand at the beginning, gaps are not negative, and the first
    is 0. A feasible series is returned unchanged.
    """
    given = np.asarray(series, dtype=np.int64)
    # packets after a hole move up, and keep their gaps
    order = np.argsort(given[:, 0] == 0, axis=1, kind="stable")
    out = np.take_along_axis(given, order[:, None], axis=2)
    changed = {"packets moved up into a hole": int((out[:, 0] != given[:, 0]).any(1).sum())}
    size, gap = out[:, 0], out[:, 1]
    down = (size < 0).astype(np.int64)
    if limits is None or classes is None:
        low, high = np.full(size.shape, MIN_PACKET), np.full(size.shape, MAX_PACKET)
    else:
        low, high = (limit[np.asarray(classes)[:, None], down] for limit in (limits.smallest, limits.largest))
    empty = ~(size != 0).any(1)
    sizes = np.where(size == 0, 0, np.clip(np.abs(size), low, high) * np.sign(size))
    changed["packets brought within the sizes of their class"] = int((sizes != size).any(1).sum())
    sizes[empty, 0] = low[empty, 0]
    changed["empty flow given one packet"] = int(empty.sum())
    gaps = np.where(sizes == 0, 0, np.maximum(gap, 0))
    gaps[:, 0] = 0
    changed["gaps where there can be none"] = int((gaps != gap).any(1).sum())
    return np.stack([sizes, gaps], axis=1), {reason: number for reason, number in changed.items() if number}


#: The function for each view.
FEASIBLE = {BINS: feasible, PACKETS: feasible_packets}
