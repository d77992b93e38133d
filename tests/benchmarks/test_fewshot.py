"""The few-shot benchmark: methods start from the same flows, jobs are run once, verdicts agree with the scores."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import ROOT

from netgen.augmentation import jitter_selection
from netgen.capture.series.feasible import PacketLimits, feasible
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.usefulness import CLASSIFIERS

HOME = ROOT / "benchmarks"
if not HOME.is_dir():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)
sys.path.insert(0, str(HOME))
import fewshot  # noqa: E402
import fewshot_table  # noqa: E402
import resultlines  # noqa: E402
import tracesets  # noqa: E402
from resultlines import Line  # noqa: E402

sys.path.remove(str(HOME))
pytestmark = pytest.mark.usefixtures("one_thread")


# --- real and added flows ---


def test_more_shots_include_the_fewer_ones(tiny_flows: FlowTable) -> None:
    """Another seed samples others; of a class with fewer flows all are taken."""
    table = tiny_flows.take(np.arange(47))
    few, more = (fewshot.sample_shots(table, shots, 1) for shots in (5, 10))
    assert few.counts() == {"Web-TLS": 5, "dns-doh": 5, "dns-plain": 5}
    assert more.counts() == {"Web-TLS": 10, "dns-doh": 10, "dns-plain": 7}
    assert set(few.table["flow"].to_pylist()) < set(more.table["flow"].to_pylist())
    assert few.table.equals(fewshot.sample_shots(table, 5, 1).table)
    assert not few.table.equals(fewshot.sample_shots(table, 5, 2).table)
    assert [fewshot.limit_shots(more, shots) for shots in (5, 10, 20)] == [5, 10, 10]


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 4))
def test_mixup_lies_between_two_flows_of_the_class(seed: int, rows: int) -> None:
    """In every bin; of a single flow it is that flow."""
    rng = np.random.default_rng(seed)
    series = rng.integers(0, 5000, (2 * rows, 4, 8))
    table = FlowTable.build(series, SeriesSpec(bin_ns=1, length=8), label=["a"] * rows + ["b"] * rows)
    mixed, labels = fewshot.mixup(table, {"b": 20, "a": 3}, rng)
    assert labels.tolist() == ["b"] * 20 + ["a"] * 3
    of_class = series[rows:]
    assert (mixed[:20] >= of_class.min(0)).all()
    assert (mixed[:20] <= of_class.max(0)).all()
    if rows == 1:
        assert (mixed[:20] == of_class).all()


def test_mixup_has_one_weight_for_all_bins_of_a_flow() -> None:
    """In the space of logarithms."""
    rng = np.random.default_rng(0)
    series = rng.integers(10**6, 10**9, (2, 4, 8))
    table = FlowTable.build(series, SeriesSpec(bin_ns=1, length=8), label="a")
    mixed, _ = fewshot.mixup(table, {"a": 50}, rng)
    first, second, points = (np.log1p(values) for values in (series[0], series[1], mixed))
    weights = ((points - first) / (second - first)).reshape(50, -1)
    assert np.ptp(weights, axis=1).max() < 0.001
    assert np.ptp(weights) > 0.9


@pytest.mark.parametrize("method", fewshot.SIMPLE)
def test_simple_methods_fill_every_class_with_feasible_flows(method: str, tiny_flows: FlowTable) -> None:
    """To the same number, marked as synthetic; the same for the same seed."""
    few = fewshot.sample_shots(tiny_flows, 5, 0)
    added = fewshot.fill_classes(fewshot.SIMPLE[method], few, 12, 3)
    assert added.counts() == dict.fromkeys(few.classes, 7)
    assert all(added.table["synthetic"].to_pylist())
    classes = np.array(few.classes)
    limits = PacketLimits.of(few.series(), np.searchsorted(classes, few.labels.astype(str)), 3)
    again, changed = feasible(added.series(), np.searchsorted(classes, added.labels.astype(str)), limits)
    assert np.array_equal(again, added.series())
    assert not changed
    assert added.table.equals(fewshot.fill_classes(fewshot.SIMPLE[method], few, 12, 3).table)
    assert not np.isin(added.series().reshape(21, -1), few.series()).all()


# --- jobs ---


Command = Callable[..., tuple[int, list[Line], str, str]]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "r.jsonl"


@pytest.fixture
def command(
    tiny_flows: FlowTable, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Return a function from options to (exit code, lines of results, stdout, stderr), with tiny flows."""
    test = tiny_flows.take(np.arange(0, 60, 2))

    def guess(_series: np.ndarray, labels: np.ndarray, test: np.ndarray, **_: Any) -> np.ndarray:
        return np.resize(labels, len(test))

    monkeypatch.setattr(fewshot, "load", lambda _: (tiny_flows, test))
    monkeypatch.setattr(fewshot, "missing_data", lambda: None)
    monkeypatch.setattr(fewshot, "CLASSIFIERS", dict.fromkeys(CLASSIFIERS, guess))
    monkeypatch.setattr(jitter_selection, "N_TREES", 5)

    def run(*options: str) -> tuple[int, list[Line], str, str]:
        quick = ("--steps=2", "--sampling-steps=2", "--target=30", "--sets=certta", "--training=precision=float32")
        monkeypatch.setattr(sys, "argv", ["fewshot.py", "--results", str(results), *quick, *options])
        code = fewshot.main()
        return code, resultlines.read(results), *capsys.readouterr()

    return run


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.usefixtures("quick_calibration")
def test_jobs_are_run_once(command: Command, results: Path) -> None:
    """A second start runs only jobs whose lines are cut or whose training has changed."""
    code, lines, _, _ = command("--seeds", "0", "--shots", "5", "10")
    assert code == 0
    assert sorted((line["shots"], line["method"], line["real"], line["added"]) for line in lines) == [
        (5, "both", 15, 75), (5, "jitter", 15, 75), (5, "mixup", 15, 75), (5, "netgen", 15, 75), (5, "real", 15, 0),
        (10, "both", 30, 60), (10, "jitter", 30, 60), (10, "mixup", 30, 60), (10, "netgen", 30, 60),
        (10, "real", 30, 0),
    ]  # fmt: skip
    trained = [line for line in lines if line["method"] in fewshot.TRAINED]
    assert all(json.loads(line["training"])["training_steps"] == 2 for line in trained)
    assert all(
        (line["chosen"] == "both") == (line["jitter_scores"]["jittered"] > line["jitter_scores"]["repeated"])
        for line in trained
    )
    assert command("--seeds", "0", "--shots", "5", "10")[1] == lines

    results.write_text(results.read_text()[:-30])
    _, restarted, _, _ = command("--seeds", "0", "--shots", "5", "10")
    assert sorted(line["method"] for line in restarted) == sorted(line["method"] for line in lines)
    _, more, _, _ = command("--seeds", "0", "--shots", "5", "10", "--steps", "3")
    assert [line["method"] for line in more[len(restarted) :]] == ["netgen", "both"] * 2

    code, _, out, _ = command("--table")
    assert code == 0
    assert "4 results of other trainings or settings of netgen are left out." in out
    assert "| certta | 5 |" in out


