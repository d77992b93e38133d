"""Scaled series of a model into integers that packets can make, and that add up as real flows do."""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol

import numpy as np

from encoders.integers import Drawn, nearest_packets
from encoders.packetscale import PacketScale
from encoders.repeats import Part, Repeats
from encoders.totals import brought_to


class Totals(Protocol):
    """What drawn flows shall add up to: `Marginals`, or `Shares`."""

    def group(self, label: int) -> int:
        """Flows of a class that are decoded together, the first of them a multiple of so many; 1: each by itself."""

    def bears(self, label: int) -> np.ndarray:
        """How much of a change each bin of a class bears, as of `brought_to`."""

    def totals(self, label: int, drawn: Drawn, limits: np.ndarray, *, first: int, seed: int) -> np.ndarray | None:
        """What drawn flows of a class shall add up to.

        Parameters
        ----------
        label : int
        drawn : Drawn
        limits : ndarray of float, shape (2, 2)
            Smallest and largest packet of the class, up and down.
        first : int
            The number, in its class, of the first of these flows.
        seed : int
            Of all that is drawn.

        Returns
        -------
        ndarray of float, shape (flows, 4), or None
            Packets up and down, bytes up and down; None: as drawn.
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
    """

    scale: PacketScale
    limits: np.ndarray
    totals: Totals
    repeats: Repeats = dataclasses.field(default_factory=Repeats.none)

    def group(self, label: int) -> int:
        """Flows of a class that are to be decoded together."""
        return self.totals.group(label)

    def drawn(self, scaled: np.ndarray, labels: np.ndarray, *, first: int = 0, seed: int = 0) -> Drawn:
        """Packets of scaled series (flows, 4, bins) of these classes; `first` and `seed` as of `decode`."""
        numbers = np.zeros(len(labels), np.int64)
        for label in np.unique(labels):
            numbers[labels == label] = first + np.arange(np.count_nonzero(labels == label))
        cleaned, again = self.repeats(scaled, labels, numbers, self._scaled_repeats, self.scale, seed=seed)
        found = nearest_packets(cleaned, self.scale, self.limits[0][labels], self.limits[1][labels])
        return dataclasses.replace(found, again=again)

    @functools.cached_property
    def _scaled_repeats(self) -> dict[tuple[int, int, int], Part]:
        return self.repeats.on(self.scale)

    def decode(self, scaled: np.ndarray, labels: np.ndarray, *, first: int = 0, seed: int = 0) -> np.ndarray:
        """Series that packets can make, int64 (flows, 4, bins).

        Those of each class are its flows number `first`, ``first + 1`` and so on, drawn with `seed`.
        """
        drawn = self.drawn(scaled, labels, first=first, seed=seed)
        out = np.zeros(scaled.shape, np.int64)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            mine, limits, bears = drawn.take(rows), self.limits[:, label], self.totals.bears(int(label))
            totals = self.totals.totals(int(label), mine, limits, first=first, seed=seed)
            if totals is not None:
                stays = mine.settled()
                out[rows[stays]] = brought_to(None, mine.take(stays), limits, bears)
                rows, mine, totals = rows[~stays], mine.take(~stays), totals[~stays]
            out[rows] = brought_to(totals, mine, limits, bears)
        return out
