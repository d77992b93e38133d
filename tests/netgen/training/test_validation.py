"""Validation during training: held-out flows, the weights that are kept, and stopping."""

import copy
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import netgen
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.training import train as train_module
from netgen.training import validation
from netgen.training.validation import Check, Validator, check_is_due, train_val_split

pytestmark = pytest.mark.usefixtures("one_thread", "quick_calibration")


def flows(classes: Any = (("a", 30), ("b", 30), ("few", 5)), captures: Any = 6) -> Any:
    rng = np.random.default_rng(0)
    labels = [name for name, number in classes for _ in range(number)]
    packets = rng.integers(0, 3, (len(labels), 2, 8)) + (np.array(labels) == "b")[:, None, None]
    packets[:, 0, 0] = 1
    series = np.concatenate([packets * 100, packets], axis=1)
    source = [f"{row % captures}.pcap" for row in range(len(labels))]
    return FlowTable.build(series, SeriesSpec(bin_ns=10**8, length=8), label=labels, source=source)


def test_a_fraction_of_large_classes_is_held_out_by_capture_and_nothing_of_small_ones() -> None:
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


def test_checks_are_due_eight_times_unless_too_early_or_too_slow() -> None:
    assert not check_is_due(0, 0.5, 100, None, 1, 0)  # too early
    assert not check_is_due(0, 0.1, 300, None, 1, 0)
    assert check_is_due(0, 0.125, 300, None, 1, 0)
    assert not check_is_due(1, 0.2, 300, None, 1, 0)
    assert check_is_due(7, 1.0, 300, 60, 60, 50)  # the last check is due at any cost
    assert not check_is_due(1, 0.5, 300, 60, 30, 10)  # twice 10 s of 30
    assert check_is_due(1, 0.5, 300, None, 30, 10)  # without a time limit the duration does not matter


class State:
    """The part of a training state that a validator uses."""

    def __init__(self) -> None:
        self.step, self.ema = 0, self
        self.weights: dict[str, Any] = {}

    def state_dict(self) -> Any:
        return {}

    def load_state_dict(self, weights: Any) -> None:
        self.weights = dict(weights)


def checked(*scores: Any) -> Any:
    """Return a validator after checks with these scores and closest-record shares."""
    validator = Validator.__new__(Validator)
    validator._labels, validator.history, validator.best, validator.stopped = np.zeros(100), [], None, ""
    validator._weights = {}
    for step, (score, near) in enumerate(scores):
        check = Check(step, score, 0.9, near, near - 0.05)
        validator.history.append(check)
        if check.closest_low <= validation.MEMORISATION_SHARE and (
            validator.best is None or score >= validator.best.macro_f1
        ):
            validator.best = check
    return validator


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([(0.5, 0.5), (0.8, 0.5)], 1),
        ([(0.8, 0.5), (0.79, 0.5)], 1),  # worse, but not by more than chance
        ([(0.8, 0.5), (0.6, 0.5), (0.74, 0.5)], 2),  # one standard error is 0.04; the best of many is best by chance
        ([(0.9, 0.5), (0.5, 0.5)], 0),
        ([(0.6, 0.5), (0.9, 0.8), (0.95, 0.9)], 0),  # weights that memorise are not kept
    ],
)
def test_the_last_weights_are_kept_unless_earlier_ones_are_significantly_better_or_these_memorise(
    scores: Any, kept: int
) -> None:
    assert checked(*scores).select_weights(State()).step == kept


def test_a_training_that_memorises_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "FIRST_CHECK_STEP", 2)
    monkeypatch.setattr(validation, "SAMPLING_STEPS", 2)
    monkeypatch.setattr(validation, "MEMORISATION_SHARE", -1.0)
    model = netgen.train(
        flows(), out=tmp_path / "m.safetensors", training_steps=16, threads=1, precision="float32", preset="tiny"
    )
    summary = model.training["validation"]
    assert model.training["steps"] == 4  # the second check
    assert "memorise" in summary["stopped"]
    assert len(summary["checks"]) == 2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "FIRST_CHECK_STEP", 2)
    monkeypatch.setattr(validation, "SAMPLING_STEPS", 2)
    monkeypatch.setattr(validation, "N_CHECKS", 3)


