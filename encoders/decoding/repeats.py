"""What bins of a class hold again and again: drawn bins become one of those, as often as real ones are.

A question to a name server is one packet of 61 bytes, its answer one of 77: most flows of a capture are made of such
bins, the same in one flow after the other. A model that draws four numbers a bin, each a little off, hardly makes one
of them. So a drawn bin is taken for a real one seen through some noise. By Bayes' rule it was one of those that several
real flows of its class hold in that part of theirs, each as likely as it is near and frequent; or one that is none of
them, and stays as it is. Before that, each flow is made as busy as the real flow of its rank: of what is rare, as late
bins of short flows are, a model draws too little.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.odds import balanced, picked
from netgen.encoders.decoding.rounding import activity_margin
from netgen.encoders.decoding.totals import LEAST, LEAST_DRAWN, POINTS, RANKS, of_rank
from netgen.encoders.log_scale import IDLE

#: Flows of a class that hold the same in a part of theirs, at least, and how many such bins of a part are kept.
FLOWS, MOST = 2, 64

#: Real flows of a class that are looked at, at most; of more, those that stand evenly among all.
SEEN = 4096

#: How far drawn bins lie from the real ones that they are taken for, on the scale of the model.
BLUR = 0.05

#: Rounds in which odds are brought to what is drawn as often as it is real, and how far all of them may go.
_ROUNDS, _BOUND = 20, float(np.log(8))

#: An idle bin whose gain lies so far below that of a busy one is half as near to being busy.
_NEAR = 0.05

#: Spread of four scaled numbers of bins of which there is nothing to measure it by.
_ANY = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class Repeats:
    """What bins of real flows hold again and again, and how busy real flows are.

    Parameters
    ----------
    drawn, real : ndarray of float32, shape (classes, POINTS)
        Quantiles of how busy drawn flows are, and of how many bins of real ones are busy; NaN: as drawn.
    group : ndarray of int32, shape (groups, 3)
        Of bins that are alike: class, first bin of their part of a flow, and 1: up alone is busy, 2: down, 3: both.
    other : ndarray of float32, shape (groups, 9)
        Of a group's bins that hold what is not repeated: centre and spread of their four scaled numbers, and the
        logarithm of their odds.
    place : ndarray of int32, shape (repeats,)
        The group of each repeated bin.
    holds : ndarray of int64, shape (repeats, 4)
        What it holds: bytes up and down, packets up and down.
    odds : ndarray of float32, shape (repeats,)
        The logarithm of its odds.
    """

    drawn: np.ndarray
    real: np.ndarray
    group: np.ndarray
    other: np.ndarray
    place: np.ndarray
    holds: np.ndarray
    odds: np.ndarray

    @classmethod
    def none(cls) -> Repeats:
        """Nothing is repeated: drawn bins stay as they are."""
        return cls._of(np.zeros((2, 0, POINTS)), [])

    @classmethod
    def _of(cls, busy: np.ndarray, parts: list[tuple[tuple[int, int, int], np.ndarray, Part]]) -> Repeats:
        return cls(
            busy[0].astype(np.float32),
            busy[1].astype(np.float32),
            np.array([key for key, _, _ in parts], np.int32).reshape(-1, 3),
            np.array([part.other for _, _, part in parts], np.float32).reshape(-1, 9),
            np.repeat(np.arange(len(parts), dtype=np.int32), [len(holds) for _, holds, _ in parts]),
            np.concatenate([np.zeros((0, 4), np.int64), *(holds for _, holds, _ in parts)]).astype(np.int64),
            np.concatenate([np.zeros(0), *(part.odds[:-1] for _, _, part in parts)]).astype(np.float32),
        )

    @classmethod
    def learn(
        cls, scaled: np.ndarray, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray, scale: BinScaler,
        limits: np.ndarray,
    ) -> Repeats:  # fmt: skip
        """What real flows hold again and again, and how often drawn ones are to be taken for it.

        Parameters
        ----------
        scaled : ndarray of float, shape (flows, 4, bins)
            Flows drawn by the model.
        drawn_labels, labels : ndarray of int, shape (flows,)
            Class numbers.
        series : ndarray of int64, shape (flows, 4, bins)
            Real series.
        scale : PacketScale
        limits : ndarray of float, shape (2, classes, 2)
            Smallest and largest packet of each class, up and down.
        """
        busy = np.full((2, limits.shape[1], POINTS), np.nan)
        busyness, number = _busyness(_most(activity_margin(scaled, scale))), (series[:, 2:] > 0).any(1).sum(1)
        for label in np.unique(drawn_labels).tolist():
            enough = np.count_nonzero(drawn_labels == label) >= LEAST_DRAWN
            if enough and np.count_nonzero(labels == label) >= LEAST:
                busy[0, label] = np.quantile(busyness[drawn_labels == label], RANKS)
                busy[1, label] = np.quantile(number[labels == label], RANKS, method="inverted_cdf")
        cleaned = cls._of(busy, [])._cleaned(scaled, drawn_labels, scale)
        parts = []
        for label in np.flatnonzero(~np.isnan(busy[0, :, 0])).tolist():
            mine = np.flatnonzero(labels == label)
            real = series[mine[np.linspace(0, len(mine) - 1, min(len(mine), SEEN)).round().astype(np.int64)]]
            points, ours = scale.scale(real), cleaned[drawn_labels == label]
            drawn = dict(_alike(ours))
            for (first, kind), (flow, at) in _alike(points):
                holds, which = _repeated(real[flow, :, at], flow, limits[:, label])
                if len(holds):
                    also, there = drawn.get((first, kind), _NOWHERE)
                    part = Part.of(kind, points[flow, :, at], which, flow, ours[also, :, there])
                    parts.append(((label, first, kind), holds, part))
        return cls._of(busy, parts)

    def __call__(
        self,
        scaled: np.ndarray,
        labels: np.ndarray,
        numbers: np.ndarray,
        parts: dict[tuple[int, int, int], Part],
        scale: BinScaler,
        *,
        seed: int,
    ) -> np.ndarray:
        """Drawn flows, whose bins are what real ones hold where that is likely; float64 (flows, 4, bins), scaled.

        Parameters
        ----------
        scaled : ndarray of float, shape (flows, 4, bins)
        labels, numbers : ndarray of int, shape (flows,)
            Classes of the flows, and their numbers in these.
        parts : dict
            What `on` makes of the scale.
        scale : PacketScale
        seed : int
            Of all that is drawn.
        """
        if not len(self.drawn):
            return scaled
        out = self._cleaned(scaled, labels, scale)
        chance = np.empty((len(out), out.shape[2]))
        for row, label, number in zip(chance, labels.tolist(), numbers.tolist(), strict=True):
            row[:] = np.random.default_rng([seed % 2**64, label, number, 1]).random(len(row))
        for label in np.unique(labels).tolist():
            mine = np.flatnonzero(labels == label)
            for (first, kind), (flow, at) in _alike(out[mine]):
                part = parts.get((label, first, kind))
                if part is not None:
                    rows = mine[flow]
                    which = part.drawn(out[rows, :, at], chance[rows, at])
                    taken = which < len(part.points)
                    out[rows[taken], :, at[taken]] = part.points[which[taken]]
        return out

    def check(self, classes: int, bins: int) -> None:
        """See whether it fits a model of so many classes and bins.

        Raises
        ------
        ValueError
            If it does not.
        """
        groups, repeats = len(self.group), len(self.place)
        shapes = [(classes, POINTS), (classes, POINTS), (groups, 3), (groups, 9), (repeats,), (repeats, 4), (repeats,)]
        kinds = "ffifiif"
        if [(each.shape, each.dtype.kind) for each in vars(self).values()] != list(zip(shapes, kinds, strict=True)):
            raise ValueError("what its bins hold again and again does not fit together")
        known = ~np.isnan(self.real)
        label, first, kind = self.group.T
        busy = self.holds[:, 2:] > 0
        fine = (
            (known == known[:, :1]).all() and (known == ~np.isnan(self.drawn)).all(),
            ((self.real >= 0) & (self.real <= bins))[known].all(),
            np.isfinite(self.drawn[known]).all() and (np.diff(self.drawn)[known[:, 1:]] >= 0).all(),
            ((label >= 0) & (label < classes) & (kind >= 1) & (kind <= 3) & np.isin(first, _firsts(bins))).all(),
            np.array_equal(np.unique(self.place), np.arange(groups)) and (np.diff(self.place) >= 0).all(),
            np.isfinite(self.other).all() and np.isfinite(self.odds).all() and (self.other[:, 4:8] > 0).all(),
        )
        # only then there is a group for each
        if not all(fine) or not ((busy[:, 0] + 2 * busy[:, 1] == kind[self.place]).all() and (self.holds >= 0).all()):
            raise ValueError("what its bins hold again and again cannot be")

    def _cleaned(self, scaled: np.ndarray, labels: np.ndarray, scale: BinScaler) -> np.ndarray:
        """Scaled flows, as busy as real ones are; each direction of a bin is idle or has a packet."""
        gain = activity_margin(scaled, scale)
        most = _most(gain)
        order = np.argsort(np.argsort(-most, axis=1, kind="stable"), axis=1, kind="stable")
        number, busyness = (most > 0).sum(1), _busyness(most)
        for label in np.unique(labels).tolist():
            if not np.isnan(self.real[label, 0]):
                mine = labels == label
                number[mine] = of_rank(busyness[mine], self.drawn[label], self.real[label])
        # where neither direction is busy by itself, the likelier one is
        busy = (order < number[:, None])[:, None] & ((gain > 0) | (gain == gain.max(1, keepdims=True)))
        out = np.clip(np.asarray(scaled, np.float64), IDLE, 1.0)
        one = scale.combine(np.zeros(scaled.shape[1:])[:2], scale.count_forward(np.ones(scaled.shape[1:])[:2]))
        busy, already = (np.concatenate([each, each], axis=1) for each in (busy, gain > 0))
        return np.where(busy, np.where(already, out, np.maximum(out, one)), IDLE)

    def on(self, scale: BinScaler) -> dict[tuple[int, int, int], Part]:
        """Repeated bins on a scale, by class, first bin of their part and kind."""
        if not len(self.group):
            return {}
        series = np.zeros((len(self.holds), 4, self.group[:, 1].max(initial=0) + 1), np.int64)
        series[np.arange(len(series)), :, self.group[self.place, 1]] = self.holds
        points = scale.scale(series)[np.arange(len(series)), :, self.group[self.place, 1]]
        found = {}
        starts = np.searchsorted(self.place, np.arange(1, len(self.group)))
        for number, rows in enumerate(np.split(np.arange(len(points)), starts)):
            label, first, kind = self.group[number].tolist()
            centre, spread, odds = np.split(self.other[number].astype(np.float64), (4, 8))
            found[label, first, kind] = Part(kind, points[rows], np.append(self.odds[rows], odds), centre, spread)
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Repeated bins of a class, part of a flow and kind.

    Parameters
    ----------
    kind : int
        Which directions are busy: see `Repeats`.
    points : ndarray of float64, shape (repeats, 4)
        Scaled.
    odds : ndarray of float64, shape (repeats + 1,)
        The logarithms of their odds, and of those of what is not repeated.
    centre, spread : ndarray of float64, shape (4,)
        Of what is not repeated.
    """

    kind: int
    points: np.ndarray
    odds: np.ndarray
    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, kind: int, real: np.ndarray, which: np.ndarray, flow: np.ndarray, drawn: np.ndarray) -> Part:
        """Of scaled real bins, (bins, 4); which repeat each is, -1: none; whose flow's; and bins that were drawn."""
        own = which < 0
        count = np.append(np.bincount(which[~own]), np.count_nonzero(own))
        # of a few flows' own bins nothing is kept
        rest, least = (real[own], 2 * BLUR) if len(np.unique(flow[own])) >= LEAST else (real[~own], _ANY)
        centre, spread = rest.mean(0), np.maximum(rest.std(0), least)
        points = real[~own][np.unique(which[~own], return_index=True)[1]]
        found = cls(kind, points, np.zeros(len(count)), centre, spread)
        odds = balanced(found._likelihood(drawn), count, rounds=_ROUNDS, bound=_BOUND)
        return dataclasses.replace(found, odds=odds)

    def drawn(self, bins: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Which repeat scaled bins (bins, 4) are taken for, by a number from 0 to 1 for each; `repeats`: none."""
        return picked(self._likelihood(bins) + self.odds, chance)

    def _likelihood(self, bins: np.ndarray) -> np.ndarray:
        """Logarithm of how likely each repeat looks so, and what is none; (bins, repeats + 1)."""
        used = _USED[self.kind]  # what is idle is so in all
        bins, points, centre, spread = (each[..., used] for each in (bins, self.points, self.centre, self.spread))
        apart = np.square(bins[:, None] - points).sum(2) / BLUR**2 / 2 + len(used) * np.log(BLUR)
        none = (np.square((bins - centre) / spread) / 2 + np.log(spread)).sum(1)
        return -np.concatenate([apart, none[:, None]], axis=1)

    @property
    def other(self) -> np.ndarray:
        """What is said of bins that hold what is not repeated: see `Repeats`."""
        return np.concatenate([self.centre, self.spread, self.odds[-1:]])


#: Sizes and packets of the directions that are busy, by kind.
_USED = {1: [0, 2], 2: [1, 3], 3: [0, 1, 2, 3]}

_NOWHERE = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def _most(gain: np.ndarray) -> np.ndarray:
    """The gain of the busier direction of each bin; the first holds a packet whatever it is."""
    most: np.ndarray = gain.max(1)
    most[:, 0] = np.inf
    return most


def _busyness(most: np.ndarray) -> np.ndarray:
    """Busy bins of flows, and by how near the next one is to being busy, or the last to idle; float64 (flows,)."""
    number = (most > 0).sum(1)
    nearest = np.where(most > 0, -np.inf, most).max(1)
    found: np.ndarray = number + 1 / (1 - nearest / _NEAR)
    weakest = most.min(1)
    return np.where(number == most.shape[1], number + 1 - 1 / (1 + np.maximum(weakest, 0) / _NEAR), found)


def _alike(scaled: np.ndarray) -> Iterator[tuple[tuple[int, int], tuple[np.ndarray, np.ndarray]]]:
    """Busy bins by the first bin of their part of a flow, and by which directions are busy: flows and bins.

    Parts are octaves: bins 0, 1, 2 and 3, 4 to 7 and so on.
    """
    busy = scaled[:, 2:] > IDLE
    kind = busy[:, 0] + 2 * busy[:, 1]
    flow, at = np.nonzero(kind)
    firsts = _firsts(scaled.shape[2])
    number = 4 * firsts[np.searchsorted(firsts, at, "right") - 1] + kind[flow, at]
    for each in np.unique(number).tolist():
        rows = number == each
        yield (each // 4, each % 4), (flow[rows], at[rows])


def _firsts(bins: int) -> np.ndarray:
    """Where the parts of a flow begin."""
    return np.array([0, *(1 << power for power in range((bins - 1).bit_length()))])


def _repeated(bins: np.ndarray, flow: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What several flows hold and a flow can be given, (repeats, 4), the most frequent first; and which each bin is."""
    holds, which, count = np.unique(bins, axis=0, return_inverse=True, return_counts=True)
    which = which.ravel()
    pairs = np.unique(np.stack([which, flow], axis=1), axis=0)
    several = np.bincount(pairs[:, 0], minlength=len(holds)) >= FLOWS
    several &= ((holds[:, :2] >= limits[0] * holds[:, 2:]) & (holds[:, :2] <= limits[1] * holds[:, 2:])).all(1)
    kept = np.flatnonzero(several)[np.argsort(-count[several], kind="stable")][:MOST]
    place = np.full(len(holds), -1)
    place[kept] = np.arange(len(kept))
    return holds[kept], place[which]
