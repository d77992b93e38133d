"""Scores of two flow tables that several benchmarks report."""

from __future__ import annotations

import numpy as np

from netgen.capture.errors import TableError
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.privacy import exact_copies
from netgen.evaluation.realism import N_FOLDS, real_or_fake_auc


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
