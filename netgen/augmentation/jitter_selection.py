"""Whether jittered flows are worth adding: a trial on the real flows alone, which no model is needed for.

Real flows are held back by turns, and a random forest learns from the others and as many of these again: once as they
are, once jittered. If those held back are likelier with jittered ones, the last digits of a number say nothing of the
class. If they are less likely, as where packets are cells of one size or a command is told by its exact length, digits
do (BENCHMARKS.md, "Few real flows"). Likelihood is a proper score: it sees what a forest is less sure of long before
it errs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from netgen.augmentation.jitter import changed, picked
from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion.sampler import sample_seed
from netgen.evaluation.feature_spaces import cumulative
from netgen.evaluation.usefulness import forest_probabilities

#: Instead of a share: half where the trial finds that jittered flows help, and none otherwise.
AUTO = "auto"

#: What share of the new flows is jittered where that helps.
HALF = 0.5

#: So many flows of a class at most are held back, each in one of so many turns.
HELD, TURNS = 20, 5

#: Flows that a class is topped up to (or to twice its own), fewer if all classes had more; classes that are tried.
#: Trees keep a number for each class at each node: of a thousand classes they would fill gigabytes.
MOST, ALL, CLASSES = 100, 3_000, 100

TREES = 100


@dataclasses.dataclass(frozen=True)
class Trial:
    """How likely real flows that were held back are to a forest, that of each being of its own class.

    Parameters
    ----------
    repeated, jittered : float
        Taught by the other real flows and as many of these again, or jittered ones of these: the geometric mean.
    flows : int
        Real flows that were held back; 0 if none could be, since no two classes have two.
    """

    repeated: float
    jittered: float
    flows: int

    @property
    def share(self) -> float:
        """Of the new flows, those that had better be jittered."""
        return HALF if self.jittered > self.repeated else 0.0

    def to_json(self) -> dict[str, float]:
        """As JSON types."""
        return dataclasses.asdict(self)


#: What cannot be tried.
NONE = Trial(0.0, 0.0, 0)


def tried(real: FlowTable, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Trial:
    """Try jittered flows; the same real flows and seed give the same trial, however many flows are lacking.

    Parameters
    ----------
    real : FlowTable
        Labelled real flows. Of a class with more than `MOST`, so many are taken, and of more than `CLASSES` so many.
    seed : int
    progress : callable, optional
        Told of (turns done, turns in all).
    """
    if len(real.classes) < 2:
        return NONE
    most = min(MOST, ALL // min(len(real.classes), CLASSES))
    real, turn = _some(real, most, np.random.default_rng(sample_seed(seed, 0, 0)))
    labels = real.labels.astype(str)
    held = [turn == each for each in range(TURNS)]
    if len({name for each in held for name in labels[each]}) < 2:
        return NONE
    points = cumulative(real.series())
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    if progress:
        progress(0, TURNS)
    for number, mine in enumerate(held):
        rest, known = real.take(~mine), points[~mine]
        more = {name: range(max(most - there, there)) for name, there in rest.counts().items()}
        rows, generators = picked(rest, more, seed)
        names = np.concatenate([labels[~mine], labels[~mine][rows]])
        both = known[rows], cumulative(changed(rest, rows, generators).series())
        for logarithms, new in zip(found, both, strict=True):
            taught = np.concatenate([known, new])
            logarithms.append(_logarithms(taught, names, points[mine], labels[mine], sample_seed(seed, 0, number)))
        if progress:
            progress(number + 1, TURNS)
    repeated, with_jitter = (np.concatenate(each) for each in found)
    return Trial(float(np.exp(repeated.mean())), float(np.exp(with_jitter.mean())), len(repeated))


def _some(real: FlowTable, most: int, generator: np.random.Generator) -> tuple[FlowTable, np.ndarray]:
    """At most so many flows of each class, and in which turn each is held back; -1: in none."""
    labels, names = real.labels.astype(str), real.classes
    if len(names) > CLASSES:
        names = sorted(generator.choice(names, CLASSES, replace=False).tolist())
    rows, turns = [], []
    for name in names:
        mine = generator.permutation(np.flatnonzero(labels == name))[:most]
        turn = np.arange(len(mine)) + generator.integers(TURNS)
        never = (np.arange(len(mine)) >= HELD) | (len(mine) == 1)
        rows.append(mine)
        turns.append(np.where(never, -1, turn % TURNS))
    order = np.argsort(np.concatenate(rows))
    return real.take(np.concatenate(rows)[order]), np.concatenate(turns)[order]


def _logarithms(points: np.ndarray, labels: np.ndarray, held: np.ndarray, truth: np.ndarray, seed: int) -> np.ndarray:
    """Of the likelihood of each flow held back, by Laplace's rule: each class has a vote more than trees gave it."""
    if not len(held):
        return np.empty(0)
    classes, likely = forest_probabilities(points, labels, held, seed=seed % 2**32, n_trees=TREES)
    votes: np.ndarray = TREES * likely[np.arange(len(held)), np.searchsorted(classes, truth)]
    return np.log((votes + 1) / (TREES + len(classes)))
