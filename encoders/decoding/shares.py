"""What flows of a class add up to, all totals at once: those of real flows, shared out among drawn ones.

Maps of each total by itself (`netgen.encoders.decoding.marginals`) lose what hangs together: which bytes go with which packets. And
where a class has few real flows, a classifier learns less from as many that were drawn independently of each other, be
they ever so good: some totals come twice, others not at all. So here the four totals of a real flow go together, and
in each turn of as many drawn flows as there are real ones that lend, each of these has its turn once. Those that recur
(`netgen.encoders.decoding.recurring`) neither lend nor take, nor do those of a single bin: totals would be all of such a flow; where
many do not take, some turns are let go by. Which drawn flow gets whose is decided a group at a time: ranks, in packets,
share up, and bytes up and down, differ least in all (optimal transport). A drawn flow that is like none of those left,
as where a class has two kinds of flows and a group more of one than its share, takes the totals of another real flow,
which it is like.

What a flow lacks of its totals, or has too much, goes to bins in which flows of the class differ: those that
all of them have alike, such as a handshake's, would give it away.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.encoders.decoding.rounding import RoundedBins
from netgen.encoders.decoding.totals import POINTS, RANKS, by_class, bytes_of, several, summed, totals_of

#: Real flows of a class that lend their totals, at most.
MOST = 128

#: Drawn flows among which totals are shared out, at most.
GROUP = 16

#: A flow is given totals further from its own, by the square of the distance of ranks, only if no real ones are nearer.
UNLIKE = 0.25

#: How much less of a change than the others a bin bears, at least, and over how many neighbours that is smoothed.
FIRM, NEIGHBOURS = 0.1, 3


@dataclasses.dataclass(frozen=True)
class Shares:
    """Totals of real flows, for each class.

    Parameters
    ----------
    drawn : ndarray of float32, shape (classes, POINTS, 4)
        Quantiles of what the model draws: packets in all, share up, bytes up and down.
    real : ndarray of float32, shape (classes, most, 4)
        Packets up and down, bytes up and down of real flows; NaN: no more of this class.
    differ : ndarray of float32, shape (classes, 4, bins)
        How much drawn flows of the class differ in a bin, over the mean of the bins: in the logarithm of bytes a
        packet, up and down, and of packets, up and down.
    """

    drawn: np.ndarray
    real: np.ndarray
    differ: np.ndarray

    @classmethod
    def learn(
        cls, drawn: RoundedBins, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray, limits: np.ndarray
    ) -> Shares:
        """Totals of real flows, and what they stand for; parameters as of `Marginals.learn`."""
        classes = limits.shape[1]
        most = min(MOST, max(np.bincount(labels), default=0))
        shapes = ((classes, POINTS, 4), (classes, most, 4), (classes, 4, series.shape[2]))
        found = cls(*(np.full(shape, np.nan, np.float32) for shape in shapes))
        ours, theirs = (several(each) for each in (drawn.packets, series[:, 2:]))
        for label, mine, real in by_class(
            classes, drawn.take(ours), drawn_labels[ours], series[theirs], labels[theirs]
        ):
            totals = totals_of(real)
            # of more than can be kept, those that stand for all
            kept = np.lexsort(totals.T)[np.linspace(0, len(totals) - 1, min(most, len(totals))).round().astype(int)]
            found.drawn[label] = np.quantile(_quantities(mine, limits[:, label]), RANKS, axis=0)
            found.real[label, : len(kept)] = totals[kept]
            found.differ[label] = _differ(mine)
        return found

    def group(self, label: int) -> int:
        """Flows of a class whose totals depend on each other."""
        return min(max(len(self._lent(label)), 1), GROUP)

    def weights(self, labels: np.ndarray) -> np.ndarray:
        """How much of a change each bin bears: by its variance, as parts do of a sum that is known."""
        return np.square(np.maximum(self.differ[labels].astype(np.float64), FIRM))

    def totals(
        self, label: int, drawn: RoundedBins, limits: np.ndarray, numbers: np.ndarray, *, seed: int
    ) -> np.ndarray | None:
        """What drawn flows of a class shall add up to: see `netgen.encoders.decoding.decoder.Totals`."""
        lent = self._lent(label)
        some = several(drawn.packets)
        if not len(lent) or not some.any():
            return None
        whole, (drawn, numbers) = np.full((len(numbers), 4), np.nan), (drawn.take(some), numbers[some])
        turn, group = numbers // len(lent), numbers // self.group(label)
        ours = _ranks(_quantities(drawn, limits), self.drawn[label])
        theirs = _ranks(together := np.concatenate([summed(lent[:, :2]), lent[:, 2:]], axis=1), together)
        found = np.empty((len(numbers), 4))
        for part in np.split(np.arange(len(numbers)), 1 + np.flatnonzero(np.diff(turn) | np.diff(group))):
            order = np.random.default_rng([seed % 2**64, label, turn[part[0]]]).permutation(len(lent))
            found[part] = lent[_given(ours[part], theirs, order[numbers[part] % len(lent)])]
        whole[some] = found
        return whole

    def _lent(self, label: int) -> np.ndarray:
        real = self.real[label]
        return real[~np.isnan(real[:, 0])].astype(np.float64)


def _given(ours: np.ndarray, theirs: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Which of theirs each of ours is given: those whose turn it is, unless others are nearer by more than UNLIKE."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    cost = cdist(ours, theirs, "sqeuclidean")
    _, place = linear_sum_assignment(np.concatenate([cost[:, turn], cost + UNLIKE], axis=1))
    found: np.ndarray = np.concatenate([turn, np.arange(len(theirs))])[place]
    return found


def _differ(drawn: RoundedBins) -> np.ndarray:
    """How much drawn flows differ in a bin: see `Shares`."""
    busy = drawn.size > 0
    number = np.maximum(busy.sum(0), 1)
    size = np.log(np.where(busy, drawn.size, 1.0))
    apart = np.where(busy, size - size.sum(0) / number, 0.0)
    found = np.concatenate([np.sqrt(np.square(apart).sum(0) / number), np.log1p(drawn.count_float).std(0)])
    edged = np.pad(found, ((0, 0), (NEIGHBOURS // 2, NEIGHBOURS // 2)), mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(edged, NEIGHBOURS, axis=1).mean(2)
    relative: np.ndarray = smooth / np.maximum(smooth.mean(1, keepdims=True), 1e-9)
    return relative


def _quantities(drawn: RoundedBins, limits: np.ndarray) -> np.ndarray:
    """What flows are ranked by, as drawn, shape (flows, 4): packets in all, share up, bytes up and down."""
    return np.concatenate(
        [summed(drawn.count_float.sum(2)), bytes_of(drawn.size, drawn.packets, limits).sum(2)], axis=1
    )


def _ranks(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Ranks from 0 to 1, column by column; of equal values the middle one."""
    found = np.empty(values.shape)
    for place in range(values.shape[1]):
        ordered = np.sort(among[:, place])
        # as exactly as quantiles are kept: of flows whose bins are repeated many are equal
        sides = [np.searchsorted(ordered, values[:, place].astype(ordered.dtype), side) for side in ("left", "right")]
        found[:, place] = (sides[0] + sides[1]) / (2 * len(ordered))
    return found
