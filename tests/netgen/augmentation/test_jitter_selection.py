"""The trial of jittered flows: it finds from real flows alone whether the last digits of numbers tell classes apart."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from netgen.augmentation import jitter_selection
from netgen.augmentation.jitter_selection import NONE, tried
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.feature_spaces import cumulative
from netgen.evaluation.usefulness import forest_probabilities, predict_forest

SPEC = SeriesSpec(bin_ns=10**8, length=16)
CLASSES = 5


def of_sizes(size: Any, flows: Any = 8, seed: Any = 0) -> Any:
    """Flows of a packet each way in each bin; `size` says of what size, of class (flows, 1, 1), generator and shape."""
    generator = np.random.default_rng(seed)
    number = np.repeat(np.arange(CLASSES), flows)
    series = np.ones((len(number), 4, 16), np.int64)
    series[:, :2] = size(number[:, None, None], generator, (len(number), 2, 16))
    return FlowTable.build(series, SPEC, label=[f"class{each}" for each in number])


def exact(number: Any, generator: Any, shape: Any) -> Any:
    """A packet in ten has the class's own size, which differs from the next class's by a hundredth."""
    return np.where(generator.random(shape) < 0.1, 600 + 6 * number, 60)


def rough(number: Any, generator: Any, shape: Any) -> Any:
    """Sizes spread by a seventh around a class's own, which is a twentieth above that of the class before."""
    return np.rint(400 * 1.05**number * np.exp(generator.normal(0, 0.15, shape))).astype(int)


@pytest.mark.parametrize("seed", range(3))
def test_jitter_is_not_chosen_where_exact_sizes_tell_classes_apart(seed: Any) -> None:
    """As of cells of one size: with jittered flows, those held back are less likely to be of their own class."""
    found = tried(of_sizes(exact, seed=seed), seed)
    assert found.flows == CLASSES * 8
    assert 0 < found.jittered < found.repeated <= 1
    assert found.share == 0


@pytest.mark.parametrize("seed", range(3))
def test_jitter_is_chosen_where_digits_say_nothing(seed: Any) -> None:
    found = tried(of_sizes(rough, flows=5, seed=seed), seed)
    assert 0 < found.repeated < found.jittered <= 1
    assert found.share == 0.5


def test_series_of_packets_are_tried_like_those_of_bins() -> None:
    """One packet has its class's own size, to the byte; other sizes, and gaps, say nothing."""
    generator, number = np.random.default_rng(0), np.repeat(np.arange(CLASSES), 8)
    series = generator.integers(1, 1000, (len(number), 2, 16))
    series[:, 0] += 40
    series[:, 0, 1::2] *= -1
    series[:, 0, 4] = 600 + 6 * number
    series[:, 1, 0] = 0
    found = tried(FlowTable.build(series, SeriesSpec.packets(16), label=[f"class{each}" for each in number]))
    assert found.flows == len(number)
    assert 0 < found.jittered < found.repeated <= 1


@pytest.mark.parametrize("seed", [-1, 2**32 - 1, 2**40])
def test_any_seed_will_do(seed: Any) -> None:
    """As for drawing."""
    real = of_sizes(rough, flows=4)
    assert tried(real, seed) == tried(real, seed)
    assert tried(real, seed).flows == CLASSES * 4


@pytest.mark.parametrize("seed", range(3))
def test_rare_classes_that_gain_by_balance_alone_choose_no_jitter(seed: Any) -> None:
    """What is tried is jitter beside repetition: of the same flows, in the same numbers."""
    real = of_sizes(exact, flows=60, seed=seed)
    rare = np.isin(real.labels, ["class3", "class4"]) & (np.arange(len(real)) % 60 >= 6)
    found = tried(real.take(~rare), seed)
    assert found.jittered < found.repeated


def test_equal_flows_of_two_classes_give_the_same_trial_each_time() -> None:
    """Leaves are not pure then, and sums of chances would depend on the order of threads."""
    table = of_sizes(rough)
    both = FlowTable.build(np.tile(table.series()[:8], (3, 1, 1)), SPEC, label=["a", "b", "c"] * 8)
    assert len({tried(both) for _ in range(5)}) == 1


