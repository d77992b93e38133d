"""Each metric, and the verdict, react as they should when flows are corrupted in a known way."""

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


def make_flows(seed: Any, count: Any = 60, classes: Any = CLASSES) -> Any:
    """Make flows of three kinds: a long transfer, a message now and then, a few bursts that fade."""
    rng = np.random.default_rng(seed)
    series, labels = [], []
    for name in classes:
        for _ in range(count):
            down = np.zeros(32)
            if name == "bulk":
                down[: rng.integers(20, 33)] = rng.lognormal(3, 0.3)
            elif name == "chat":
                down[np.cumsum(rng.integers(1, 6, 8)) % 32] = rng.integers(1, 4, 8)
            else:
                for begin in rng.integers(0, 24, 3):
                    down[begin : begin + 6] += rng.lognormal(2.5, 0.3) * 0.6 ** np.arange(6)
            down = np.floor(down * rng.uniform(0.8, 1.25, 32)).astype(int)
            down[0] = max(down[0], 1)
            up = (down + 1) // 2
            series.append([up * 60, down * rng.integers(1200, 1400, 32), up, down])
            labels.append(name)
    source = [f"{seed}.pcap"] * len(labels)
    return FlowTable.build(np.array(series), SPEC, label=labels, source=source)


def changed(table: Any, series: Any = None, labels: Any = None) -> Any:
    series = table.series() if series is None else series
    labels = table.labels.tolist() if labels is None else labels
    return FlowTable.build(series, SPEC, label=labels, synthetic=True)


REAL, HELD, FRESH = make_flows(1), make_flows(2), make_flows(3)


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


#: How fresh flows are corrupted, the metrics that must get worse beyond their interval, and those that must not.
CORRUPTIONS = {
    noise: ("real_or_fake_auc earth_mover frechet precision density", "exact_copies near_share runs"),
    reverse: ("real_or_fake_auc earth_mover frechet precision coverage", "totals runs exact_copies"),
    scale: ("real_or_fake_auc earth_mover totals frechet precision coverage forest_ratio", "runs exact_copies"),
    shuffle_labels: (
        "forest_accuracy forest_ratio forest_macro_f1 network_accuracy network_macro_f1",
        "real_or_fake_auc earth_mover totals runs frechet precision coverage exact_copies closest_record_share",
    ),
    drop_class: (
        "forest_accuracy forest_macro_f1 network_macro_f1 recall coverage",
        "exact_copies closest_record_share",
    ),
    copy_half: ("exact_copies near_share closest_record_share membership_auc", "earth_mover totals runs forest_ratio"),
    copy_half_shifted: (
        "shifted_copies near_share closest_record_share membership_auc",
        "exact_copies forest_ratio runs",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _small_models() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usefulness, "N_TREES", 40)
        patch.setattr(usefulness, "NETWORK_STEPS", 60)
        patch.setattr(usefulness, "N_BOOTSTRAP", 60)
        patch.setattr(realism, "N_TREES", 60)
        yield


@pytest.fixture(scope="module")
def clean(_small_models: Any) -> Any:
    return evaluate(REAL, FRESH, holdout=HELD)


def test_fresh_real_flows_score_like_the_reference(clean: Any) -> None:
    """More flows of the same traffic are no worse than the reference, and the verdict says so."""
    for row in clean.rows.values():
        reference = row.reference
        if row.metric.better == "high":
            assert row.synthetic.high >= reference.low, row
        elif row.metric.better == "low":
            assert row.synthetic.low <= reference.high, row
        else:
            assert row.synthetic.low <= max(reference.high, 0.5), row
    assert (clean.verdict.use, clean.verdict.share) == ("replace", "yes"), clean.verdict


def test_shuffled_flows_are_recognised_and_copies_are_caught(clean: Any) -> None:
    rows = clean.rows
    assert rows["real_or_fake_auc"].shuffled.low > 0.95
    for name in ("earth_mover", "autocorrelation", "runs", "frechet"):
        assert rows[name].shuffled.low > rows[name].reference.high, name
    assert rows["exact_copies"].copies.value == rows["near_share"].copies.value == 1
    assert rows["closest_record_share"].copies.low > 0.9
    assert rows["membership_auc"].copies.low > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda function: function.__name__)
