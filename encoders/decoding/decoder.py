"""Turn scaled series of a model into integers that packets can make, and that add up as real flows do."""

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
    """Totals that samples are adjusted to: `Marginals` or `Shares`."""

    def group(self, label: int) -> int:
        """Return how many flows of a stratum are decoded together; 1: each by itself."""

    def weights(self, labels: np.ndarray) -> np.ndarray:
        """Return the weights with which a correction is spread over bins, as of `brought_to`."""

    def totals(
        self, label: int, rounded: RoundedBins, limits: np.ndarray, numbers: np.ndarray, /, *, seed: int
    ) -> np.ndarray | None:
        """Return the totals of sampled flows of a stratum, float (flows, 4): packets up and down, bytes up and down.

        None or NaN: keep the sample's own. `label` is the stratum, `rounded` the samples, `limits` (2, 2) the smallest
        and largest packet, up and down, and `numbers` (flows,) the increasing indices of the flows in the stratum.
        """


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Turns scaled series of a model into integers."""

    scale: BinScaler
    limits: np.ndarray  # float (2, strata, 2): smallest and largest packet of each stratum, up and down
    totals: Totals
    repeats: Repeats = dataclasses.field(default_factory=Repeats.none)
    recurring: Recurring = dataclasses.field(default_factory=Recurring.nothing)

    def group(self, stratum: int) -> int:
        """Return how many flows of a stratum must be decoded together."""
        return self.totals.group(stratum)

    def decode(
        self, scaled: np.ndarray, strata: np.ndarray, indices: np.ndarray | None = None, *, seed: int = 0
    ) -> np.ndarray:
        """Return series that packets can make, int64 (flows, 4, bins).

        `indices`, increasing in each stratum, say which samples of their strata the flows are; by default the first.
        """
        indices = self.indices(strata) if indices is None else indices
        codebook_index = self.recurring(scaled, strata, indices, self.scale, seed=seed)
        out, rest = self.recurring.series(codebook_index, scaled.shape[2]), np.flatnonzero(codebook_index < 0)
        strata, indices = strata[rest], indices[rest]
        rounded = self.rounded(scaled[rest], strata, indices, seed=seed)
        totals = np.full((len(rest), 4), np.nan)
        for stratum in np.unique(strata).tolist():
            rows = np.flatnonzero(strata == stratum)
            wanted = self.totals.totals(stratum, rounded.take(rows), self.limits[:, stratum], indices[rows], seed=seed)
            if wanted is not None:
                totals[rows] = wanted
        keep = np.isnan(totals[:, 0])
        for rows, wanted in ((np.flatnonzero(keep), None), (np.flatnonzero(~keep), totals[~keep])):
            limits, weights = self.limits[:, strata[rows]], self.totals.weights(strata[rows])
            out[rest[rows]] = brought_to(wanted, rounded.take(rows), limits, weights)
        return out

    def rounded(
        self, scaled: np.ndarray, strata: np.ndarray, indices: np.ndarray | None = None, *, seed: int = 0
    ) -> RoundedBins:
        """Round scaled series (flows, 4, bins) of flows that are not in the codebook of flows."""
        indices = self.indices(strata) if indices is None else indices
        snapped = self.repeats(scaled, strata, indices, self._scaled_repeats, self.scale, seed=seed)
        return round_to_packets(snapped, self.scale, self.limits[0][strata], self.limits[1][strata])

    @staticmethod
    def indices(strata: np.ndarray) -> np.ndarray:
        """Return the index of each flow in its stratum, from 0, int64 (flows,)."""
        out = np.zeros(len(strata), np.int64)
        for stratum in np.unique(strata):
            out[strata == stratum] = np.arange(np.count_nonzero(strata == stratum))
        return out

    @functools.cached_property
    def _scaled_repeats(self) -> dict[tuple[int, int, int], Part]:
        return self.repeats.on(self.scale)
