"""Check that metrics and the verdict notice flows that are corrupted in a known way."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pytest

from netgen.capture.errors import NetgenError, TableError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.evaluation import evaluate as evaluate_module
from netgen.evaluation import realism, usefulness
from netgen.evaluation.estimate import Estimate
from netgen.evaluation.evaluate import Evaluation, class_table, evaluate
from netgen.evaluation.metrics import METRICS, SIDES
from netgen.evaluation.privacy import shifted

SPEC = SeriesSpec(bin_ns=10**8, length=32)
CLASSES = ("bulk", "chat", "page")


def make_flows(seed: int, count: int = 60, classes: Iterable[str] = CLASSES) -> FlowTable:
    """Make flows of three classes: long transfers, sparse messages, and a few fading bursts."""
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


def changed(
    table: FlowTable, series: np.ndarray | None = None, labels: Sequence[str | None] | None = None
) -> FlowTable:
    series = table.series() if series is None else series
    labels = table.labels.tolist() if labels is None else labels
    return FlowTable.build(series, SPEC, label=labels, synthetic=True)


REAL, HELD_OUT, FRESH = make_flows(1), make_flows(2), make_flows(3)


def noise() -> FlowTable:
    factor = np.random.default_rng(0).lognormal(0, 1.0, (len(FRESH), 1, 32))
    return changed(FRESH, np.ceil(FRESH.series() * factor).astype(np.int64))


def reverse() -> FlowTable:
    return changed(FRESH, FRESH.series()[..., ::-1])


def scale() -> FlowTable:
    return changed(FRESH, FRESH.series() * 3)


def shuffle_labels() -> FlowTable:
    return changed(FRESH, labels=np.random.default_rng(0).permutation(FRESH.labels).tolist())


def drop_class() -> FlowTable:
    return changed(FRESH.take(np.flatnonzero(FRESH.labels != "page")))


def copy_half() -> FlowTable:
    return concat([FRESH.take(range(0, len(FRESH), 2)), REAL.take(range(1, len(REAL), 2))])


def copy_half_shifted() -> FlowTable:
    copies = changed(REAL.take(range(1, len(REAL), 2)), shifted(REAL.series()[1::2], 1))
    return concat([changed(FRESH.take(range(0, len(FRESH), 2))), copies])


#: Corruption of fresh flows -> metrics that must get worse beyond their interval, and metrics that must not.
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
def _small_models() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usefulness, "N_TREES", 40)
        patch.setattr(usefulness, "NETWORK_STEPS", 60)
        patch.setattr(usefulness, "N_BOOTSTRAP", 60)
        patch.setattr(realism, "N_TREES", 60)
        yield


@pytest.fixture(scope="module")
def clean(_small_models: None) -> Evaluation:
    """Evaluate fresh flows of the same classes."""
    return evaluate(REAL, FRESH, holdout=HELD_OUT)


def estimate(evaluation: Evaluation, name: str, side: str = "synthetic") -> Estimate:
    """Return the estimate of a metric, which must exist."""
    value: Estimate | None = getattr(evaluation.rows[name], side)
    assert value is not None, name
    return value


def test_fresh_flows_score_like_the_reference(clean: Evaluation) -> None:
    """Other flows of the same traffic are no worse than the reference, and the verdict is good."""
    for name, row in clean.rows.items():
        synthetic, reference = estimate(clean, name), estimate(clean, name, "reference")
        if row.metric.better == "high":
            assert synthetic.high >= reference.low, row
        elif row.metric.better == "low":
            assert synthetic.low <= reference.high, row
        else:
            assert synthetic.low <= max(reference.high, 0.5), row
    assert (clean.verdict.use, clean.verdict.share) == ("replace", "yes"), clean.verdict


def test_shuffled_and_copied_flows_are_detected(clean: Evaluation) -> None:
    assert estimate(clean, "real_or_fake_auc", "shuffled").low > 0.95
    for name in ("earth_mover", "autocorrelation", "runs", "frechet"):
        assert estimate(clean, name, "shuffled").low > estimate(clean, name, "reference").high, name
    assert estimate(clean, "exact_copies", "copies").value == estimate(clean, "near_share", "copies").value == 1
    assert estimate(clean, "closest_record_share", "copies").low > 0.9
    assert estimate(clean, "membership_auc", "copies").low > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda function: function.__name__)
def test_every_corruption_worsens_its_metrics_and_no_others(
    clean: Evaluation, corrupt: Callable[[], FlowTable]
) -> None:
    worse, not_worse = (names.split() for names in CORRUPTIONS[corrupt])
    corrupted = evaluate(REAL, corrupt(), holdout=HELD_OUT)
    for name in worse:
        before, after = estimate(clean, name), estimate(corrupted, name)
        if clean.rows[name].metric.better == "high":
            assert after.high < before.low or after.value < 0.8 * before.value, (name, before, after)
        else:
            assert after.low > before.high or after.value > 1.5 * before.value + 0.01, (name, before, after)
    for name in not_worse:
        before, after = estimate(clean, name), estimate(corrupted, name)
        assert after.low <= before.high, (name, before, after)
        assert after.high >= before.low, (name, before, after)


@pytest.mark.slow
def test_a_copy_of_the_training_flows_must_not_be_shared() -> None:
    evaluation = evaluate(REAL, changed(REAL), holdout=HELD_OUT)
    assert evaluation.verdict.share == "no"
    assert "100.0% of the flows equal a real flow" in evaluation.verdict.text


@pytest.mark.slow
def test_without_a_hold_out_copies_are_detected_and_the_share_verdict_of_fresh_flows_is_unknown() -> None:
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
    evaluation = evaluate(concat(tables), FRESH)
    train, held_out = (set(flows.sources.tolist()) for flows in (evaluation.split.train, evaluation.split.held_out))
    assert not train & held_out
    assert train | held_out == {f"{seed}.pcap" for seed in range(4, 9)}
    assert any("by capture" in reason for reason in evaluation.verdict.reasons)


@pytest.mark.slow
def test_held_out_flows_passed_as_synthetic_ones_are_noticed() -> None:
    evaluation = evaluate(REAL, HELD_OUT, holdout=HELD_OUT)
    assert any("flows of the hold-out" in reason for reason in evaluation.verdict.reasons)
    assert estimate(evaluation, "exact_copies").value == 0
    assert evaluation.verdict.use == "replace"


@pytest.mark.slow
def test_a_hold_out_with_repeating_flows_is_used_unless_it_equals_the_synthetic_flows() -> None:
    """Most flows of home devices repeat: training, held-out and synthetic flows alike."""

    def repeating(table: FlowTable) -> FlowTable:
        series = table.series()
        series[np.arange(len(series)) % 10 < 7] = REAL.series()[0]
        return changed(table, series)

    real, held_out, new = repeating(REAL), repeating(HELD_OUT), repeating(make_flows(7))
    fair, leaked = evaluate(real, new, holdout=held_out), evaluate(real, held_out, holdout=held_out)
    assert fair.split.holdout_given
    assert estimate(fair, "exact_copies").value == pytest.approx(0.7)
    assert estimate(fair, "exact_copies", "reference").value == pytest.approx(0.7, abs=0.1)
    assert "equal a real flow" not in fair.verdict.text
    assert not leaked.split.holdout_given
    assert any("flows of the hold-out" in reason for reason in leaked.verdict.reasons)
    # ten held-out flows among many others are not enough to suspect that
    mixed = concat([real, real, held_out.take(np.arange(170, 180))])
    assert evaluate(real, mixed, holdout=held_out).split.holdout_given


@pytest.mark.slow
def test_training_flows_are_not_accepted_as_hold_out() -> None:
    evaluation = evaluate(REAL, REAL, holdout=REAL)
    assert not evaluation.split.holdout_given
    assert any("are training flows" in reason for reason in evaluation.verdict.reasons)
    assert evaluation.verdict.share == "no"


@pytest.mark.slow
def test_missing_and_unknown_classes_are_named() -> None:
    synthetic = concat([drop_class(), changed(make_flows(4, 20, ["bulk"]), labels=["other"] * 20)])
    evaluation = evaluate(REAL, synthetic, holdout=HELD_OUT)
    assert evaluation.split.missing == ["page"]
    assert evaluation.verdict.use != "replace"
    text = " ".join(evaluation.verdict.reasons)
    assert "lack the class page" in text
    assert "lacks other" in text
    assert {row["class"]: row["synthetic"] for row in class_table(evaluation)} == {"bulk": 60, "chat": 60, "page": 0}


def test_flows_without_labels_are_evaluated_without_usefulness() -> None:
    real, fresh, held_out = (changed(table, labels=[None] * len(table)) for table in (REAL, FRESH, HELD_OUT))
    evaluation = evaluate(real, fresh, holdout=held_out)
    assert evaluation.verdict.use == "unknown"
    assert evaluation.rows["forest_ratio"].synthetic is None
    assert estimate(evaluation, "real_or_fake_auc").value < 0.65


def test_the_json_holds_the_verdict_its_reasons_and_every_metric_with_its_reference(clean: Evaluation) -> None:
    report = json.loads(json.dumps(clean.to_json(), allow_nan=False))
    assert report["verdict"]["use"] == "replace"
    assert report["reasons"] == clean.verdict.reasons
    assert list(report["metrics"]) == [metric.name for metric in METRICS]
    for name, metric in report["metrics"].items():
        assert {"value", "low", "high", *SIDES[1:]} <= set(metric), name
        assert metric["low"] <= metric["value"] <= metric["high"], name
        assert metric["reference"]["low"] <= metric["reference"]["value"] <= metric["reference"]["high"], name


@pytest.mark.slow
def test_the_same_tables_and_seed_give_the_same_metrics_and_progress_counts_the_steps(clean: Evaluation) -> None:
    calls = []
    repeated = evaluate(REAL, FRESH, holdout=HELD_OUT, progress=lambda *call: calls.append(call))
    assert repeated.to_json() == clean.to_json()
    assert [done for _, done, _ in calls] == list(range(len(calls)))
    assert {total for _, _, total in calls} == {len(calls) - 1}


def test_without_baselines_the_other_metrics_are_the_same(clean: Evaluation) -> None:
    without = evaluate(REAL, FRESH, holdout=HELD_OUT, baselines=False)
    for name, row in clean.rows.items():
        other = without.rows[name]
        assert (other.synthetic, other.reference) == (row.synthetic, row.reference)
        assert (other.shuffled, other.copies) == (None, None)
    assert without.verdict == clean.verdict


@pytest.mark.slow
def test_at_most_max_flows_are_used_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_module, "MAX_FLOWS", 50)
    evaluation = evaluate(REAL, FRESH, holdout=HELD_OUT)
    assert len(evaluation.split.train) == len(evaluation.split.synthetic) == 50
    assert any("50 of 180 synthetic flows were used" in reason for reason in evaluation.verdict.reasons)


def test_other_specs_too_few_flows_and_unknown_classes_are_refused() -> None:
    with pytest.raises(NetgenError, match="cannot be compared"):
        evaluate(REAL, FlowTable.build(np.ones((20, 4, 16), int), SeriesSpec(bin_ns=10**8, length=16), label="bulk"))
    with pytest.raises(TableError, match="too few"):
        evaluate(REAL, FRESH.take(range(3)))
    with pytest.raises(TableError, match="3 held-out real flows are too few"):
        evaluate(REAL, FRESH, holdout=HELD_OUT.take(range(3)))
    with pytest.raises(TableError, match="none of the real flows' classes"):
        evaluate(REAL, changed(FRESH, labels=["x"] * len(FRESH)))
