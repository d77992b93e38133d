"""Each measure moves the right way when flows are spoilt in a known way, and the verdict with it."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from netgen.capture.errors import NetgenError, TableError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.evaluation import evaluate as evaluation
from netgen.evaluation import realism, usefulness
from netgen.evaluation.evaluate import class_table, evaluate
from netgen.evaluation.metrics import METRICS, SIDES
from netgen.evaluation.privacy import shifted

SPEC = SeriesSpec(bin_ns=10**8, length=32)
CLASSES = ("bulk", "chat", "page")


def made(seed: Any, number: Any = 60, classes: Any = CLASSES) -> Any:
    """Flows of three kinds: a long transfer, now and then a message, a few bursts that fade."""
    draw = np.random.default_rng(seed)
    series, labels = [], []
    for name in classes:
        for _ in range(number):
            down = np.zeros(32)
            if name == "bulk":
                down[: draw.integers(20, 33)] = draw.lognormal(3, 0.3)
            elif name == "chat":
                down[np.cumsum(draw.integers(1, 6, 8)) % 32] = draw.integers(1, 4, 8)
            else:
                for begin in draw.integers(0, 24, 3):
                    down[begin : begin + 6] += draw.lognormal(2.5, 0.3) * 0.6 ** np.arange(6)
            down = np.floor(down * draw.uniform(0.8, 1.25, 32)).astype(int)
            down[0] = max(down[0], 1)
            up = (down + 1) // 2
            series.append([up * 60, down * draw.integers(1200, 1400, 32), up, down])
            labels.append(name)
    source = [f"{seed}.pcap"] * len(labels)
    return FlowTable.build(np.array(series), SPEC, label=labels, source=source)


def changed(table: Any, series: Any = None, labels: Any = None) -> Any:
    series = table.series() if series is None else series
    labels = table.labels.tolist() if labels is None else labels
    return FlowTable.build(series, SPEC, label=labels, synthetic=True)


REAL, HELD, FRESH = made(1), made(2), made(3)


def noise() -> Any:
    factor = np.random.default_rng(0).lognormal(0, 1.0, (len(FRESH), 1, 32))
    return changed(FRESH, np.ceil(FRESH.series() * factor).astype(np.int64))


def reverse() -> Any:
    return changed(FRESH, FRESH.series()[..., ::-1])


def scale() -> Any:
    return changed(FRESH, FRESH.series() * 3)


def shuffle_labels() -> Any:
    return changed(FRESH, labels=np.random.default_rng(0).permutation(FRESH.labels).tolist())


def drop_class() -> Any:
    return changed(FRESH.take(np.flatnonzero(FRESH.labels != "page")))


def copy_half() -> Any:
    return concat([FRESH.take(range(0, len(FRESH), 2)), REAL.take(range(1, len(REAL), 2))])


def copy_half_shifted() -> Any:
    moved = changed(REAL.take(range(1, len(REAL), 2)), shifted(REAL.series()[1::2], 1))
    return concat([changed(FRESH.take(range(0, len(FRESH), 2))), moved])


#: What is done to fresh flows, the measures that must get worse beyond their interval, and those that must not.
SPOILT = {
    noise: ("told_apart earth_mover frechet precision density", "exact_copies near_share runs"),
    reverse: ("told_apart earth_mover frechet precision coverage", "totals runs exact_copies"),
    scale: ("told_apart earth_mover totals frechet precision coverage forest_ratio", "runs exact_copies"),
    shuffle_labels: (
        "forest_accuracy forest_ratio forest_macro_f1 network_accuracy network_macro_f1",
        "told_apart earth_mover totals runs frechet precision coverage exact_copies closest_share",
    ),
    drop_class: ("forest_accuracy forest_macro_f1 network_macro_f1 recall coverage", "exact_copies closest_share"),
    copy_half: ("exact_copies near_share closest_share membership", "earth_mover totals runs forest_ratio"),
    copy_half_shifted: ("shifted_copies near_share closest_share membership", "exact_copies forest_ratio runs"),
}


@pytest.fixture(scope="module", autouse=True)
def _little_effort() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usefulness, "TREES", 40)
        patch.setattr(usefulness, "STEPS", 60)
        patch.setattr(usefulness, "DRAWS", 60)
        patch.setattr(realism, "TREES", 60)
        yield


@pytest.fixture(scope="module")
def clean(_little_effort: Any) -> Any:
    return evaluate(REAL, FRESH, holdout=HELD)


def test_fresh_flows_score_at_the_floor(clean: Any) -> None:
    """What another draw of the same traffic scores is no worse than the floor, and the verdict says so."""
    for row in clean.rows.values():
        floor = row.floor
        if row.measure.better == "high":
            assert row.synth.high >= floor.low, row
        elif row.measure.better == "low":
            assert row.synth.low <= floor.high, row
        else:
            assert row.synth.low <= max(floor.high, 0.5), row
    assert (clean.verdict.use, clean.verdict.share) == ("replace", "yes"), clean.verdict


def test_shuffled_real_flows_are_told_at_once_and_a_copycat_is_caught(clean: Any) -> None:
    rows = clean.rows
    assert rows["told_apart"].shuffled.low > 0.95
    for name in ("earth_mover", "autocorrelation", "runs", "frechet"):
        assert rows[name].shuffled.low > rows[name].floor.high, name
    assert rows["exact_copies"].resample.value == rows["near_share"].resample.value == 1
    assert rows["closest_share"].resample.low > 0.9
    assert rows["membership"].resample.low > 0.6


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda each: each.__name__)
def test_every_known_fault_moves_the_measures_that_see_it(clean: Any, spoil: Any) -> None:
    worse, not_worse = (names.split() for names in SPOILT[spoil])
    found = evaluate(REAL, spoil(), holdout=HELD)
    for name in worse:
        was, now = clean.rows[name].synth, found.rows[name].synth
        if clean.rows[name].measure.better == "high":
            assert now.high < was.low or now.value < 0.8 * was.value, (name, was, now)
        else:
            assert now.low > was.high or now.value > 1.5 * was.value + 0.01, (name, was, now)
    for name in not_worse:
        was, now = clean.rows[name].synth, found.rows[name].synth
        assert now.low <= was.high, (name, was, now) if clean.rows[name].measure.better != "high" else ()
        assert now.high >= was.low, (name, was, now)


def test_a_copy_of_the_training_flows_is_condemned() -> None:
    found = evaluate(REAL, changed(REAL), holdout=HELD)
    assert found.verdict.share == "no"
    assert "100.0% of rows are exact copies" in found.verdict.text


def test_copies_are_caught_without_a_hold_out_too_and_otherwise_it_says_that_it_cannot_tell() -> None:
    copied = evaluate(REAL, copy_half())
    assert copied.verdict.share == "no"
    fresh = evaluate(REAL, FRESH)
    assert fresh.verdict.share == "unknown"
    assert fresh.rows["closest_share"].synth is None
    assert any("--holdout" in reason for reason in fresh.verdict.reasons)
    assert any("one source each" in reason for reason in fresh.verdict.reasons)


def test_without_a_hold_out_real_flows_are_divided_by_capture() -> None:
    parts = [made(seed, 20) for seed in range(4, 9)]
    found = evaluate(concat(parts), FRESH)
    train, held = (set(flows.sources.tolist()) for flows in (found.sets.train, found.sets.held))
    assert not train & held
    assert train | held == {f"{seed}.pcap" for seed in range(4, 9)}
    assert any("by capture" in reason for reason in found.verdict.reasons)


def test_the_hold_out_itself_is_not_taken_for_synthetic_flows() -> None:
    found = evaluate(REAL, HELD, holdout=HELD)
    assert any("hold-out itself" in reason for reason in found.verdict.reasons)
    assert found.rows["exact_copies"].synth.value == 0
    assert found.verdict.use == "replace"


def test_where_most_flows_recur_a_hold_out_is_one_unless_it_is_handed_out_itself() -> None:
    """Of a home's devices most flows are the same as others: among training flows, held-back and new ones alike."""

    def recurring(table: Any) -> Any:
        series = table.series()
        series[np.arange(len(series)) % 10 < 7] = REAL.series()[0]
        return changed(table, series)

    real, held, new = recurring(REAL), recurring(HELD), recurring(made(7))
    fair, handed = evaluate(real, new, holdout=held), evaluate(real, held, holdout=held)
    assert fair.sets.unseen
    assert fair.rows["exact_copies"].synth.value == pytest.approx(0.7)
    assert fair.rows["exact_copies"].floor.value == pytest.approx(0.7, abs=0.1)
    assert "exact copies" not in fair.verdict.text
    assert not handed.sets.unseen
    assert any("hold-out itself" in reason for reason in handed.verdict.reasons)
    # a dozen of its flows among many others do not make it so
    some = concat([real, real, held.take(np.arange(170, 180))])
    assert evaluate(real, some, holdout=held).sets.unseen


