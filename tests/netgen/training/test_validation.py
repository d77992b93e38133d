"""Validation while training: what is held back, which weights are kept, when it stops."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netgen
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.training import validation
from netgen.training.validation import Check, Validator, due, train_val_split


def flows(classes: Any = (("a", 30), ("b", 30), ("few", 5)), captures: Any = 6) -> Any:
    draw = np.random.default_rng(0)
    labels = [name for name, number in classes for _ in range(number)]
    packets = draw.integers(0, 3, (len(labels), 2, 8)) + (np.array(labels) == "b")[:, None, None]
    packets[:, 0, 0] = 1
    series = np.concatenate([packets * 100, packets], axis=1)
    source = [f"{place % captures}.pcap" for place in range(len(labels))]
    return FlowTable.build(series, SeriesSpec(bin_ns=10**8, length=8), label=labels, source=source)


def test_a_share_of_each_large_class_is_held_back_by_capture_and_small_classes_are_learnt_whole() -> None:
    table = flows()
    kept, held = train_val_split(table, 0.2, 0)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(65))
    assert set(table.labels[held].tolist()) == {"a", "b"}
    assert 0.1 <= len(held) / 60 <= 0.3
    sources = np.array(table.table["source"].to_pylist())
    large = kept[table.labels[kept] != "few"]
    assert not set(sources[large].tolist()) & set(sources[held].tolist())
    assert (train_val_split(table, 0.2, 0)[1] == held).all()
    assert len(train_val_split(table, 0.0, 0)[1]) == 0


def test_checks_are_due_eight_times_not_too_early_and_not_too_dear() -> None:
    assert not due(0, 0.5, 100, None, 1, 0)  # too early
    assert not due(0, 0.1, 300, None, 1, 0)
    assert due(0, 0.125, 300, None, 1, 0)
    assert not due(1, 0.2, 300, None, 1, 0)
    assert due(7, 1.0, 300, 60, 60, 50)  # the last, whatever it costs
    assert not due(1, 0.5, 300, 60, 30, 10)  # twice 10 s of 30
    assert due(1, 0.5, 300, None, 30, 10)  # by steps alone it does not matter


class State:
    """What a validator needs of a training: weights with a name."""

    def __init__(self) -> None:
        self.step, self.average = 0, self
        self.weights = {}

    def state_dict(self) -> Any:
        return {}

    def load_state_dict(self, weights: Any) -> None:
        self.weights = dict(weights)


def checked(*scores: Any) -> Any:
    """A validator after checks of such scores and closest shares."""
    found = Validator.__new__(Validator)
    found._truth, found.history, found.best, found._weights, found.stopped = np.zeros(100), [], None, {}, ""
    for step, (score, near) in enumerate(scores):
        check = Check(step, score, 0.9, near, near - 0.05)
        found.history.append(check)
        if check.closest_low <= validation.MEMORISED and (found.best is None or score >= found.best.macro_f1):
            found.best = check
    return found


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([(0.5, 0.5), (0.8, 0.5)], 1),
        ([(0.8, 0.5), (0.79, 0.5)], 1),  # worse, but not by more than chance
        ([(0.8, 0.5), (0.6, 0.5), (0.74, 0.5)], 2),  # one standard error is 0.04; the best of many is best by chance
        ([(0.9, 0.5), (0.5, 0.5)], 0),
        ([(0.6, 0.5), (0.9, 0.8), (0.95, 0.9)], 0),  # what memorises is not kept
    ],
)
def test_the_last_weights_are_kept_unless_earlier_ones_are_better_by_more_than_chance_or_these_memorise(
    scores: Any, kept: int
) -> None:
    assert checked(*scores).settle(State()).step == kept


def test_a_training_that_memorises_is_stopped_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "FIRST", 2)
    monkeypatch.setattr(validation, "STEPS", 2)
    monkeypatch.setattr(validation, "MEMORISED", -1.0)
    model = netgen.train(flows(), out=tmp_path / "m.safetensors", steps=16, threads=1, precision="float32")
    found = model.training["validation"]
    assert model.training["steps"] == 4  # the second check
    assert "memorise" in found["stopped"]
    assert len(found["checks"]) == 2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "FIRST", 2)
    monkeypatch.setattr(validation, "STEPS", 2)
    monkeypatch.setattr(validation, "CHECKS", 3)


def test_checks_are_logged_kept_in_the_model_and_change_no_weight(
    quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 9, "threads": 1, "precision": "float32", "seed": 1}
    with_checks = netgen.train(flows(), out=tmp_path / "m.safetensors", **settings)
    found = with_checks.training["validation"]
    assert [each["step"] for each in found["checks"]] == [3, 6, 9]
    assert found["flows"] + sum(with_checks.training["flows"].values()) == 65
    lines = [json.loads(line) for line in (tmp_path / "m.metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line.get("check")] == [3, 6, 9]
    monkeypatch.setattr(validation, "FIRST", 10**9)
    without = netgen.train(flows(), **settings)
    if found["kept"]["step"] == 9:
        assert without.weights_sha256() == with_checks.weights_sha256()
    assert netgen.Model.load(tmp_path / "m.safetensors").training["validation"] == found


def test_checks_know_nothing_of_the_flows_that_are_held_back(quick: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model draws for them is like the flows that were learnt from alone."""
    seen = []
    check = validation.Validator.check

    def noted(self, state: Any) -> Any:
        model = self._model_of(copy.deepcopy(state.average))
        seen.append((np.count_nonzero(~np.isnan(model.traits.real[..., 0])), model.limits.largest.max()))
        return check(self, state)

    monkeypatch.setattr(validation.Validator, "check", noted)
    table = flows()
    series = table.series()
    rows = train_val_split(table, 0.1, 0)[1]
    series[rows[:1], 0, 0] = 1400 * series[rows[:1], 2, 0]  # the largest packet is held back
    table = FlowTable.build(series, table.spec, label=table.labels.tolist(), source=table.table["source"].to_pylist())
    model = netgen.train(table, steps=3, threads=1, precision="float32")
    assert seen
    assert {many for many, _ in seen} == {len(table) - len(rows)}
    assert max(largest for _, largest in seen) < 1400 <= model.limits.largest.max()