def test_the_same_real_flows_give_the_same_trial_and_progress_is_told() -> None:
    real, told = of_sizes(rough), []
    assert tried(real, 3, lambda *each: told.append(each)) == tried(real, 3)
    assert told == [(turn, 5) for turn in range(6)]
    assert tried(real, 4) != tried(real, 3)


@pytest.mark.parametrize("labels", [["a"] * 6, ["a", "b", "c", "d", "e", "f"], ["a", "a", "a", "a", "a", "b"]])
def test_what_cannot_be_tried_chooses_no_jitter(labels: Any) -> None:
    """There must be two classes with two flows each: else none is held back, or all are of one class."""
    table = FlowTable.build(of_sizes(rough).series()[:6], SPEC, label=labels)
    assert tried(table) == NONE
    assert NONE.share == 0
    assert tried(table.take(np.zeros(6, bool))) == NONE


@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(1, 60), min_size=2, max_size=5), most=st.integers(20, 50), seed=st.integers(0, 99))
def test_every_flow_of_a_class_of_two_is_held_back_once(counts: Any, most: Any, seed: int) -> None:
    """Whatever the numbers of flows; of a class with many twenty, so that it counts no more than others."""
    labels = np.repeat([f"class{each}" for each in range(len(counts))], counts)
    table = FlowTable.build(np.ones((len(labels), 4, 16), np.int64), SPEC, label=labels.tolist())
    some, turns = jitter_selection._some(table, most, np.random.default_rng(seed))
    assert set(some.table["flow"].to_pylist()) <= set(table.table["flow"].to_pylist())
    for name, number in table.counts().items():
        mine = turns[some.labels == name]
        held = mine[mine >= 0]
        assert len(mine) == len(set(some.take(some.labels == name).table["flow"].to_pylist())) == min(number, most)
        assert len(held) == (0 if number == 1 else min(number, 20))
        assert np.bincount(held, minlength=1).max() <= math.ceil(len(held) / 5)


def test_of_many_classes_some_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others as by another seed; none of those tried is cut."""
    monkeypatch.setattr(jitter_selection, "CLASSES", 3)
    some, turns = jitter_selection._some(of_sizes(rough), 50, np.random.default_rng(0))
    assert list(some.counts().values()) == [8, 8, 8]
    assert len(turns) == 24
    chosen = [jitter_selection._some(of_sizes(rough), 50, np.random.default_rng(seed))[0].classes for seed in range(9)]
    assert len({tuple(each) for each in chosen}) > 1
    assert tried(of_sizes(rough)).flows == 24


def test_a_class_that_no_tree_says_is_not_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laplace's rule, and the geometric mean over flows."""
    real = of_sizes(exact, flows=2)

    def sure(points: Any, labels: Any, test: Any, **_: Any) -> Any:
        classes = np.unique(labels)
        return classes, np.tile(np.array([1.0, 0, 0, 0, 0]), (len(test), 1))

    monkeypatch.setattr(jitter_selection, "chances", sure)
    found = tried(real)
    assert found.repeated == pytest.approx((101 / 105) ** (1 / 5) * (1 / 105) ** (4 / 5))
    assert found.jittered == found.repeated
    assert found.share == 0


def test_chances_are_those_of_the_forest_that_decides() -> None:
    """The class that is likeliest is what the forest says; rows add up to 1, and columns are sorted classes."""
    real = of_sizes(rough)
    labels = real.labels.astype(str)
    classes, likely = forest_probabilities(
        cumulative(real.series()[::2]), labels[::2], cumulative(real.series()[1::2]), n_trees=20
    )
    assert classes.tolist() == sorted(set(labels))
    np.testing.assert_allclose(likely.sum(1), 1)
    said = predict_forest(real.series()[::2], labels[::2], real.series()[1::2], n_trees=20)
    np.testing.assert_array_equal(classes[likely.argmax(1)], said)
    peer = RandomForestClassifier(20, random_state=0).fit(cumulative(real.series()[::2]), labels[::2])
    np.testing.assert_allclose(peer.predict_proba(cumulative(real.series()[1::2])), likely)
