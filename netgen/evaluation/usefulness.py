"""Usefulness: train a classifier on one table, test it on another."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from netgen.capture.table.flow_table import FlowTable, PathLike, read_tables
from netgen.evaluation.estimate import Estimate
from netgen.evaluation.feature_spaces import LogSpace, cumulative, one_thread, with_cumulative

N_TREES = 200

NETWORK_STEPS = 500  # batches of 64 flows that the convolutional network is trained on
N_BOOTSTRAP = 200  # bootstrap samples of the test flows behind an interval


@dataclasses.dataclass(frozen=True)
class Usefulness:
    """How well a classifier trained on one table does on another."""

    accuracy: float  # on the flows of the test table
    macro_f1: float
    trained_on: int  # number of flows
    tested_on: int

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON types."""
        return dataclasses.asdict(self)


def usefulness(
    train: FlowTable | PathLike, test: FlowTable | PathLike, *, seed: int = 0, n_trees: int | None = None
) -> Usefulness:
    """Train a random forest on the labelled flows of `train`, and test it on those of `test`; tables or paths.

    Raises
    ------
    SpecMismatchError
        If their series differ.
    TableError
        If either has no labels.
    """
    train, test = read_tables([train, test])
    train.spec.require_equal(test.spec, "the training table", "the test table")
    train, test = train.labelled(), test.labelled()
    truth = test.labels.astype(str)
    predicted = predict_forest(train.series(), train.labels.astype(str), test.series(), seed=seed, n_trees=n_trees)
    return Usefulness(
        accuracy=float((predicted == truth).mean()),
        macro_f1=macro_f1(truth, predicted),
        trained_on=len(train),
        tested_on=len(test),
    )


def predict_forest(
    series: np.ndarray, labels: np.ndarray, test: np.ndarray, *, seed: int = 0, n_trees: int | None = None
) -> np.ndarray:
    """Train a random forest on series and their cumulative sums, and predict the classes of others; str, (test,)."""
    return _fit_forest(cumulative(series), labels, seed, n_trees or N_TREES).predict(cumulative(test))


def forest_probabilities(
    X: np.ndarray, labels: np.ndarray, test: np.ndarray, *, seed: int = 0, n_trees: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Train such a forest on features made by `cumulative`; return the sorted classes and float64 (test, classes)."""
    model = _fit_forest(X, labels, seed, n_trees or N_TREES)
    model.n_jobs = 1  # threads would add up the trees in any order, and so round differently each time
    return model.classes_, model.predict_proba(test)


def _fit_forest(X: np.ndarray, labels: np.ndarray, seed: int, n_trees: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(n_trees, random_state=seed, n_jobs=2)
    with warnings.catch_warnings():
        # many classes of few flows are the question here, and no regression
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        return model.fit(X, labels)


def predict_network(
    series: np.ndarray, labels: np.ndarray, test: np.ndarray, *, seed: int = 0, steps: int | None = None
) -> np.ndarray:
    """Train a small convolutional network on the same, and predict; str, shape (test,).

    Three convolutions over the logarithms of series and cumulative sums, max and mean pooling, one linear layer: some
    60,000 parameters. Classes are sampled equally often.
    """
    import torch
    from torch import nn

    classes, target = np.unique(labels, return_inverse=True)
    space = LogSpace.of(with_cumulative(series))
    X, y = torch.from_numpy(space(with_cumulative(series))), torch.from_numpy(target)
    X_test = torch.from_numpy(space(with_cumulative(test)))
    steps = steps or NETWORK_STEPS
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(
            nn.Conv1d(X.shape[1], 48, 5, padding=2), nn.BatchNorm1d(48), nn.ReLU(),
            nn.Conv1d(48, 64, 5, padding=2, stride=2), nn.BatchNorm1d(64), nn.ReLU(),
            nn.Conv1d(64, 96, 5, padding=2, stride=2), nn.BatchNorm1d(96), nn.ReLU(),
        )  # fmt: skip
        head = nn.Linear(2 * 96, len(classes))

        def logits(batch: torch.Tensor) -> torch.Tensor:
            response = body(batch)  # (batch, 96, length / 4)
            return head(torch.cat([response.amax(2), response.mean(2)], dim=1))

        optimizer = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=3e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        weights = (1 / torch.bincount(y).double())[y]
        for _ in range(steps):
            rows = torch.multinomial(weights, 64, replacement=True)
            loss = nn.functional.cross_entropy(logits(X[rows]), y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        body.eval()
        with torch.inference_mode():
            predicted = [logits(batch).argmax(1) for batch in X_test.split(1024) if len(batch)]
    return classes[torch.cat(predicted).numpy()] if predicted else classes[:0]


CLASSIFIERS: dict[str, Callable[..., np.ndarray]] = {"forest": predict_forest, "network": predict_network}


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Average F1 over the classes that occur in `truth`; a class that is never predicted has 0.

    The same as scikit-learn's ``f1_score`` for these classes, 50 times as fast: a bootstrap calls it 200 times.
    """
    names, codes = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    of_class, as_class = (np.bincount(half, minlength=len(names)) for half in np.split(codes, [len(truth)]))
    correct = np.bincount(codes[: len(truth)][truth == predicted], minlength=len(names))
    f1 = 2 * correct / np.maximum(of_class + as_class, 1)
    return float(f1[of_class > 0].mean())


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Compute the share of correct predictions."""
    return float((truth == predicted).mean())


_SCORES = {"accuracy": accuracy, "macro_f1": macro_f1}


def scores(truth: np.ndarray, predicted: np.ndarray, *, seed: int = 0) -> dict[str, Estimate]:
    """Estimate accuracy and macro F1, with bootstrap intervals over the test flows."""
    return {name: _bootstrap(score, seed, truth, predicted) for name, score in _SCORES.items()}


def accuracy_ratio(truth: np.ndarray, predicted: np.ndarray, by_real: np.ndarray, *, seed: int = 0) -> Estimate:
    """Estimate the accuracy over that of a classifier trained on real flows, on the same bootstrap samples."""
    return _bootstrap(lambda t, a, b: accuracy(t, a) / max(accuracy(t, b), 1e-9), seed, truth, predicted, by_real)


def _bootstrap(score: Callable[..., float], seed: int, *columns: np.ndarray) -> Estimate:
    generator = np.random.default_rng(seed)
    codes = np.unique(np.concatenate(columns), return_inverse=True)[1].reshape(len(columns), -1)  # integers are faster
    samples = generator.integers(0, codes.shape[1], (N_BOOTSTRAP, codes.shape[1]))
    low, high = np.quantile([score(*codes[:, rows]) for rows in samples], [0.025, 0.975])
    value = score(*codes)
    return Estimate(value, float(min(low, value)), float(max(high, value)))