@pytest.mark.usefixtures("quick")
def test_checks_are_logged_kept_in_the_model_and_change_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"training_steps": 9, "preset": "tiny", "threads": 1, "precision": "float32", "seed": 1}
    with_checks = netgen.train(flows(), out=tmp_path / "m.safetensors", **settings)
    summary = with_checks.training["validation"]
    assert [check["step"] for check in summary["checks"]] == [3, 6, 9]
    assert summary["flows"] + sum(with_checks.training["flows"].values()) == 65
    lines = [json.loads(line) for line in (tmp_path / "m.metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line.get("check")] == [3, 6, 9]
    monkeypatch.setattr(validation, "FIRST_CHECK_STEP", 10**9)
    without = netgen.train(flows(), **settings)
    if summary["kept"]["step"] == 9:
        assert without.weights_sha256() == with_checks.weights_sha256()
    assert netgen.Model.load(tmp_path / "m.safetensors").training["validation"] == summary


@pytest.mark.usefixtures("quick")
def test_checks_do_not_use_the_held_out_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model that a check samples from has the statistics of the training flows alone."""
    seen = []
    check = validation.Validator.check

    def recorded(self: Any, state: Any) -> Any:
        model = self._build_model(copy.deepcopy(state.ema))
        seen.append((np.count_nonzero(~np.isnan(model.flow_features.real[..., 0])), model.limits.largest.max()))
        return check(self, state)

    monkeypatch.setattr(validation.Validator, "check", recorded)
    table = flows()
    series = table.series()
    rows = train_val_split(table, 0.1, 0)[1]
    series[rows[:1], 0, 0] = 1400 * series[rows[:1], 2, 0]  # the largest packet is held out
    table = FlowTable.build(series, table.spec, label=table.labels.tolist(), source=table.table["source"].to_pylist())
    model = netgen.train(table, training_steps=3, threads=1, precision="float32", preset="tiny")
    assert seen
    assert {flows for flows, _ in seen} == {len(table) - len(rows)}
    assert max(largest for _, largest in seen) < 1400 <= model.limits.largest.max()


@pytest.mark.usefixtures("quick")
def test_calibration_uses_all_labelled_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Any] = []

    def record(model: Any, *given: Any, **_: Any) -> Any:
        measured.append(given)
        return model

    monkeypatch.setattr(train_module, "calibrate", record)
    table = flows()
    model = netgen.train(table, training_steps=3, threads=1, precision="float32", preset="tiny")
    held = model.training["validation"]["flows"]
    assert held > 0
    assert np.count_nonzero(~np.isnan(model.flow_features.real[..., 0])) == len(table)
    ((series, labels),) = measured
    np.testing.assert_array_equal(series, table.series())
    np.testing.assert_array_equal(np.array(model.classes)[labels], table.labels.astype(str))


@pytest.mark.usefixtures("quick")
def test_no_validation_holds_nothing_out() -> None:
    model = netgen.train(flows(), training_steps=3, validation=0, threads=1, precision="float32", preset="tiny")
    assert sum(model.training["flows"].values()) == 65
    assert "validation" not in model.training


@pytest.mark.usefixtures("quick")
def test_checks_survive_an_interruption() -> None:
    table = flows()
    kept, held = train_val_split(table, 0.2, 0)
    first = Validator(table.take(kept), table.take(held), cast("Any", None), seed=0)
    first.history = [Check(3, 0.5, 0.9, 0.5, 0.4), Check(6, 0.4, 0.9, 0.5, 0.4)]
    first.best = first.history[0]
    again = Validator(table.take(kept), table.take(held), cast("Any", None), seed=0)
    again.restore(json.loads(json.dumps(first.to_json())), first.tensors())
    assert (again.history, again.best) == (first.history, first.best)
