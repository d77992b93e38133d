"""Realism: whether a classifier can tell synthetic flows from real ones, and whether they are copies."""

from __future__ import annotations

import numpy as np

from capture.errors import TableError
from capture.flows import FlowTable
from netgen.evaluation.usefulness import features


def real_or_fake(real: FlowTable, other: FlowTable, *, seed: int = 0, trees: int = 200) -> float:
    """Area under the curve of a random forest that tells `other` from `real`, in 3-fold validation.

    0.5 cannot be told apart, 1.0 is told at once. Classes are drawn alike from both, so that the
    mixture gives nothing away; compare it with the figure of real against held-out real.

    Raises
    ------
    SpecMismatch, TableError
        If their series differ, or they share no class.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    real.spec.require_equal(other.spec, "the real table", "the other table")
    generator = np.random.default_rng(seed)
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for name in set(real.classes) & set(other.classes):
        mine = [np.flatnonzero(table.labels == name) for table in (real, other)]
        number = min(len(each) for each in mine)
        for side, each in zip(rows, mine, strict=True):
            side.append(generator.permutation(each)[:number])
    if not rows[0] or sum(len(each) for each in rows[0]) < 6:
        raise TableError("the two tables share too few flows of a class", "Give both the same classes")
    data = np.concatenate(
        [features(table.take(np.concatenate(side)).series()) for table, side in zip((real, other), rows, strict=True)]
    )
    truth = np.repeat([0, 1], len(data) // 2)
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    forest = RandomForestClassifier(trees, random_state=seed, n_jobs=2)
    said = cross_val_predict(forest, data, truth, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(truth, said))


def copies(real: FlowTable, other: FlowTable) -> int:
    """How many flows of `other` have exactly the series of a flow of `real`."""
    real.spec.require_equal(other.spec, "the real table", "the other table")
    known = {series.tobytes() for series in np.ascontiguousarray(real.series())}
    return sum(series.tobytes() in known for series in np.ascontiguousarray(other.series()))