def test_shots_that_no_class_has_are_not_run_twice(command: Command) -> None:
    """20 and 25 traces of classes with 20 are the same flows; the table says so."""
    _, lines, _, _ = command("--seeds", "0", "--shots", "20", "25", "--methods", "real")
    assert [(line["shots"], line["classes_with_fewer"]) for line in lines] == [(20, 0)]
    assert "20 (all), also for 25" in command("--table", "--shots", "20", "25")[2]


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.usefixtures("quick_calibration")
def test_a_failed_job_loses_no_other(command: Command) -> None:
    """Exit code 1, and the failure and its reason on stderr; the others are in the file."""
    code, lines, _, err = command("--seeds", "0", "--shots", "1", "5")  # nothing can be learned from one flow
    assert code == 1
    assert len(lines) == 8
    assert "1 of 10" not in err.splitlines()[-1]
    assert "certta, 1 a class, seed 0, netgen: too few real flows" in err
    assert "2 jobs failed" in err


# --- the verdicts ---


def line(
    method: str, seed: int, score: float, *, test_flows: int = 10_000, shots: int = 5, name: str = "video",
    chosen: str = "netgen",
) -> Line:  # fmt: skip
    scores = {"accuracy": score, "macro_f1": score / 2}
    trained = {"training": "{}", "training_steps": 1, "copies": 0, "added": 9, "chosen": chosen}
    return {
        "set": name, "shots": shots, "seed": seed, "method": method, "target": 100, "repeats": 3,
        "test_flows": test_flows, "forest": scores, "network": scores, "classes_with_fewer": 0, "classes": 4,
        "smallest_class": 5, "largest_class": 99, "machine": "m", "accelerator": None, "command": "c", "cpu": 36.0,
        **(trained if method in fewshot.TRAINED else {"training": ""}),
    }  # fmt: skip


def lines_of(
    scores: Mapping[str, Sequence[float]], *, shots: int = 5, name: str = "video", test_flows: int = 10_000
) -> list[Line]:
    return [
        line(method, seed, score, shots=shots, name=name, test_flows=test_flows)
        for method, values in scores.items()
        for seed, score in enumerate(values)
    ]


def gain_over(case: fewshot_table.Case, method: str) -> tuple[float, float]:
    gain = case.gain(method)
    assert gain is not None
    return gain