def test_training_flows_are_no_hold_out() -> None:
    found = evaluate(REAL, REAL, holdout=REAL)
    assert not found.sets.unseen
    assert any("are training flows, too" in reason for reason in found.verdict.reasons)
    assert found.verdict.share == "no"


def test_missing_and_unknown_classes_are_named() -> None:
    strange = concat([drop_class(), changed(made(4, 20, ["bulk"]), labels=["other"] * 20)])
    found = evaluate(REAL, strange, holdout=HELD)
    assert found.sets.missing == ["page"]
    assert found.verdict.use != "replace"
    text = " ".join(found.verdict.reasons)
    assert "lack the class page" in text
    assert "lacks other" in text
    assert {row["class"]: row["synth"] for row in class_table(found)} == {"bulk": 60, "chat": 60, "page": 0}


def test_flows_without_labels_are_judged_by_the_rest() -> None:
    bare = [changed(each, labels=[None] * len(each)) for each in (REAL, FRESH, HELD)]
    found = evaluate(bare[0], bare[1], holdout=bare[2])
    assert found.verdict.use == "unknown"
    assert found.rows["forest_ratio"].synth is None
    assert found.rows["told_apart"].synth.value < 0.65


def test_the_json_holds_the_verdict_its_reasons_and_every_figure_with_its_floor(clean: Any) -> None:
    found = json.loads(json.dumps(clean.to_json(), allow_nan=False))
    assert found["verdict"]["use"] == "replace"
    assert found["reasons"] == clean.verdict.reasons
    assert list(found["figures"]) == [measure.name for measure in METRICS]
    for name, figure in found["figures"].items():
        assert {"value", "low", "high", *SIDES[1:]} <= set(figure), name
        assert figure["low"] <= figure["value"] <= figure["high"], name
        assert figure["floor"]["low"] <= figure["floor"]["value"] <= figure["floor"]["high"], name