def test_what_is_measured_after_a_training_is_measured_on_all_flows(
    quick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    monkeypatch.setattr(netgen.training, "calibrate", lambda model, *given, **_: measured.append(given) or model)
    table = flows()
    model = netgen.train(table, steps=3, threads=1, precision="float32")
    held = model.training["validation"]["flows"]
    assert held > 0
    assert np.count_nonzero(~np.isnan(model.traits.real[..., 0])) == len(table)
    ((series, labels),) = measured
    np.testing.assert_array_equal(series, table.series())
    np.testing.assert_array_equal(np.array(model.classes)[labels], table.labels.astype(str))


def test_nothing_is_held_back_where_that_is_asked(quick: Any) -> None:
    model = netgen.train(flows(), steps=3, validation=0, threads=1, precision="float32")
    assert sum(model.training["flows"].values()) == 65
    assert "validation" not in model.training


def test_what_was_found_so_far_goes_on_after_an_interruption(quick: Any) -> None:
    table = flows()
    kept, held = train_val_split(table, 0.2, 0)
    first = Validator(table.take(kept), table.take(held), lambda network: None, seed=0)
    first.history = [Check(3, 0.5, 0.9, 0.5, 0.4), Check(6, 0.4, 0.9, 0.5, 0.4)]
    first.best = first.history[0]
    again = Validator(table.take(kept), table.take(held), lambda network: None, seed=0)
    again.restore(json.loads(json.dumps(first.to_json())), first.tensors())
    assert (again.history, again.best) == (first.history, first.best)
