"""Realism: whether a classifier can tell synthetic flows from real ones."""

from __future__ import annotations

import numpy as np

from netgen.evaluation.estimate import Estimate, roc_auc
from netgen.evaluation.feature_spaces import cumulative

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
