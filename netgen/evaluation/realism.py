"""Realism: whether a classifier can tell synthetic flows from real ones."""

from __future__ import annotations

import numpy as np

from netgen.capture.errors import TableError
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.estimate import Estimate, roc_auc
from netgen.evaluation.feature_spaces import cumulative
from netgen.evaluation.privacy import exact_copies

N_TREES = 200
N_FOLDS = 3


def real_or_fake_auc(series: np.ndarray, others: np.ndarray, *, seed: int = 0, n_trees: int | None = None) -> Estimate:
    """Estimate the AUC of a random forest that tells two sets of series apart, in 3-fold cross-validation.

    0.5 means that it cannot, 1 that it always can (a classifier two-sample test). Give sets of equal size and mixture
    of classes.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    X = np.concatenate([cumulative(series), cumulative(others)])
    y = np.repeat([0, 1], [len(series), len(others)])
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    model = RandomForestClassifier(n_trees or N_TREES, random_state=seed, n_jobs=2)
    scores = cross_val_predict(model, X, y, cv=folds, method="predict_proba")[:, 1]
    return roc_auc(scores[y == 0], scores[y == 1])


def real_or_fake(real: FlowTable, other: FlowTable, *, seed: int = 0, n_trees: int | None = None) -> float:
    """Compute the real-or-fake AUC of two tables, with equally many flows of each class from both.

    Compare it with the value for real against held-out real flows.

    Raises
    ------
    SpecMismatchError, TableError
        If their series differ, or they share no class.
    """
    real.spec.require_equal(other.spec, "the real table", "the other table")
    generator = np.random.default_rng(seed)
    chosen: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for name in sorted(set(real.classes) & set(other.classes)):
        rows = [generator.permutation(np.flatnonzero(table.labels == name)) for table in (real, other)]
        count = min(map(len, rows))
        for side, permuted in zip(chosen, rows, strict=True):
            side.append(permuted[:count])
    if sum(map(len, chosen[0])) < 2 * N_FOLDS:
        raise TableError("the two tables share too few flows of a class", "Give both the same classes")
    first, second = (
        table.take(np.concatenate(rows)).series() for table, rows in zip((real, other), chosen, strict=True)
    )
    return real_or_fake_auc(first, second, seed=seed, n_trees=n_trees).value


def count_copies(real: FlowTable, other: FlowTable) -> int:
    """Count the flows of `other` that have exactly the series of a flow of `real`."""
    real.spec.require_equal(other.spec, "the real table", "the other table")
    return int(exact_copies(real.series(), other.series()).sum())
