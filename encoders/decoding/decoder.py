"""Scaled series of a model into integers that packets can make, and that add up as real flows do."""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol

import numpy as np

from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.recurring import Recurring
from netgen.encoders.decoding.repeats import Part, Repeats
from netgen.encoders.decoding.rounding import RoundedBins, round_to_packets
from netgen.encoders.decoding.totals import brought_to


class Totals(Protocol):
    """What drawn flows shall add up to: `Marginals`, or `Shares`."""

    def group(self, label: int) -> int:
        """Flows of a class that are decoded together, the first of them a multiple of so many; 1: each by itself."""

    def bears(self, labels: np.ndarray) -> np.ndarray:
        """How much of a change each bin of flows of these classes bears, as of `brought_to`."""

    def totals(
        self, label: int, drawn: RoundedBins, limits: np.ndarray, numbers: np.ndarray, *, seed: int
    ) -> np.ndarray | None:
        """What drawn flows of a class shall add up to.

        Parameters
        ----------
        label : int
        drawn : Drawn
        limits : ndarray of float, shape (2, 2)
            Smallest and largest packet of the class, up and down.
        numbers : ndarray of int, shape (flows,)
            Their numbers in the class, in order.
        seed : int
            Of all that is drawn.

        Returns
        -------
        ndarray of float, shape (flows, 4), or None
            Packets up and down, bytes up and down; None, or NaN: as drawn.
        """


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Scaled series of a model into integers.

    Parameters
    ----------
    scale : PacketScale
    limits : ndarray of float, shape (2, classes, 2)
        Smallest and largest packet of each class, up and down.
    totals : Totals
    repeats : Repeats
    recurring : Recurring
    """

    scale: BinScaler
    limits: np.ndarray
    totals: Totals
    repeats: Repeats = dataclasses.field(default_factory=Repeats.none)
    recurring: Recurring = dataclasses.field(default_factory=Recurring.nothing)

    def group(self, label: int) -> int:
        """Flows of a class that are to be decoded together."""
        return self.totals.group(label)

    def decode(
        self, scaled: np.ndarray, labels: np.ndarray, numbers: np.ndarray | None = None, *, seed: int = 0
    ) -> np.ndarray:
        """Series that packets can make, int64 (flows, 4, bins).

        Those of each class are its flows of these numbers, in order, or the first ones, drawn with `seed`.
        """
        numbers = self.numbers(labels) if numbers is None else numbers
        which = self.recurring(scaled, labels, numbers, self.scale, seed=seed)
        out, rest = self.recurring.series(which, scaled.shape[2]), np.flatnonzero(which < 0)
        labels, numbers = labels[rest], numbers[rest]
        drawn, totals = self.drawn(scaled[rest], labels, numbers, seed=seed), np.full((len(rest), 4), np.nan)
        for label in np.unique(labels).tolist():
            mine = np.flatnonzero(labels == label)
            found = self.totals.totals(label, drawn.take(mine), self.limits[:, label], numbers[mine], seed=seed)
            if found is not None:
                totals[mine] = found
        stays = np.isnan(totals[:, 0])
        for rows, wanted in ((np.flatnonzero(stays), None), (np.flatnonzero(~stays), totals[~stays])):
            limits, bears = self.limits[:, labels[rows]], self.totals.bears(labels[rows])
            out[rest[rows]] = brought_to(wanted, drawn.take(rows), limits, bears)
        return out

    def drawn(
        self, scaled: np.ndarray, labels: np.ndarray, numbers: np.ndarray | None = None, *, seed: int = 0
    ) -> RoundedBins:
        """Packets of scaled series (flows, 4, bins), none of which recurs, of these classes and numbers in them."""
        numbers = self.numbers(labels) if numbers is None else numbers
        cleaned = self.repeats(scaled, labels, numbers, self._scaled_repeats, self.scale, seed=seed)
        return round_to_packets(cleaned, self.scale, self.limits[0][labels], self.limits[1][labels])

    @staticmethod
    def numbers(labels: np.ndarray) -> np.ndarray:
        """Numbers of flows in their classes, int64 (flows,), from 0 on."""
        found = np.zeros(len(labels), np.int64)
        for label in np.unique(labels):
            found[labels == label] = np.arange(np.count_nonzero(labels == label))
        return found

    @functools.cached_property
    def _scaled_repeats(self) -> dict[tuple[int, int, int], Part]:
        return self.repeats.on(self.scale)
