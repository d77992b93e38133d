"""What flows of a class add up to: drawn totals brought to the real distributions.

A model draws the logarithm of each bin with a small error. In a sum of many bins these errors do not cancel,
so totals, by which classifiers tell Web pages and voice commands apart, come out blurred. They are put right by
monotone maps, one a class and quantity: the drawn value of rank r becomes the real value of rank r, as
is done to carry the colours of one picture over to another. Ranks are those among flows drawn once,
after training; so each flow is mapped by itself, whatever is drawn beside it. What bin holds what, and
which flow is large, stays the model's.

Maps of one quantity each bring every total to its distribution, and lose what hangs together: which bytes go
with which packets. So there is one of all four at once, too: drawn flows are paired with real ones, each as often,
so that their ranks differ least in all (optimal transport, of which monotone maps are the case of one quantity),
and a flow takes the totals that the drawn flow nearest to it was paired with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

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

#: Columns of pairs: the four mapped quantities of a drawn flow; packets up and down, bytes up and down of a real one.
_OURS, _THEIRS = slice(0, 4), slice(4, 8)
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
    pairs : ndarray of float32, shape (classes, pairs, 8), optional
        Drawn flows (packets in all, share up, bytes up and down) and the totals (packets and bytes, up and down) of the
        real ones they are paired with; NaN: no more of this class. A class that has some needs no maps.
    """

    source: np.ndarray
    target: np.ndarray
    kind: np.ndarray
    pairs: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0, 8), np.float32))

    @classmethod
    def none(cls, classes: int) -> Marginals:
        """Maps that change nothing."""
        shape = (classes, _MAPS, POINTS)
        source, target = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        return cls(source, target, np.zeros((classes, _MAPS), np.uint8))

    @classmethod
    def paired(
        cls, drawn: Drawn, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray, limits: np.ndarray
    ) -> Marginals:
        """The map of all totals at once; parameters as of `learn`."""
        classes = limits.shape[1]
        pairs = np.full((classes, max(np.bincount(drawn_labels), default=0), 8), np.nan, np.float32)
        for label, mine, real in _classes(classes, drawn, drawn_labels, series, labels):
            ours = _quantities(mine, limits[:, label])
            pairs[label, : len(ours), _OURS] = ours
            pairs[label, : len(ours), _THEIRS] = _pair(ours, real)
        return dataclasses.replace(cls.none(classes), pairs=pairs)

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
        for label, mine, real in _classes(limits.shape[1], drawn, drawn_labels, series, labels):
            found._learn_class(label, mine, real, limits[:, label])
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
        met = self._met(label, drawn, limits)
        packets = self._packets(label, drawn) if met is None else _with_totals(drawn, met[:, :2])
        volume = _volume(drawn, packets, limits)
        low, high = (each[None, :, None] * packets for each in limits)
        single = packets <= SINGLE
        for way in (0, 1):
            if met is not None:
                total = met[:, 2 + way]
            elif self.kind[label, _BYTES + way] == _NONE:
                continue
            else:
                total = self._map(label, _BYTES + way, volume[:, way].sum(1))
            for stays in ((single | frequent)[:, way], single[:, way]):
                least = np.where(stays, volume[:, way], low[:, way])
                most = np.where(stays, volume[:, way], high[:, way])
                volume[:, way] = add_up(volume[:, way], total, least, most)
        return np.concatenate([volume, packets], axis=1).astype(np.int64)

    def _met(self, label: int, drawn: Drawn, limits: np.ndarray) -> np.ndarray | None:
        """Totals by the pairs of a class, (flows, 4): packets up and down, bytes up and down; None: it has none."""
        if not self.pairs.size or np.isnan(self.pairs[label, 0, 0]):
            return None
        from scipy.spatial.distance import cdist

        pairs = self.pairs[label]
        pairs = pairs[~np.isnan(pairs[:, 0])].astype(np.float64)
        ours, totals = pairs[:, _OURS], pairs[:, _THEIRS]
        distance = cdist(_ranks(_quantities(drawn, limits), ours), _ranks(ours, ours))
        found: np.ndarray = totals[distance.argmin(axis=1)]
        return found

    def _packets(self, label: int, drawn: Drawn) -> np.ndarray:
        """Packets a bin, with the totals that the maps say."""
        if self.kind[label, _TOTALS] == _NONE:
            return drawn.packets
        parts = _summed(drawn.amount.sum(2))
        whole = np.rint(self._map(label, _TOTALS, parts[:, 0]))
        up = np.rint(whole * self._map(label, _TOTALS + 1, parts[:, 1]))
        return _with_totals(drawn, np.stack([up, whole - up], axis=1))

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


