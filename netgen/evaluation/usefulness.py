"""Usefulness: trained on one table, tested on another."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.estimate import Estimate
from netgen.evaluation.feature_spaces import LogSpace, cumulative, one_thread

#: Trees of a forest; batches that the convolutional network is trained on.
TREES, STEPS = 200, 500

#: Draws of the test flows behind an interval.
DRAWS = 200


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


def usefulness(train: FlowTable, test: FlowTable, *, seed: int = 0, trees: int | None = None) -> Usefulness:
    """A random forest trained on the labelled flows of `train`, tested on those of `test`.

    Raises
    ------
    SpecMismatch
        If their series differ.
    TableError
        If either has no labels.
    """
    train.spec.require_equal(test.spec, "the training table", "the test table")
    train, test = train.labelled(), test.labelled()
    truth = test.labels.astype(str)
    said = forest(train.series(), train.labels.astype(str), test.series(), seed=seed, trees=trees)
    return Usefulness(
        accuracy=float((said == truth).mean()),
        macro_f1=float(macro_f1(truth, said)),
        trained_on=len(train),
        tested_on=len(test),
    )


def forest(
    series: np.ndarray, labels: np.ndarray, test: np.ndarray, *, seed: int = 0, trees: int | None = None
) -> np.ndarray:
    """What a random forest trained on series and their running sums says of others; str, shape (test,)."""
    said: np.ndarray = _grown(cumulative(series), labels, seed, trees or TREES).predict(cumulative(test))
    return said


def forest_probabilities(
    points: np.ndarray, labels: np.ndarray, test: np.ndarray, *, seed: int = 0, trees: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """How likely each class is to such a forest, of points as `cumulative` makes them.

    Returns
    -------
    classes : ndarray of str, sorted
    chances : ndarray of float64, shape (test, classes)
    """
    model = _grown(points, labels, seed, trees or TREES)
    model.n_jobs = 1  # threads would add up the trees in any order, and so round otherwise each time
    return model.classes_, model.predict_proba(test)


def _grown(points: np.ndarray, labels: np.ndarray, seed: int, trees: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(trees, random_state=seed, n_jobs=2)
    with warnings.catch_warnings():
        # many classes of few flows are what is asked about, and no regression
        warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
        return model.fit(points, labels)


def network(
    series: np.ndarray, labels: np.ndarray, test: np.ndarray, *, seed: int = 0, steps: int | None = None
) -> np.ndarray:
    """What a small convolutional network trained on the same says; str, shape (test,).

    Three convolutions over the logarithms of series and running sums, their largest and mean
    responses, one linear layer: some 60,000 parameters. Classes are drawn equally often.
    """
    with one_thread():
        return _trained(series, labels, test, seed, steps or STEPS)


def _trained(series: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int, steps: int) -> np.ndarray:
    import torch
    from torch import nn

    classes, number = np.unique(labels, return_inverse=True)
    both = _with_sums(series)
    space = LogSpace.of(both)
    data, target = torch.from_numpy(space(both)), torch.from_numpy(number)
    width = data.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = nn.Sequential(
            nn.Conv1d(width, 48, 5, padding=2), nn.BatchNorm1d(48), nn.ReLU(),
            nn.Conv1d(48, 64, 5, padding=2, stride=2), nn.BatchNorm1d(64), nn.ReLU(),
            nn.Conv1d(64, 96, 5, padding=2, stride=2), nn.BatchNorm1d(96), nn.ReLU(),
        )  # fmt: skip
        head = nn.Linear(2 * 96, len(classes))
        parameters = [*body.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
        odds = (1 / torch.bincount(target).double())[target]
        for _ in range(steps):
            rows = torch.multinomial(odds, 64, replacement=True)
            response = body(data[rows])
            loss = nn.functional.cross_entropy(head(_pooled(response)), target[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    body.eval()
    seen = torch.from_numpy(space(_with_sums(test)))
    with torch.inference_mode():
        said = [head(_pooled(body(seen[first : first + 1024]))).argmax(1) for first in range(0, len(seen), 1024)]
    return classes[torch.cat(said).numpy()] if said else classes[:0]


def _with_sums(series: np.ndarray) -> np.ndarray:
    return np.concatenate([series, series.cumsum(-1)], axis=1)


def _pooled(response: Any) -> Any:
    import torch

    return torch.cat([response.amax(2), response.mean(2)], dim=1)


CLASSIFIERS: dict[str, Callable[..., np.ndarray]] = {"forest": forest, "network": network}


def macro_f1(truth: np.ndarray, said: np.ndarray) -> float:
    """F1 averaged over the classes that occur in `truth`; a class that is never said has 0."""
    return float(class_f1(truth, said)[1].mean())


def class_f1(truth: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes that occur in `truth`, and the F1 of each."""
    names, number = np.unique(truth, return_inverse=True)
    guess = np.searchsorted(names, said)
    guess = np.where((guess < len(names)) & (names[np.minimum(guess, len(names) - 1)] == said), guess, len(names))
    right = np.bincount(number[guess == number], minlength=len(names))
    there = np.bincount(number, minlength=len(names))
    claimed = np.bincount(guess, minlength=len(names) + 1)[: len(names)]
    return names, 2 * right / np.maximum(there + claimed, 1)


def confusion(truth: np.ndarray, said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All classes in either, and how many flows of each (rows) were said to be of each (columns)."""
    names = np.unique(np.concatenate([truth, said]))
    table = np.zeros((len(names), len(names)), np.int64)
    np.add.at(table, (np.searchsorted(names, truth), np.searchsorted(names, said)), 1)
    return names, table


def scores(truth: np.ndarray, said: np.ndarray, *, seed: int = 0) -> dict[str, Estimate]:
    """Accuracy and macro F1, with intervals over draws of the test flows."""
    return {name: _drawn(how, seed, truth, said) for name, how in _HOW.items()}


def ratios(truth: np.ndarray, said: np.ndarray, by_real: np.ndarray, *, seed: int = 0) -> dict[str, Estimate]:
    """The same over those of a classifier that was trained on real flows, on the same draws."""
    return {
        name: _drawn(lambda t, a, b, how=how: how(t, a) / max(how(t, b), 1e-9), seed, truth, said, by_real)
        for name, how in _HOW.items()
    }


def _accuracy(truth: np.ndarray, said: np.ndarray) -> float:
    return float((truth == said).mean())


_HOW = {"accuracy": _accuracy, "macro_f1": macro_f1}


def _drawn(how: Any, seed: int, *sides: np.ndarray) -> Estimate:
    generator = np.random.default_rng(seed)
    codes = np.unique(np.concatenate(sides), return_inverse=True)[1].reshape(len(sides), -1)  # numbers sort faster
    rows = generator.integers(0, codes.shape[1], (DRAWS, codes.shape[1]))
    low, high = np.quantile([how(*codes[:, each]) for each in rows], [0.025, 0.975])
    value = how(*codes)
    return Estimate(value, float(min(low, value)), float(max(high, value)))
