"""Cross-validation of jitter: real flows show whether the last digits of numbers tell classes apart."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from netgen.augmentation import jitter_selection
from netgen.augmentation.jitter_selection import NO_SCORES, assign_folds, cross_validate_jitter
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.feature_spaces import cumulative
from netgen.evaluation.usefulness import forest_probabilities, predict_forest

SPEC = SeriesSpec(bin_ns=10**8, length=16)
N_CLASSES = 5

Sizes = Callable[[np.ndarray, np.random.Generator, tuple[int, ...]], np.ndarray]


def flows_of_sizes(sizes: Sizes, flows: int = 8, seed: int = 0) -> FlowTable:
    """Build flows of a packet each way in each bin; `sizes` takes classes (flows, 1, 1), generator and shape."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(N_CLASSES), flows)
    series = np.ones((len(classes), 4, 16), np.int64)
    series[:, :2] = sizes(classes[:, None, None], rng, (len(classes), 2, 16))
    return FlowTable.build(series, SPEC, label=[f"class{index}" for index in classes])


def exact(classes: np.ndarray, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Give a packet in ten its class's own size, which differs from the next class's by a hundredth."""
    return np.where(rng.random(shape) < 0.1, 600 + 6 * classes, 60)


def rough(classes: np.ndarray, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Spread sizes by a seventh around a class's own, which is a twentieth above that of the class before."""
    sizes: np.ndarray = np.rint(400 * 1.05**classes * np.exp(rng.normal(0, 0.15, shape))).astype(int)
    return sizes


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jitter_selection, "N_TREES", 10)


SEEDS = [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]


@pytest.mark.parametrize("seed", SEEDS)
def test_jitter_is_not_chosen_if_exact_sizes_tell_classes_apart(seed: int) -> None:
    """As with cells of one size: jitter makes the true class of held-out flows less probable."""
    scores = cross_validate_jitter(flows_of_sizes(exact, seed=seed), seed)
    assert scores.n_flows == N_CLASSES * 8
    assert 0 < scores.jittered < scores.repeated <= 1
    assert scores.fraction == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_jitter_is_chosen_if_digits_mean_nothing(seed: int) -> None:
    scores = cross_validate_jitter(flows_of_sizes(rough, flows=5, seed=seed), seed)
    assert 0 < scores.repeated < scores.jittered <= 1
    assert scores.fraction == 0.5


def test_series_of_packets_are_scored_like_those_of_bins() -> None:
    """One packet has its class's own size, to the byte; other sizes, and gaps, mean nothing."""
    rng, classes = np.random.default_rng(0), np.repeat(np.arange(N_CLASSES), 8)
    series = rng.integers(1, 1000, (len(classes), 2, 16))
    series[:, 0] += 40
    series[:, 0, 1::2] *= -1
    series[:, 0, 4] = 600 + 6 * classes
    series[:, 1, 0] = 0
    labels = [f"class{index}" for index in classes]
    scores = cross_validate_jitter(FlowTable.build(series, SeriesSpec.packets(16), label=labels))
    assert scores.n_flows == len(classes)
    assert 0 < scores.jittered < scores.repeated <= 1


@pytest.mark.usefixtures("few_trees")
@pytest.mark.parametrize("seed", [-1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2**32 - 1, 2**40))])
def test_any_seed_is_accepted(seed: int) -> None:
    """As for sampling."""
    real = flows_of_sizes(rough, flows=4)
    scores = cross_validate_jitter(real, seed)
    assert scores == cross_validate_jitter(real, seed)
    assert scores.n_flows == N_CLASSES * 4


@pytest.mark.parametrize("seed", SEEDS)
def test_rare_classes_that_gain_by_balance_alone_choose_no_jitter(seed: int) -> None:
    """Jitter is compared to repetition of the same flows, in the same numbers."""
    real = flows_of_sizes(exact, flows=60, seed=seed)
    rare = np.isin(real.labels, ["class3", "class4"]) & (np.arange(len(real)) % 60 >= 6)
    scores = cross_validate_jitter(real.take(~rare), seed)
    assert scores.jittered < scores.repeated


@pytest.mark.slow
def test_equal_flows_of_two_classes_always_get_the_same_scores() -> None:
    """Leaves are not pure then, and sums of probabilities would depend on the order of threads."""
    table = flows_of_sizes(rough)
    both = FlowTable.build(np.tile(table.series()[:8], (3, 1, 1)), SPEC, label=["a", "b", "c"] * 8)
    assert len({cross_validate_jitter(both) for _ in range(5)}) == 1


