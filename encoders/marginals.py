"""What flows of a class add up to: drawn totals brought to the real distributions.

A model draws the logarithm of each bin with a small error. In a sum of many bins these errors do not cancel,
so totals, by which classifiers tell Web pages and voice commands apart, come out blurred. They are put right by
monotone maps, one a class and quantity: the drawn value of rank r becomes the real value of rank r, as
is done to carry the colours of one picture over to another. Ranks are those among flows drawn once,
after training; so each flow is mapped by itself, whatever is drawn beside it. What bin holds what, and
which flow is large, stays the model's.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from encoders.integers import Drawn, add_up, keep_strongest, nearest_packets
from encoders.packetscale import PacketScale

#: Points of a distribution that are kept.
POINTS = 100

#: Fewer real flows say nothing of a distribution.
LEAST = 3

#: In bins of at most so many packets the bytes are those of single packets, and stay.
SINGLE = 3

_NONE, _STEPS, _SMOOTH = 0, 1, 2
_TOTALS, _BYTES = 0, 2
_MAPS = 4
_RANKS = (np.arange(POINTS) + 0.5) / POINTS


@dataclasses.dataclass(frozen=True)
class Marginals:
    """Monotone maps from drawn to real quantities, for each class.

    Parameters
    ----------
    source, target : ndarray of float32, shape (classes, maps, POINTS)
        Quantiles of drawn and of real values. Maps: packets in all, the share of them that goes up, bytes up
        and down.
    kind : ndarray of uint8, shape (classes, maps)
        0: no map; 1: values that occurred, and no others; 2: values between them too.
    """

    source: np.ndarray
    target: np.ndarray
    kind: np.ndarray

    @classmethod
    def none(cls, classes: int) -> Marginals:
        """Maps that change nothing."""
        shape = (classes, _MAPS, POINTS)
        source, target = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        return cls(source, target, np.zeros((classes, _MAPS), np.uint8))

    @classmethod
    def learn(
        cls, drawn: Drawn, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray, limits: np.ndarray
    ) -> Marginals:
        """Maps from flows drawn by a model to the real ones.

        Parameters
        ----------
        drawn : Drawn
            Of flows drawn by the model.
        drawn_labels, labels : ndarray of int, shape (flows,)
            Class numbers.
        series : ndarray of int64, shape (flows, 4, bins)
            Real series.
        limits : ndarray of float, shape (2, classes, 2)
            Smallest and largest packet of each class, up and down.
        """
        found = cls.none(limits.shape[1])
        for label in range(limits.shape[1]):
            mine, real = np.flatnonzero(drawn_labels == label), series[labels == label]
            if min(len(mine), len(real)) >= LEAST:
                found._learn_class(label, _rows(drawn, mine), real, limits[:, label])
        return found

    def _learn_class(self, label: int, drawn: Drawn, real: np.ndarray, limits: np.ndarray) -> None:
        # up and down hang together, and captures may be cut after so many packets in all: not each by itself
        ours, theirs = _summed(drawn.amount.sum(2)), _summed(real[:, 2:].sum(2).astype(float))
        for place in (0, 1):
            self._set(label, _TOTALS + place, ours[:, place], theirs[:, place])
        volume = _volume(drawn, self._packets(label, drawn), limits)
        for way in (0, 1):
            self._set(label, _BYTES + way, volume[:, way].sum(1), real[:, way].sum(1))

    def apply(self, label: int, drawn: Drawn, limits: np.ndarray, frequent: np.ndarray) -> np.ndarray:
        """Series of one class, int64 (flows, 4, bins).

        Parameters
        ----------
        limits : ndarray of float, shape (2, 2)
            Smallest and largest packet of the class, up and down.
        frequent : ndarray of bool, shape (flows, 2, bins)
            Sizes that real bins have again and again: they stay, if totals can be met without them.
        """
        packets = self._packets(label, drawn)
        volume = _volume(drawn, packets, limits)
        low, high = (each[None, :, None] * packets for each in limits)
        single = packets <= SINGLE
        for way in (0, 1):
            if self.kind[label, _BYTES + way] == _NONE:
                continue
            total = self._map(label, _BYTES + way, volume[:, way].sum(1))
            for stays in ((single | frequent)[:, way], single[:, way]):
                least = np.where(stays, volume[:, way], low[:, way])
                most = np.where(stays, volume[:, way], high[:, way])
                volume[:, way] = add_up(volume[:, way], total, least, most)
        return np.concatenate([volume, packets], axis=1).astype(np.int64)

    def _packets(self, label: int, drawn: Drawn) -> np.ndarray:
        """Packets a bin, with the totals that the maps say."""
        if self.kind[label, _TOTALS] == _NONE:
            return drawn.packets
        parts = _summed(drawn.amount.sum(2))
        whole = np.rint(self._map(label, _TOTALS, parts[:, 0]))
        up = np.rint(whole * self._map(label, _TOTALS + 1, parts[:, 1]))
        total = np.stack([up, whole - up], axis=1)
        out = np.zeros(drawn.packets.shape, np.int64)
        for way in (0, 1):
            busy = keep_strongest(drawn.amount[:, way], total[:, way])
            ceiling = np.where(busy, 2.0**40, 0.0)
            out[:, way] = add_up(drawn.amount[:, way], total[:, way], busy.astype(float), ceiling)
        return out

    def _set(self, label: int, place: int, drawn: np.ndarray, real: np.ndarray) -> None:
        if min(len(drawn), len(real)) < LEAST:
            return
        steps = _repeat(real)
        self.kind[label, place] = _STEPS if steps else _SMOOTH
        self.source[label, place] = np.quantile(drawn, _RANKS)
        self.target[label, place] = np.quantile(real, _RANKS, method="inverted_cdf" if steps else "hazen")

    def _map(self, label: int, place: int, values: np.ndarray) -> np.ndarray:
        kind, source, target = (each[label, place] for each in (self.kind, self.source, self.target))
        if kind == _NONE:
            return values
        rank = np.interp(values, source, _RANKS)
        if kind == _STEPS:
            return target[np.minimum((rank * POINTS).astype(int), POINTS - 1)].astype(np.float64)
        out: np.ndarray = np.interp(rank, _RANKS, target)
        return out


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Scaled series of a model into integers.

    Parameters
    ----------
    scale : PacketScale
    limits : ndarray of float, shape (2, classes, 2)
        Smallest and largest packet of each class, up and down.
    marginals : Marginals
    """

    scale: PacketScale
    limits: np.ndarray
    marginals: Marginals

    def drawn(self, scaled: np.ndarray, labels: np.ndarray) -> Drawn:
        """Packets nearest to scaled series (flows, 4, bins) of these classes."""
        return nearest_packets(scaled, self.scale, self.limits[0][labels], self.limits[1][labels])

    def decode(self, scaled: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Series that packets can make, int64 (flows, 4, bins)."""
        drawn = self.drawn(scaled, labels)
        often = self.scale.frequent(drawn.size)
        out = np.zeros(scaled.shape, np.int64)
        for label in np.unique(labels):
            mine = np.flatnonzero(labels == label)
            out[mine] = self.marginals.apply(int(label), _rows(drawn, mine), self.limits[:, label], often[mine])
        return out


def _rows(drawn: Drawn, rows: np.ndarray) -> Drawn:
    return Drawn(drawn.packets[rows], drawn.amount[rows], drawn.size[rows])


def _volume(drawn: Drawn, packets: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Bytes a bin, float64 whole numbers, of packets as large as drawn."""
    low, high = (each[None, :, None] * packets for each in limits)
    volume: np.ndarray = np.clip(np.rint(drawn.size * packets), np.ceil(low), np.floor(high))
    return volume


def _summed(pair: np.ndarray) -> np.ndarray:
    """(up, down) into (in all, share up)."""
    whole = pair.sum(1)
    return np.stack([whole, pair[:, 0] / np.maximum(whole, 1e-9)], axis=1)


def _repeat(values: np.ndarray) -> bool:
    """Whether these are few values that occur again and again."""
    return 2 * len(np.unique(values)) <= len(values)