def test_the_same_tables_and_seed_give_the_same_figures_and_progress_is_told_step_by_step(clean: Any) -> None:
    told = []
    again = evaluate(REAL, FRESH, holdout=HELD, progress=lambda *each: told.append(each))
    assert again.to_json() == clean.to_json()
    assert [done for _, done, _ in told] == list(range(len(told)))
    assert {total for _, _, total in told} == {len(told) - 1}


def test_without_anchors_the_other_figures_are_the_same(clean: Any) -> None:
    bare = evaluate(REAL, FRESH, holdout=HELD, anchors=False)
    for name, row in clean.rows.items():
        found = bare.rows[name]
        assert (found.synth, found.floor) == (row.synth, row.floor)
        assert (found.shuffled, found.resample) == (None, None)
    assert bare.verdict == clean.verdict


def test_at_most_so_many_flows_are_used_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MOST", 50)
    found = evaluate(REAL, FRESH, holdout=HELD)
    assert len(found.sets.train) == len(found.sets.synth) == 50
    assert any("50 of 180 synthetic flows were used" in reason for reason in found.verdict.reasons)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(NetgenError, match="cannot be compared"):
        evaluate(REAL, FlowTable.build(np.ones((20, 4, 16), int), SeriesSpec(bin_ns=10**8, length=16), label="bulk"))
    with pytest.raises(TableError, match="too few"):
        evaluate(REAL, FRESH.take(range(3)))
    with pytest.raises(TableError, match="3 held-back real flows are too few"):
        evaluate(REAL, FRESH, holdout=HELD.take(range(3)))
    with pytest.raises(TableError, match="none of the real flows' classes"):
        evaluate(REAL, changed(FRESH, labels=["x"] * len(FRESH)))