@pytest.mark.usefixtures("few_trees")
def test_scores_depend_on_the_seed_and_progress_is_reported() -> None:
    real, calls = flows_of_sizes(rough), list[tuple[int, int]]()
    scores = cross_validate_jitter(real, 3, lambda *numbers: calls.append(numbers))
    assert calls == [(fold, 5) for fold in range(6)]
    assert scores != cross_validate_jitter(real, 4)


@pytest.mark.parametrize("labels", [["a"] * 6, ["a", "b", "c", "d", "e", "f"], ["a", "a", "a", "a", "a", "b"]])
def test_flows_that_cannot_be_scored_choose_no_jitter(labels: list[str]) -> None:
    """Two classes with two flows are needed: else none is held out, or all are of one class."""
    table = FlowTable.build(flows_of_sizes(rough).series()[:6], SPEC, label=labels)
    assert cross_validate_jitter(table) == NO_SCORES
    assert NO_SCORES.fraction == 0
    assert cross_validate_jitter(table.take(np.zeros(6, bool))) == NO_SCORES


@settings(max_examples=15)
@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=5), max_flows=st.integers(20, 50), seed=st.integers(0, 99)
)
def test_every_flow_of_a_class_of_two_is_held_out_once(counts: list[int], max_flows: int, seed: int) -> None:
    """Of a large class only twenty, so that it counts no more than others."""
    labels = np.repeat([f"class{index}" for index in range(len(counts))], counts)
    table = FlowTable.build(np.ones((len(labels), 4, 16), np.int64), SPEC, label=labels.tolist())
    chosen, folds = assign_folds(table, max_flows, np.random.default_rng(seed))
    assert set(chosen.table["flow"].to_pylist()) <= set(table.table["flow"].to_pylist())
    for name, count in table.counts().items():
        class_folds = folds[chosen.labels == name]
        held_out = class_folds[class_folds >= 0]
        assert len(class_folds) == len(set(chosen[name].table["flow"].to_pylist())) == min(count, max_flows)
        assert len(held_out) == (0 if count == 1 else min(count, 20))
        assert np.bincount(held_out, minlength=1).max() <= math.ceil(len(held_out) / 5)


@pytest.mark.usefixtures("few_trees")
def test_of_many_classes_only_a_sample_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another seed samples others; classes in the sample keep all flows."""
    monkeypatch.setattr(jitter_selection, "MAX_CLASSES", 3)
    real = flows_of_sizes(rough)
    chosen, folds = assign_folds(real, 50, np.random.default_rng(0))
    assert list(chosen.counts().values()) == [8, 8, 8]
    assert len(folds) == 24
    samples = [assign_folds(real, 50, np.random.default_rng(seed))[0].classes for seed in range(9)]
    assert len({tuple(classes) for classes in samples}) > 1
    assert cross_validate_jitter(real).n_flows == 24


def test_a_class_without_a_vote_is_not_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laplace's rule, and the geometric mean over flows."""
    real = flows_of_sizes(exact, flows=2)

    def first_class(train: Any, labels: np.ndarray, test: np.ndarray, **_: Any) -> tuple[np.ndarray, np.ndarray]:
        assert len(train) == len(labels)
        return np.unique(labels), np.tile(np.array([1.0, 0, 0, 0, 0]), (len(test), 1))

    monkeypatch.setattr(jitter_selection, "forest_probabilities", first_class)
    scores = cross_validate_jitter(real)
    assert scores.repeated == pytest.approx((101 / 105) ** (1 / 5) * (1 / 105) ** (4 / 5))
    assert scores.jittered == scores.repeated
    assert scores.fraction == 0


def test_probabilities_are_those_of_the_forest_that_classifies() -> None:
    """The most probable class is its prediction; rows add up to 1, and columns are sorted classes."""
    real = flows_of_sizes(rough)
    labels = real.labels.astype(str)
    train, test = real.series()[::2], real.series()[1::2]
    classes, probabilities = forest_probabilities(cumulative(train), labels[::2], cumulative(test), n_trees=20)
    assert classes.tolist() == sorted(set(labels))
    np.testing.assert_allclose(probabilities.sum(1), 1)
    np.testing.assert_array_equal(
        classes[probabilities.argmax(1)], predict_forest(train, labels[::2], test, n_trees=20)
    )
    peer = RandomForestClassifier(20, random_state=0).fit(cumulative(train), labels[::2])
    np.testing.assert_allclose(peer.predict_proba(cumulative(test)), probabilities)
