"""Realism: whether a classifier can tell flows from real ones."""

from __future__ import annotations

import numpy as np

from netgen.capture.errors import TableError
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.estimate import Estimate, area
from netgen.evaluation.feature_spaces import cumulative
from netgen.evaluation.privacy import exact_copies

TREES, FOLDS = 200, 3


def real_or_fake_auc(series: np.ndarray, others: np.ndarray, *, seed: int = 0, trees: int | None = None) -> Estimate:
    """Area under the ROC curve of a random forest that tells two sets of flows apart, in 3-fold validation.

    0.5: they cannot be told apart; 1.0: at once. Sets should be of equal size and mixture.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    data = np.concatenate([cumulative(series), cumulative(others)])
    truth = np.repeat([0, 1], [len(series), len(others)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    model = RandomForestClassifier(trees or TREES, random_state=seed, n_jobs=2)
    said = cross_val_predict(model, data, truth, cv=folds, method="predict_proba")[:, 1]
    return area(said[truth == 0], said[truth == 1])


def real_or_fake(real: FlowTable, other: FlowTable, *, seed: int = 0, trees: int | None = None) -> float:
    """How well a random forest tells `other` from `real`: see `real_or_fake_auc`.

    Classes are drawn alike from both, so that the mixture gives nothing away; compare the figure
    with that of real against held-out real.

    Raises
    ------
    SpecMismatch, TableError
        If their series differ, or they share no class.
    """
    real.spec.require_equal(other.spec, "the real table", "the other table")
    generator = np.random.default_rng(seed)
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for name in sorted(set(real.classes) & set(other.classes)):
        mine = [np.flatnonzero(table.labels == name) for table in (real, other)]
        number = min(len(each) for each in mine)
        for side, each in zip(rows, mine, strict=True):
            side.append(generator.permutation(each)[:number])
    if not rows[0] or sum(len(each) for each in rows[0]) < 2 * FOLDS:
        raise TableError("the two tables share too few flows of a class", "Give both the same classes")
    ours, theirs = (table.take(np.concatenate(side)).series() for table, side in zip((real, other), rows, strict=True))
    return real_or_fake_auc(ours, theirs, seed=seed, trees=trees).value


def copies(real: FlowTable, other: FlowTable) -> int:
    """How many flows of `other` have exactly the series of a flow of `real`."""
    real.spec.require_equal(other.spec, "the real table", "the other table")
    return int(exact_copies(real.series(), other.series()).sum())