def test_gain_is_paired_and_noise_comes_from_seeds_or_test_flows() -> None:
    """Seeds shift all methods alike: only differences count. Few test flows make more noise than the seeds."""
    scores = {
        "real": (0.5, 0.7, 0.9),
        "jitter": (0.55, 0.75, 0.95),
        "mixup": (0.1, 0.1, 0.1),
        "netgen": (0.57, 0.77, 0.97),
    }
    case = fewshot_table.cases(lines_of(scores), "video", "forest", "accuracy")[5]
    assert case.best_simple() == "jitter"
    gain, noise = gain_over(case, "jitter")
    assert gain == pytest.approx(0.02)
    assert noise == pytest.approx(np.sqrt(0.57 * 0.43 / 10_000))
    few = fewshot_table.cases(lines_of(scores, test_flows=100), "video", "forest", "accuracy")[5]
    assert gain_over(few, "jitter")[1] == pytest.approx(np.sqrt(0.57 * 0.43 / 100))
    uneven = {**scores, "netgen": (0.5, 0.7, 1.0)}
    gain, noise = gain_over(fewshot_table.cases(lines_of(uneven), "video", "forest", "accuracy")[5], "real")
    assert gain == pytest.approx(0.1 / 3)
    assert noise == pytest.approx(2 * 0.1 / 3)


def test_the_report_counts_sets_won_and_lost() -> None:
    """Won: ahead of both at every number of traces; lost: below real alone by more than noise."""
    lines = [
        *lines_of({"real": (0.5, 0.5), "jitter": (0.6, 0.6), "mixup": (0.5, 0.5), "netgen": (0.7, 0.7)}, name="video"),
        *lines_of(
            {"real": (0.5, 0.5), "jitter": (0.6, 0.6), "mixup": (0.7, 0.7), "netgen": (0.8, 0.8)},
            name="video",
            shots=10,
        ),
        *lines_of({"real": (0.5, 0.5), "jitter": (0.5, 0.5), "mixup": (0.5, 0.5), "netgen": (0.3, 0.3)}, name="iot"),
    ]
    text = fewshot_table.report(lines, ["video", "iot", "alexa"], requested=[5, 10])
    both = "better than both jitter and mixup at"
    for sentence in (
        f"video, random forest: {both} 5, 10 traces per class (by more than noise: 5, 10); worse than real alone by "
        "more than noise: none.",
        f"iot, random forest: {both} none traces per class (by more than noise: none); worse than real alone by more "
        "than noise: 5.",
        "Random forest: better than jitter and mixup at every number of traces on 1 of 2 sets; never worse than real "
        "alone by more than noise on 1 of 2.",
    ):
        assert sentence in text
    assert (
        "| video | 5 | 0.500 ± 0.000 | 0.600 ± 0.000 | 0.500 ± 0.000 | 0.700 ± 0.000 | - | 0.700 ± 0.000 | +0.100 "
        "(noise 0.005)" in text
    )
    # an unfinished comparison has no verdict
    unfinished = fewshot_table.report(lines_of({"real": (0.5,), "jitter": (0.5,)}), ["video"], requested=[5])
    assert "on 0 of 0 sets" in unfinished
    assert "| video | 5 | 0.500 | 0.500 | - | - | - | - | - | - |" in unfinished


def test_netgen_is_the_method_that_it_chose() -> None:
    """Seed by seed; both methods have columns of their own, too."""
    scores = {"real": 0.5, "jitter": 0.55, "mixup": 0.5, "netgen": 0.6, "both": 0.8}
    lines = [
        line(method, seed, score, chosen=("netgen", "both")[seed])
        for seed in (0, 1)
        for method, score in scores.items()
    ]
    case = fewshot_table.cases(lines, "video", "forest", "accuracy")[5]
    assert case.scores("chosen") == {0: 0.6, 1: 0.8}
    assert gain_over(case, "jitter")[0] == pytest.approx(0.15)
    text = fewshot_table.report(lines, ["video"], requested=[5])
    assert "| 0.600 ± 0.000 | 0.800 ± 0.000 | 0.700 ± 0.141 | +0.150" in text
    assert "held-out" not in text
    for result in lines:
        if result["method"] in fewshot.TRAINED:
            result["jitter_scores"] = {"repeated": 0.4, "jittered": (0.3, 0.5)[result["seed"]], "n_flows": 20}
    text = fewshot_table.report(lines, ["video"], requested=[5])
    assert "| video | 5 | 0.400 ± 0.000 | 0.400 ± 0.141 | sampled, both |" in text


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.usefixtures("shared_data")
def test_the_bin_width_of_ten_pages_fits_their_training_flows() -> None:
    """Not the flows of all 78 pages; test flows have the same bins."""
    train, test = tracesets.load("tor-10")
    assert len(train.classes) == 10
    assert train.classes == test.classes
    assert train.spec == test.spec
    spans = np.array(train.table["duration_ns"].to_pylist())
    assert 0.9 < (spans <= train.spec.span_ns).mean() < 0.97
