"""Flows that recur, number for number: drawn flows become one of those, as often as real ones are.

Most flows of a home's devices are the same as others, in every bin: a question to a name server and its answer, a
greeting, a poll. A model that draws 512 numbers for a flow, each a little off, never makes one of them. So a drawn
flow is taken for one of the flows that several real ones of its class are, each as likely as it is near and as wanted
as it is frequent; or for none of them, and stays what it is. The odds are balanced among drawn flows, so that each is
drawn as often as it is real. What nothing recurs in, as minutes of video, is left alone.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.odds import balanced, picked
from netgen.encoders.decoding.repeats import FLOWS

#: Recurring flows of a class that are kept: the most frequent ones.
MOST = 128

#: How far a drawn flow lies from the real one that it is taken for, a number of a bin, on the scale of the model; and
#: how far a bin may lie at most: one that is busy and should not be is no worse than that.
BLUR, FAR = 0.2, 0.3

#: Rounds of balancing the odds, and how far they may go: as far as it takes.
_ROUNDS, _BOUND = 50, 50.0


@dataclasses.dataclass(frozen=True, eq=False)
class Recurring:
    """Flows of each class that recur.

    Parameters
    ----------
    label : ndarray of int32, shape (flows,)
        The class of each recurring flow, in order.
    odds : ndarray of float32, shape (flows,)
        The logarithm of its odds.
    none : ndarray of float32, shape (classes,)
        The logarithm of the odds of being none of them.
    flow, at : ndarray of int32, shape (busy bins,)
        A bin that is busy: whose flow's, and which.
    holds : ndarray of int64, shape (busy bins, 4)
        What it holds: bytes up and down, packets up and down.
    """

    label: np.ndarray
    odds: np.ndarray
    none: np.ndarray
    flow: np.ndarray
    at: np.ndarray
    holds: np.ndarray

    @classmethod
    def nothing(cls) -> Recurring:
        """No flow recurs: drawn ones stay what they are."""
        return cls._of(0, np.zeros(0), np.zeros(0), np.zeros((0, 4, 0), np.int64))

    @classmethod
    def _of(cls, label: np.ndarray | int, odds: np.ndarray, none: np.ndarray, series: np.ndarray) -> Recurring:
        flow, at = np.nonzero(series.any(1))
        return cls(
            np.broadcast_to(label, len(series)).astype(np.int32), odds.astype(np.float32), none.astype(np.float32),
            flow.astype(np.int32), at.astype(np.int32), series[flow, :, at],
        )  # fmt: skip

    @classmethod
    def learn(
        cls, scaled: np.ndarray, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray, scale: BinScaler,
        limits: np.ndarray,
    ) -> Recurring:  # fmt: skip
        """What recurs of real flows, and how often drawn ones are to be taken for it; as `Repeats.learn`."""
        whose, odds, found = [], [], []
        none = np.zeros(limits.shape[1])
        for label in np.unique(drawn_labels).tolist():
            real = series[labels == label]
            again, count = _recurring(real, limits[:, label])
            if len(again):
                near = _near(scaled[drawn_labels == label], scale.scale(again))
                every = np.append(count, len(real) - count.sum())
                *mine, none[label] = balanced(near, every, rounds=_ROUNDS, bound=_BOUND)
                whose += [label] * len(again)
                odds += mine
                found.append(again)
        if not found:
            return cls.nothing()
        return cls._of(np.array(whose), np.array(odds), none, np.concatenate(found))

    @staticmethod
    def share(series: np.ndarray, labels: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """The share of the flows of each class that recur, float64 (classes,); 0 where there are none."""
        found = np.zeros(limits.shape[1])
        for label in np.unique(labels).tolist():
            mine = labels == label
            found[label] = _recurring(series[mine], limits[:, label])[1].sum() / mine.sum()
        return found

    def __call__(
        self, scaled: np.ndarray, labels: np.ndarray, numbers: np.ndarray, scale: BinScaler, *, seed: int
    ) -> np.ndarray:
        """Which recurring flow each drawn one is taken for, int64 (flows,); -1: none.

        Parameters
        ----------
        scaled : ndarray of float, shape (flows, 4, bins)
        labels, numbers : ndarray of int, shape (flows,)
            Classes of the flows, and their numbers in these.
        scale : PacketScale
        seed : int
            Of all that is drawn.
        """
        found = np.full(len(scaled), -1)
        for label in np.unique(labels).tolist():
            mine, ours = np.flatnonzero(labels == label), np.flatnonzero(self.label == label)
            if len(ours):
                chance = [np.random.default_rng([seed % 2**64, label, number, 2]).random() for number in numbers[mine]]
                near = _near(scaled[mine], scale.scale(self.series(ours, scaled.shape[2])))
                place = picked(near + np.append(self.odds[ours], self.none[label]), np.array(chance))
                found[mine] = np.append(ours, -1)[place]
        return found

    def series(self, which: np.ndarray, bins: int) -> np.ndarray:
        """Series of some of these flows, int64 (flows, 4, bins)."""
        out = np.zeros((len(which), 4, bins), np.int64)
        for row, number in zip(out, which.tolist(), strict=True):
            mine = slice(*np.searchsorted(self.flow, [number, number + 1]))
            row[:, self.at[mine]] = self.holds[mine].T
        return out

    def members(self, series: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Which real flows are one of these; bool (flows,)."""
        if not len(self.label):
            return np.zeros(len(series), bool)
        known = self.series(np.arange(len(self.label)), series.shape[2])
        keys = {(label, each.tobytes()) for label, each in zip(self.label.tolist(), known, strict=True)}
        every = zip(labels.tolist(), np.ascontiguousarray(series, np.int64), strict=True)
        return np.array([(label, each.tobytes()) in keys for label, each in every], bool)

    def check(self, classes: int, bins: int) -> None:
        """See whether it fits a model of so many classes and bins.

        Raises
        ------
        ValueError
            If it does not.
        """
        flows, busy = len(self.label), len(self.flow)
        shapes = [(flows,), (flows,), (classes,), (busy,), (busy,), (busy, 4)]
        if [(each.shape, each.dtype.kind) for each in vars(self).values()] != list(zip(shapes, "iffiii", strict=True)):
            raise ValueError("what of its flows recurs does not fit together")
        fine = (
            ((self.label >= 0) & (self.label < classes)).all() and (np.diff(self.label) >= 0).all(),
            np.isfinite(self.odds).all() and np.isfinite(self.none).all(),
            np.array_equal(np.unique(self.flow), np.arange(flows)) and (np.diff(self.flow) >= 0).all(),
            ((self.at >= 0) & (self.at < bins)).all(),
            # each begins in bin 0, and goes on
            np.array_equal(self.at == 0, np.diff(self.flow, prepend=-1) > 0),
            ((np.diff(self.at) > 0) | (np.diff(self.flow) > 0)).all(),
            ((self.holds[:, :2] > 0) == (self.holds[:, 2:] > 0)).all() and self.holds[:, 2:].any(1).all(),
            ((self.holds >= 0) & (self.holds < 2**40)).all(),
        )
        if not all(fine):
            raise ValueError("what of its flows recurs cannot be")


def _recurring(real: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flows of a class that recur and that a flow can be, the most frequent first, and how often each does."""
    key = [hash(each.tobytes()) for each in np.ascontiguousarray(real)]
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    low, high = (each[:, None] * real[first, 2:] for each in limits)
    can = ((real[first, :2] >= low) & (real[first, :2] <= high)).all((1, 2)) & real[first, 2:, 0].any(1)
    several = np.flatnonzero((count >= FLOWS) & can)
    kept = several[np.lexsort((first[several], -count[several]))][:MOST]
    return real[first[kept]], count[kept]


def _near(scaled: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Logarithm of how likely each of several flows looks as drawn ones do, and, 0, none; (drawn, flows + 1)."""
    out = np.zeros((len(scaled), len(points) + 1))
    for column, point in zip(out.T, points, strict=False):
        column[:] = -np.minimum(np.square(scaled - point).sum(1), FAR**2).sum(1) / BLUR**2 / 2
    return out