def _classes(
    classes: int, drawn: Drawn, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[int, Drawn, np.ndarray]]:
    """Classes of enough flows: number, drawn flows, real series."""
    for label in range(classes):
        mine, real = np.flatnonzero(drawn_labels == label), series[labels == label]
        if min(len(mine), len(real)) >= LEAST:
            yield label, _rows(drawn, mine), real


def _rows(drawn: Drawn, rows: np.ndarray) -> Drawn:
    return Drawn(drawn.packets[rows], drawn.amount[rows], drawn.size[rows])


def _volume(drawn: Drawn, packets: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Bytes a bin, float64 whole numbers, of packets as large as drawn."""
    low, high = (each[None, :, None] * packets for each in limits)
    volume: np.ndarray = np.clip(np.rint(drawn.size * packets), np.ceil(low), np.floor(high))
    return volume


def _with_totals(drawn: Drawn, total: np.ndarray) -> np.ndarray:
    """Packets a bin, int64 (flows, 2, bins), that add up to totals (flows, 2)."""
    out = np.zeros(drawn.packets.shape, np.int64)
    for way in (0, 1):
        busy = keep_strongest(drawn.amount[:, way], total[:, way])
        ceiling = np.where(busy, 2.0**40, 0.0)
        out[:, way] = add_up(drawn.amount[:, way], total[:, way], busy.astype(float), ceiling)
    return out


def _quantities(drawn: Drawn, limits: np.ndarray) -> np.ndarray:
    """What is mapped, as drawn, shape (flows, 4): packets in all, share up, bytes up and down."""
    return np.concatenate([_summed(drawn.amount.sum(2)), _volume(drawn, drawn.packets, limits).sum(2)], axis=1)


def _ranks(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1, column by column; of equal values the middle one."""
    found = np.empty(values.shape)
    for place in range(values.shape[1]):
        ordered = np.sort(among[:, place])
        sides = [np.searchsorted(ordered, values[:, place], side) for side in ("left", "right")]
        found[:, place] = (sides[0] + sides[1]) / (2 * len(ordered))
    return found


def _pair(ours: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Totals (flows, 4) of the real flow that each drawn one is paired with: all real ones equally often."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    totals = real.sum(2)[:, [2, 3, 0, 1]].astype(float)
    theirs = _ranks(together := np.concatenate([_summed(totals[:, :2]), totals[:, 2:]], axis=1), together)
    rows = np.resize(np.arange(len(real)), len(ours))
    if len(real) > len(ours):
        rows = np.linspace(0, len(real) - 1, len(ours)).round().astype(int)
    one, other = linear_sum_assignment(cdist(_ranks(ours, ours), theirs[rows], "sqeuclidean"))
    found: np.ndarray = totals[rows[other[np.argsort(one)]]]
    return found


def _summed(pair: np.ndarray) -> np.ndarray:
    """(up, down) into (in all, share up)."""
    whole = pair.sum(1)
    return np.stack([whole, pair[:, 0] / np.maximum(whole, 1e-9)], axis=1)


def _repeat(values: np.ndarray) -> bool:
    """Whether these are few values that occur again and again."""
    return 2 * len(np.unique(values)) <= len(values)