def test_every_corruption_moves_the_metrics_that_should_notice_it(clean: Any, corrupt: Any) -> None:
    worse, not_worse = (names.split() for names in CORRUPTIONS[corrupt])
    result = evaluate(REAL, corrupt(), holdout=HELD)
    for name in worse:
        was, now = clean.rows[name].synthetic, result.rows[name].synthetic
        if clean.rows[name].metric.better == "high":
            assert now.high < was.low or now.value < 0.8 * was.value, (name, was, now)
        else:
            assert now.low > was.high or now.value > 1.5 * was.value + 0.01, (name, was, now)
    for name in not_worse:
        was, now = clean.rows[name].synthetic, result.rows[name].synthetic
        assert now.low <= was.high, (name, was, now) if clean.rows[name].metric.better != "high" else ()
        assert now.high >= was.low, (name, was, now)


@pytest.mark.slow
def test_a_copy_of_the_training_flows_must_not_be_shared() -> None:
    result = evaluate(REAL, changed(REAL), holdout=HELD)
    assert result.verdict.share == "no"
    assert "100.0% of the flows equal a real flow" in result.verdict.text


@pytest.mark.slow
def test_without_a_hold_out_copies_are_caught_but_sharing_stays_unknown() -> None:
    copied = evaluate(REAL, copy_half())
    assert copied.verdict.share == "no"
    fresh = evaluate(REAL, FRESH)
    assert fresh.verdict.share == "unknown"
    assert fresh.rows["closest_record_share"].synthetic is None
    assert any("--holdout" in reason for reason in fresh.verdict.reasons)
    assert any("too few sources" in reason for reason in fresh.verdict.reasons)


@pytest.mark.slow
def test_without_a_hold_out_real_flows_are_split_by_capture() -> None:
    tables = [make_flows(seed, 20) for seed in range(4, 9)]
    result = evaluate(concat(tables), FRESH)
    train, held = (set(flows.sources.tolist()) for flows in (result.split.train, result.split.held_out))
    assert not train & held
    assert train | held == {f"{seed}.pcap" for seed in range(4, 9)}
    assert any("by capture" in reason for reason in result.verdict.reasons)


@pytest.mark.slow
def test_the_hold_out_itself_is_not_taken_for_synthetic_flows() -> None:
    result = evaluate(REAL, HELD, holdout=HELD)
    assert any("flows of the hold-out" in reason for reason in result.verdict.reasons)
    assert result.rows["exact_copies"].synthetic.value == 0
    assert result.verdict.use == "replace"


@pytest.mark.slow
def test_a_hold_out_whose_flows_repeat_is_used_unless_the_synthetic_flows_are_the_hold_out() -> None:
    """Most flows of home devices repeat: training, held-out and synthetic flows alike."""

    def repeating(table: Any) -> Any:
        series = table.series()
        series[np.arange(len(series)) % 10 < 7] = REAL.series()[0]
        return changed(table, series)

    real, held, new = repeating(REAL), repeating(HELD), repeating(make_flows(7))
    fair, leaked = evaluate(real, new, holdout=held), evaluate(real, held, holdout=held)
    assert fair.split.holdout_given
    assert fair.rows["exact_copies"].synthetic.value == pytest.approx(0.7)
    assert fair.rows["exact_copies"].reference.value == pytest.approx(0.7, abs=0.1)
    assert "equal a real flow" not in fair.verdict.text
    assert not leaked.split.holdout_given
    assert any("flows of the hold-out" in reason for reason in leaked.verdict.reasons)
    # ten of its flows among many others do not make it so
    mixed = concat([real, real, held.take(np.arange(170, 180))])
    assert evaluate(real, mixed, holdout=held).split.holdout_given


