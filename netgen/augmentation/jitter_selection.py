"""Cross-validate jitter on the real flows: does it help a classifier? No model is needed.

Real flows are held out fold by fold. A random forest learns from the others and as many flows again: copies of them, or
jittered ones. If held-out flows get a higher probability of their class with jitter, the last digits of a number say
nothing about the class. A lower one shows that digits matter, as where packets are cells of one size (BENCHMARKS.md,
"Few real flows"). The score is proper: it reacts to a less confident forest long before the forest errs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from netgen.augmentation.jitter import apply_jitter, choose_flows
from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion.sampler import sample_seed
from netgen.evaluation.feature_spaces import cumulative
from netgen.evaluation.usefulness import forest_probabilities

#: Fraction of the new flows that is jittered where jitter helps.
HELPFUL_FRACTION = 0.5

N_FOLDS = 5

#: Flows of a class that are held out, each in one fold.
MAX_HELD_OUT = 20

#: Flows of a class, and of all classes, in a training set.
MAX_CLASS_FLOWS = 100
MAX_FLOWS = 3_000

#: Classes that take part: the nodes of a tree store a number for each class, gigabytes for a thousand of them.
MAX_CLASSES = 100

N_TREES = 100


@dataclasses.dataclass(frozen=True)
class JitterScores:
    """Mean predicted probability of the true class on held-out flows.

    Parameters
    ----------
    repeated, jittered : float
        Geometric means, of forests that learn from real flows and copies, or real flows and jittered ones.
    n_flows : int
        Held-out flows; 0 if fewer than two classes have two flows.
    """

    repeated: float
    jittered: float
    n_flows: int

    @property
    def fraction(self) -> float:
        """Fraction of the new flows that should be jittered."""
        return HELPFUL_FRACTION if self.jittered > self.repeated else 0.0

    def to_json(self) -> dict[str, float]:
        """Convert to JSON types."""
        return dataclasses.asdict(self)


NO_SCORES = JitterScores(0.0, 0.0, 0)


def cross_validate_jitter(
    real: FlowTable, seed: int = 0, progress: Callable[[int, int], None] = lambda *_: None
) -> JitterScores:
    """Score jittered flows against copies; equal real flows and seeds give equal scores.

    Parameters
    ----------
    real : FlowTable
        Labelled real flows, of which at most `MAX_CLASS_FLOWS` of each of `MAX_CLASSES` classes are used.
    seed : int
    progress : callable
        Called with (folds done, folds in all).
    """
    if len(real.classes) < 2:
        return NO_SCORES
    max_flows = min(MAX_CLASS_FLOWS, MAX_FLOWS // min(len(real.classes), MAX_CLASSES))
    real, folds = assign_folds(real, max_flows, np.random.default_rng(sample_seed(seed, 0, 0)))
    labels = real.labels.astype(str)
    if len(set(labels[folds >= 0])) < 2:
        return NO_SCORES
    features = cumulative(real.series())
    scores: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for fold in range(N_FOLDS):
        progress(fold, N_FOLDS)
        test = folds == fold
        train, train_features = real.take(~test), features[~test]
        numbers = {name: range(max(max_flows - count, count)) for name, count in train.counts().items()}
        rows, generators = choose_flows(train, numbers, seed)
        train_labels = np.concatenate([labels[~test], labels[~test][rows]])
        copies = train_features[rows], cumulative(apply_jitter(train, rows, generators).series())
        for log_probabilities, added in zip(scores, copies, strict=True):
            log_probabilities.append(
                _log_probabilities(
                    np.concatenate([train_features, added]), train_labels, features[test], labels[test],
                    sample_seed(seed, 0, fold),
                )
            )  # fmt: skip
    progress(N_FOLDS, N_FOLDS)
    repeated, jittered = (np.concatenate(values) for values in scores)
    return JitterScores(float(np.exp(repeated.mean())), float(np.exp(jittered.mean())), len(repeated))


def assign_folds(real: FlowTable, max_flows: int, rng: np.random.Generator) -> tuple[FlowTable, np.ndarray]:
    """Choose at most `max_flows` flows of each class, and the fold that holds out each of them; -1: none."""
    labels, classes = real.labels.astype(str), real.classes
    if len(classes) > MAX_CLASSES:
        classes = sorted(rng.choice(classes, MAX_CLASSES, replace=False).tolist())
    rows, folds = [], []
    for name in classes:
        chosen = rng.permutation(np.flatnonzero(labels == name))[:max_flows]
        fold = (np.arange(len(chosen)) + rng.integers(N_FOLDS)) % N_FOLDS
        rows.append(chosen)
        folds.append(np.where((np.arange(len(chosen)) >= MAX_HELD_OUT) | (len(chosen) == 1), -1, fold))
    order = np.argsort(np.concatenate(rows))
    return real.take(np.concatenate(rows)[order]), np.concatenate(folds)[order]


def _log_probabilities(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, seed: int
) -> np.ndarray:
    """Return the log-probability of each test flow's class, with one vote more for each class (Laplace's rule)."""
    if not len(test):
        return np.empty(0)
    classes, probabilities = forest_probabilities(train, train_labels, test, seed=seed % 2**32, n_trees=N_TREES)
    votes: np.ndarray = N_TREES * probabilities[np.arange(len(test)), np.searchsorted(classes, test_labels)]
    return np.log((votes + 1) / (N_TREES + len(classes)))
