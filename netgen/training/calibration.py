"""After training: what recurs and what flows add up to, measured once and put right (see `netgen.encoders.decoding.decoder`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from netgen.capture.series.feasible import feasible
from netgen.encoders.decoding.decoder import Decoder
from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.recurring import Recurring
from netgen.encoders.decoding.repeats import Repeats
from netgen.encoders.decoding.shares import Shares
from netgen.evaluation.realism import N_FOLDS, real_or_fake_auc
from netgen.evaluation.usefulness import macro_f1, predict_forest
from netgen.model.model import Model
from netgen.model.sampling import concat_batches

#: Flows drawn of a class, and in all; fewer than LEAST of a class would not show its distribution.
MOST, IN_ALL, LEAST = 256, 2048, 24

#: A smaller share of flows than this that do not recur counts as so many.
RARE = 0.25

#: Flows of either side, and trees, by which it is judged what is for the better.
JUDGED, TREES = 1000, 50

#: Scores of a classifier that lie no further apart are equal.
CHANCE = 0.01

#: Not a seed that a person would take: flows that are drawn later are others than these.
SEED = 0x6E657467656E


def calibrate(
    model: Model,
    series: np.ndarray,
    labels: np.ndarray,
    *,
    store_flows: bool = True,
    device: str = "auto",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Model:
    """The model with totals learnt from flows that it draws, and real ones.

    Flows and bins that are what real ones are again and again, or as drawn; maps of one total each, totals of real
    flows shared out, or neither. Of all these ways, those from whose flows a classifier learns most; of them, those
    whose flows are hardest to tell from the real ones; of them, the one from which most is learnt. A well-trained
    model of large flows may do better without: totals know nothing of what hangs together within a flow.

    Parameters
    ----------
    model : Model
    series : ndarray of int64, shape (flows, channels, bins)
        Real series.
    labels : ndarray of int, shape (flows,)
        Numbers of their conditions.
    holds_flows : bool
        Whether the model may hold numbers of flows as they are, rather than distributions alone.
    device, threads, progress
        See `Model.sample`.
    """
    scaled, drawn_labels = drawn_once(model, series, labels, device=device, threads=threads, progress=progress)
    tried = candidates(model, scaled, drawn_labels, series, labels)
    if not store_flows:
        tried = [each for each in tried if not each.stores_flows()]
    beside = [_beside(each, scaled, drawn_labels, series, labels) for each in tried]
    learnt = [each.learnt() for each in beside]
    best = [place for place, score in enumerate(learnt) if score >= max(learnt) - CHANCE]
    if len(best) > 1:  # trees take longer than anything else here: of one alone nobody needs to know
        told = {place: beside[place].c2st_auc() for place in best}
        best = [place for place in best if told[place] <= min(told.values()) + CHANCE]
    return tried[max(best, key=lambda place: learnt[place])]


def drawn_once(
    model: Model,
    series: np.ndarray,
    labels: np.ndarray,
    *,
    device: str,
    threads: int | None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scaled series that a model draws, (flows, channels, bins), and their conditions' numbers, to be measured.

    Of conditions of more real flows more, as more is known of these; and so many that enough of them do not recur.
    """
    much = np.sqrt(np.bincount(labels, minlength=len(model.strata)))
    least = LEAST / np.maximum(1 - Recurring.share(series, labels, model.decoder.limits), RARE)
    numbers = np.clip(IN_ALL * much / much.sum(), least, MOST).astype(int)
    batches = model.sample_scaled(
        dict(enumerate(numbers.tolist())), seed=SEED, guidance=1.0,
        sampling_steps=model.noise.sampling_steps, device=device, threads=threads, progress=progress,
    )  # fmt: skip
    return concat_batches(batches)


def candidates(
    model: Model, scaled: np.ndarray, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray
) -> list[Model]:
    """Models that put flows right in different ways: what recurs as it is, or not; totals of either form, or none."""
    decoder, none = model.decoder, Marginals.none(len(model.strata))
    assert isinstance(decoder, Decoder)  # series of packets have no bins to be put right
    numbers = decoder.indices(drawn_labels)
    recurring = Recurring.learn(scaled, drawn_labels, series, labels, decoder.scale, decoder.limits)
    found = []
    for whole in (recurring, Recurring.nothing()):
        # what is learnt of bins and totals is of flows that do not recur
        mine = whole(scaled, drawn_labels, numbers, decoder.scale, seed=SEED) < 0
        real = ~whole.members(series, labels)
        ours, theirs = (scaled[mine], drawn_labels[mine]), (series[real], labels[real])
        repeats = Repeats.none()
        if whole is recurring:
            repeats = Repeats.learn(*ours, *theirs, decoder.scale, decoder.limits)
        plain = dataclasses.replace(model, recurring=whole, repeats=repeats, totals=none)
        drawn = dataclasses.replace(decoder, repeats=repeats).rounded(*ours, numbers[mine], seed=SEED)
        totals = (each.learn(drawn, ours[1], *theirs, decoder.limits) for each in (Marginals, Shares))
        found += [*(dataclasses.replace(plain, totals=each) for each in totals), plain]
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Beside:
    """Drawn flows beside as many real ones of each condition.

    Parameters
    ----------
    drawn, real : ndarray of int64, shape (flows, 4, bins)
    taught, truth : ndarray of int, shape (flows,)
        Their class numbers.
    """

    drawn: np.ndarray
    real: np.ndarray
    taught: np.ndarray
    truth: np.ndarray

    def learnt(self) -> float:
        """Macro F1 of the real flows by a forest that learnt from the drawn ones."""
        if np.ptp(self.taught) == 0:
            return 1.0
        return macro_f1(self.truth, predict_forest(self.drawn, self.taught, self.real, seed=0, n_trees=TREES))

    def c2st_auc(self) -> float:
        """Real-or-fake AUC."""
        return real_or_fake_auc(self.real, self.drawn, n_trees=TREES).value if len(self.real) >= 2 * N_FOLDS else 1.0


def _beside(
    model: Model, scaled: np.ndarray, drawn_labels: np.ndarray, series: np.ndarray, labels: np.ndarray
) -> _Beside:
    """Flows as a model decodes them, and real ones."""
    generator = np.random.default_rng(SEED)
    decoded = model.decoder.decode(scaled, drawn_labels, seed=SEED)
    ours, theirs = [], []
    there = np.minimum(*(np.bincount(each, minlength=len(model.strata)) for each in (drawn_labels, labels)))
    share = min(1.0, JUDGED / there.sum())
    for label in np.flatnonzero(there):
        mine, real = (np.flatnonzero(each == label) for each in (drawn_labels, labels))
        number = max(1, int(share * there[label]))
        ours.append(mine[:number])  # the first ones: totals may be shared out among flows that follow each other
        theirs.append(generator.permutation(real)[:number])
    drawn, rows = np.concatenate(ours), np.concatenate(theirs)
    new, _ = feasible(decoded[drawn], drawn_labels[drawn], model.limits)
    classes = np.array([model.classes.index(each.label) for each in model.strata])
    return _Beside(new, series[rows], classes[drawn_labels[drawn]], classes[labels[rows]])
