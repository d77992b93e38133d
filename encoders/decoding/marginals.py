"""What flows of a class add up to, each total by itself: drawn totals brought to the real distributions.

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

from netgen.encoders.decoding.rounding import RoundedBins
from netgen.encoders.decoding.totals import (
    ALIKE,
    POINTS,
    RANKS,
    by_class,
    bytes_of,
    of_rank,
    summed,
    totals_of,
    with_totals,
)

_NONE, _STEPS, _SMOOTH = 0, 1, 2
_TOTALS, _BYTES = 0, 2
_MAPS = 4


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
        cls, drawn: RoundedBins, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray, limits: np.ndarray
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
        for label, mine, real in by_class(limits.shape[1], drawn, drawn_labels, series, labels):
            found._learn_class(label, mine, totals_of(real), limits[:, label])
        return found

    def _learn_class(self, label: int, drawn: RoundedBins, real: np.ndarray, limits: np.ndarray) -> None:
        # up and down hang together, and captures may be cut after so many packets in all: not each by itself
        ours, theirs = summed(drawn.count_float.sum(2)), summed(real[:, :2])
        for place in (0, 1):
            self._set(label, _TOTALS + place, ours[:, place], theirs[:, place])
        packets = self._packets(label, drawn)
        volume = bytes_of(drawn.sizes(packets, limits), packets, limits)
        for way in (0, 1):
            self._set(label, _BYTES + way, volume[:, way].sum(1), real[:, 2 + way])

    def group(self, label: int) -> int:
        """Flows of a class whose totals depend on each other: each on itself alone."""
        return 1

    def weights(self, labels: np.ndarray) -> np.ndarray:
        """How much of a change each bin bears: all alike."""
        return ALIKE

    def totals(
        self, label: int, drawn: RoundedBins, limits: np.ndarray, numbers: np.ndarray, *, seed: int
    ) -> np.ndarray | None:
        """What drawn flows of a class shall add up to: see `netgen.encoders.decoding.decoder.Totals`."""
        if self.kind[label, _TOTALS] == _NONE:
            return None
        packets = self._packets(label, drawn)
        volume = bytes_of(drawn.sizes(packets, limits), packets, limits).sum(2)
        for way in (0, 1):
            volume[:, way] = self._map(label, _BYTES + way, volume[:, way])
        return np.concatenate([packets.sum(2), volume], axis=1)

    def _packets(self, label: int, drawn: RoundedBins) -> np.ndarray:
        """Packets a bin, with the totals that the maps say."""
        parts = summed(drawn.count_float.sum(2))
        whole = np.rint(self._map(label, _TOTALS, parts[:, 0]))
        up = np.rint(whole * self._map(label, _TOTALS + 1, parts[:, 1]))
        return with_totals(drawn, np.stack([up, whole - up], axis=1), ALIKE[:, 2:])

    def _set(self, label: int, place: int, drawn: np.ndarray, real: np.ndarray) -> None:
        steps = _repeat(real)
        self.kind[label, place] = _STEPS if steps else _SMOOTH
        self.source[label, place] = np.quantile(drawn, RANKS)
        self.target[label, place] = np.quantile(real, RANKS, method="inverted_cdf" if steps else "hazen")

    def _map(self, label: int, place: int, values: np.ndarray) -> np.ndarray:
        kind, source, target = (each[label, place] for each in (self.kind, self.source, self.target))
        if kind == _NONE:
            return values
        if kind == _STEPS:
            return of_rank(values, source, target).astype(np.float64)
        out: np.ndarray = np.interp(np.interp(values, source, RANKS), RANKS, target)
        return out


def _repeat(values: np.ndarray) -> bool:
    """Whether these are few values that occur again and again."""
    return 2 * len(np.unique(values)) <= len(values)