@pytest.mark.slow
def test_training_flows_are_not_accepted_as_hold_out() -> None:
    result = evaluate(REAL, REAL, holdout=REAL)
    assert not result.split.holdout_given
    assert any("are training flows" in reason for reason in result.verdict.reasons)
    assert result.verdict.share == "no"


@pytest.mark.slow
def test_missing_and_unknown_classes_are_named() -> None:
    strange = concat([drop_class(), changed(make_flows(4, 20, ["bulk"]), labels=["other"] * 20)])
    result = evaluate(REAL, strange, holdout=HELD)
    assert result.split.missing == ["page"]
    assert result.verdict.use != "replace"
    text = " ".join(result.verdict.reasons)
    assert "lack the class page" in text
    assert "lacks other" in text
    assert {row["class"]: row["synthetic"] for row in class_table(result)} == {"bulk": 60, "chat": 60, "page": 0}


def test_flows_without_labels_are_evaluated_without_usefulness() -> None:
    bare = [changed(table, labels=[None] * len(table)) for table in (REAL, FRESH, HELD)]
    result = evaluate(bare[0], bare[1], holdout=bare[2])
    assert result.verdict.use == "unknown"
    assert result.rows["forest_ratio"].synthetic is None
    assert result.rows["real_or_fake_auc"].synthetic.value < 0.65


def test_the_json_holds_the_verdict_its_reasons_and_every_metric_with_its_reference(clean: Any) -> None:
    result = json.loads(json.dumps(clean.to_json(), allow_nan=False))
    assert result["verdict"]["use"] == "replace"
    assert result["reasons"] == clean.verdict.reasons
    assert list(result["metrics"]) == [metric.name for metric in METRICS]
    for name, figure in result["metrics"].items():
        assert {"value", "low", "high", *SIDES[1:]} <= set(figure), name
        assert figure["low"] <= figure["value"] <= figure["high"], name
        assert figure["reference"]["low"] <= figure["reference"]["value"] <= figure["reference"]["high"], name


@pytest.mark.slow
def test_the_same_tables_and_seed_give_the_same_metrics_and_progress_counts_the_steps(clean: Any) -> None:
    calls = []
    again = evaluate(REAL, FRESH, holdout=HELD, progress=lambda *call: calls.append(call))
    assert again.to_json() == clean.to_json()
    assert [done for _, done, _ in calls] == list(range(len(calls)))
    assert {total for _, _, total in calls} == {len(calls) - 1}


def test_without_baselines_the_other_metrics_are_the_same(clean: Any) -> None:
    bare = evaluate(REAL, FRESH, holdout=HELD, baselines=False)
    for name, row in clean.rows.items():
        result = bare.rows[name]
        assert (result.synthetic, result.reference) == (row.synthetic, row.reference)
        assert (result.shuffled, result.copies) == (None, None)
    assert bare.verdict == clean.verdict


@pytest.mark.slow
def test_at_most_max_flows_are_used_and_a_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MAX_FLOWS", 50)
    result = evaluate(REAL, FRESH, holdout=HELD)
    assert len(result.split.train) == len(result.split.synthetic) == 50
    assert any("50 of 180 synthetic flows were used" in reason for reason in result.verdict.reasons)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(NetgenError, match="cannot be compared"):
        evaluate(REAL, FlowTable.build(np.ones((20, 4, 16), int), SeriesSpec(bin_ns=10**8, length=16), label="bulk"))
    with pytest.raises(TableError, match="too few"):
        evaluate(REAL, FRESH.take(range(3)))
    with pytest.raises(TableError, match="3 held-out real flows are too few"):
        evaluate(REAL, FRESH, holdout=HELD.take(range(3)))
    with pytest.raises(TableError, match="none of the real flows' classes"):
        evaluate(REAL, changed(FRESH, labels=["x"] * len(FRESH)))
