"""Usefulness: trained on one table, tested on another."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from capture.flows import FlowTable


@dataclasses.dataclass(frozen=True)
class Usefulness:
    """How well a classifier trained on one table does on another.

    Parameters
    ----------
    accuracy, macro_f1 : float
        Over the flows of the test table.
    trained_on, tested_on : int
        Flows.
    """

    accuracy: float
    macro_f1: float
    trained_on: int
    tested_on: int

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return dataclasses.asdict(self)


def features(series: np.ndarray) -> np.ndarray:
    """What the classifier sees: each channel and its running sum, float32 (flows, 2 * channels * bins)."""
    return np.concatenate([series, series.cumsum(-1)], axis=1).reshape(len(series), -1).astype(np.float32)


def usefulness(train: FlowTable, test: FlowTable, *, seed: int = 0, trees: int = 200) -> Usefulness:
    """A random forest trained on the labelled flows of `train`, tested on those of `test`.

    Raises
    ------
    SpecMismatch
        If their series differ.
    TableError
        If either has no labels.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import accuracy_score, f1_score

    train.spec.require_equal(test.spec, "the training table", "the test table")
    train, test = train.labelled(), test.labelled()
    forest = RandomForestClassifier(trees, random_state=seed, n_jobs=2)
    forest.fit(features(train.series()), train.labels.astype(str))
    truth, said = test.labels.astype(str), forest.predict(features(test.series()))
    return Usefulness(
        accuracy=float(accuracy_score(truth, said)),
        macro_f1=float(f1_score(truth, said, average="macro", labels=np.unique(truth), zero_division=0)),
        trained_on=len(train),
        tested_on=len(test),
    )
