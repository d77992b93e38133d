"""The few-shot benchmark: what is compared starts from the same few flows, jobs are done once, verdicts add up."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paths import ROOT

from netgen.capture.series.feasible import PacketLimits, feasible
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable

HOME = ROOT / "benchmarks"
if not HOME.is_dir():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)
sys.path.insert(0, str(HOME))
import fewshot  # noqa: E402
import fewshot_table  # noqa: E402
import resultlines  # noqa: E402
import tracesets  # noqa: E402

sys.path.remove(str(HOME))
pytestmark = pytest.mark.usefixtures("one_thread")


# --- the few, and what is added ---


def test_more_shots_hold_the_fewer_and_a_class_gives_what_it_has(tiny_flows: Any) -> None:
    """Another seed draws others; a class with fewer flows gives all."""
    table = tiny_flows.take(np.arange(47))
    few, more = (fewshot.few(table, shots, 1) for shots in (5, 10))
    assert few.counts() == {"Web-TLS": 5, "dns-doh": 5, "dns-plain": 5}
    assert more.counts() == {"Web-TLS": 10, "dns-doh": 10, "dns-plain": 7}
    assert set(few.table["flow"].to_pylist()) < set(more.table["flow"].to_pylist())
    assert few.table.equals(fewshot.few(table, 5, 1).table)
    assert not few.table.equals(fewshot.few(table, 5, 2).table)
    assert [fewshot.shots_of(more, shots) for shots in (5, 10, 20)] == [5, 10, 10]


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 4))
def test_mixup_lies_between_two_flows_of_the_class(seed: int, rows: Any) -> None:
    """In every bin, and it is not all one of them; of a single flow it is that flow."""
    generator = np.random.default_rng(seed)
    series = generator.integers(0, 5000, (2 * rows, 4, 8))
    table = FlowTable.build(series, SeriesSpec(bin_ns=1, length=8), label=["a"] * rows + ["b"] * rows)
    made, labels = fewshot.mixed(table, {"b": 20, "a": 3}, generator)
    assert labels.tolist() == ["b"] * 20 + ["a"] * 3
    mine = series[rows:]
    assert (made[:20] >= mine.min(0)).all()
    assert (made[:20] <= mine.max(0)).all()
    if rows == 1:
        assert (made[:20] == mine).all()


def test_mixup_takes_one_share_for_all_bins_of_a_flow() -> None:
    """In the space of logarithms."""
    generator = np.random.default_rng(0)
    series = generator.integers(10**6, 10**9, (2, 4, 8))
    table = FlowTable.build(series, SeriesSpec(bin_ns=1, length=8), label="a")
    made, _ = fewshot.mixed(table, {"a": 50}, generator)
    first, second, points = (np.log1p(each) for each in (series[0], series[1], made))
    shares = ((points - first) / (second - first)).reshape(50, -1)
    assert np.ptp(shares, axis=1).max() < 0.001
    assert np.ptp(shares) > 0.9


@pytest.mark.parametrize("way", fewshot.SIMPLE)
def test_simple_ways_fill_every_class_with_feasible_flows(way: Any, tiny_flows: Any) -> None:
    """To the same number, marked, within what packets of the class can be; the same for the same seed."""
    few = fewshot.few(tiny_flows, 5, 0)
    added = fewshot.simple(fewshot.SIMPLE[way], few, 12, 3)
    assert added.counts() == dict.fromkeys(few.classes, 7)
    assert all(added.table["synthetic"].to_pylist())
    classes = np.array(few.classes)
    limits = PacketLimits.of(few.series(), np.searchsorted(classes, few.labels.astype(str)), 3)
    again, changed = feasible(added.series(), np.searchsorted(classes, added.labels.astype(str)), limits)
    assert np.array_equal(again, added.series())
    assert not changed
    assert added.table.equals(fewshot.simple(fewshot.SIMPLE[way], few, 12, 3).table)
    assert not np.isin(added.series().reshape(21, -1), few.series()).all()


# --- jobs ---


@pytest.fixture
def command(
    tiny_flows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Function: options to (exit code, lines of results, stdout, stderr), on tiny flows and classifiers of a moment."""
    test = tiny_flows.take(np.arange(0, 60, 2))

    def guess(series: Any, labels: Any, tested: Any, seed: Any) -> Any:
        return np.resize(labels, len(tested))

    monkeypatch.setattr(fewshot, "load", lambda name: (tiny_flows, test))
    monkeypatch.setattr(fewshot, "there", lambda: None)
    monkeypatch.setattr(fewshot, "CLASSIFIERS", dict.fromkeys(fewshot.CLASSIFIERS, guess))
    results = tmp_path / "r.jsonl"

    def run(*words: Any) -> Any:
        quick = ("--steps=2", "--sampling-steps=2", "--to=30", "--sets=certta", "--training=precision=float32")
        monkeypatch.setattr(sys, "argv", ["fewshot.py", "--results", str(results), *quick, *words])
        code = fewshot.main()
        return code, resultlines.read(results), *capsys.readouterr()

    run.results = results
    return run


def test_jobs_are_done_once(command: Any) -> None:
    """Started again, nothing is done again; a cut line is; netgen's change only with its training."""
    code, lines, _, _ = command("--seeds", "0", "--shots", "5", "10")
    assert code == 0
    assert sorted((line["shots"], line["way"], line["real"], line["added"]) for line in lines) == [
        (5, "both", 15, 75), (5, "jitter", 15, 75), (5, "mixup", 15, 75), (5, "netgen", 15, 75), (5, "real", 15, 0),
        (10, "both", 30, 60), (10, "jitter", 30, 60), (10, "mixup", 30, 60), (10, "netgen", 30, 60),
        (10, "real", 30, 0),
    ]  # fmt: skip
    trained = [line for line in lines if line["way"] in fewshot.TRAINED]
    assert all(json.loads(line["training"])["steps"] == 2 for line in trained)
    assert all(
        (line["chosen"] == "both") == (line["trial"]["jittered"] > line["trial"]["repeated"]) for line in trained
    )
    assert command("--seeds", "0", "--shots", "5", "10")[1] == lines

    command.results.write_text(command.results.read_text()[:-30])
    _, mended, _, _ = command("--seeds", "0", "--shots", "5", "10")
    assert sorted(line["way"] for line in mended) == sorted(line["way"] for line in lines)
    _, more, _, _ = command("--seeds", "0", "--shots", "5", "10", "--steps", "3")
    assert [line["way"] for line in more[len(mended) :]] == ["netgen", "both"] * 2

    code, _, out, _ = command("--table")
    assert code == 0
    assert "4 results of other trainings or settings of netgen are left out." in out
    assert "| certta | 5 |" in out


def test_shots_that_no_class_has_are_not_done_twice(command: Any) -> None:
    """20 traces of classes with 20, and 50 of them, are the same flows; the table says so."""
    _, lines, _, _ = command("--seeds", "0", "--shots", "20", "25", "--ways", "real")
    assert [(line["shots"], line["short"]) for line in lines] == [(20, 0)]
    assert "20; all there are, for 25 too" in command("--table", "--shots", "20", "25")[2]


def test_a_job_that_fails_loses_no_other(command: Any) -> None:
    """Exit code 1, what failed and why on stderr; the others are in the file."""
    code, lines, _, err = command("--seeds", "0", "--shots", "1", "5")  # of one flow nothing can be learnt
    assert code == 1
    assert len(lines) == 8
    assert "1 of 10" not in err.splitlines()[-1]
    assert "certta, 1 a class, seed 0, netgen: too few real flows" in err
    assert "2 jobs failed" in err


# --- the verdicts ---


def line(
    way: Any,
    seed: Any,
    score: Any,
    *,
    tested: Any = 10_000,
    shots: Any = 5,
    name: Any = "video",
    chosen: Any = "netgen",
) -> Any:
    each = {"accuracy": score, "macro_f1": score / 2}
    metadata = {
        "short": 0,
        "classes": 4,
        "fewest": 5,
        "most": 99,
        "machine": "m",
        "accelerator": None,
        "command": "c",
        "cpu": 36.0,
    }
    trained = {"training": "{}", "training_steps": 1, "copies": 0, "added": 9, "chosen": chosen}
    more = trained if way in fewshot.TRAINED else {"training": ""}
    return {
        "set": name, "shots": shots, "seed": seed, "way": way, "to": 100, "repeats": 3, "tested": tested,
        "forest": each, "network": each, **metadata, **more,
    }  # fmt: skip


def made(shots: Any = 5, name: Any = "video", tested: Any = 10_000, **scores: Any) -> Any:
    return [
        line(way, seed, score, shots=shots, name=name, tested=tested)
        for way, each in scores.items()
        for seed, score in enumerate(each)
    ]


def test_gain_is_paired_and_noise_is_that_of_seeds_or_test_flows() -> None:
    """Seeds vary alike for all ways: only the differences count. Few test flows make more noise than the seeds."""
    scores = {
        "real": (0.5, 0.7, 0.9),
        "jitter": (0.55, 0.75, 0.95),
        "mixup": (0.1, 0.1, 0.1),
        "netgen": (0.57, 0.77, 0.97),
    }
    case = fewshot_table.cases(made(**scores), "video", "forest", "accuracy")[5]
    assert case.best_simple() == "jitter"
    gain, noise = case.gain("jitter")
    assert gain == pytest.approx(0.02)
    assert noise == pytest.approx(np.sqrt(0.57 * 0.43 / 10_000))
    few = fewshot_table.cases(made(tested=100, **scores), "video", "forest", "accuracy")[5]
    assert few.gain("jitter")[1] == pytest.approx(np.sqrt(0.57 * 0.43 / 100))
    uneven = {**scores, "netgen": (0.5, 0.7, 1.0)}
    gain, noise = fewshot_table.cases(made(**uneven), "video", "forest", "accuracy")[5].gain("real")
    assert (gain, noise) == (pytest.approx(0.1 / 3), pytest.approx(2 * 0.1 / 3))


def test_the_report_counts_sets_won_and_lost() -> None:
    """Won: ahead of both at every number of traces; lost: below real alone by more than noise."""
    lines = [
        *made(name="video", real=(0.5, 0.5), jitter=(0.6, 0.6), mixup=(0.5, 0.5), netgen=(0.7, 0.7)),
        *made(name="video", shots=10, real=(0.5, 0.5), jitter=(0.6, 0.6), mixup=(0.7, 0.7), netgen=(0.8, 0.8)),
        *made(name="iot", real=(0.5, 0.5), jitter=(0.5, 0.5), mixup=(0.5, 0.5), netgen=(0.3, 0.3)),
    ]
    said = fewshot_table.report(lines, ["video", "iot", "alexa"], asked=[5, 10])
    both = "better than both jitter and mixup at"
    for sentence in (
        f"video, random forest: {both} 5, 10 traces a class (by more than noise: 5, 10); worse than real alone by more "
        "than noise: none.",
        f"iot, random forest: {both} none traces a class (by more than noise: none); worse than real alone by more "
        "than noise: 5.",
        "Random forest: better than jitter and mixup at every number of traces on 1 of 2 sets; never worse than real "
        "alone by more than noise on 1 of 2.",
    ):
        assert sentence in said
    assert (
        "| video | 5 | 0.500 ± 0.000 | 0.600 ± 0.000 | 0.500 ± 0.000 | 0.700 ± 0.000 | - | 0.700 ± 0.000 | +0.100 "
        "(noise 0.005)" in said
    )
    # what is not done yet is no verdict
    part = fewshot_table.report(made(real=(0.5,), jitter=(0.5,)), ["video"], asked=[5])
    assert "on 0 of 0 sets" in part
    assert "| video | 5 | 0.500 | 0.500 | - | - | - | - | - | - |" in part


def test_netgen_is_what_its_trial_took() -> None:
    """Seed by seed; what else it could have taken stands in its own column."""
    ways = {"real": 0.5, "jitter": 0.55, "mixup": 0.5, "netgen": 0.6, "both": 0.8}
    lines = [line(way, seed, score, chosen=("netgen", "both")[seed]) for seed in (0, 1) for way, score in ways.items()]
    case = fewshot_table.cases(lines, "video", "forest", "accuracy")[5]
    assert case.scores("chosen") == {0: 0.6, 1: 0.8}
    assert case.gain("jitter")[0] == pytest.approx(0.15)
    said = fewshot_table.report(lines, ["video"], asked=[5])
    assert "| 0.600 ± 0.000 | 0.800 ± 0.000 | 0.700 ± 0.141 | +0.150" in said
    assert "Likelihood" not in said
    for each in lines:
        if each["way"] in fewshot.TRAINED:
            each["trial"] = {"repeated": 0.4, "jittered": (0.3, 0.5)[each["seed"]], "flows": 20}
    said = fewshot_table.report(lines, ["video"], asked=[5])
    assert "| video | 5 | 0.400 ± 0.000 | 0.400 ± 0.141 | drawn, both |" in said


def test_a_set_of_the_first_pages_is_cut_to_its_own_training_flows(shared_data: Path) -> None:
    """The bins fit the flows of those pages, not of all 78; test flows are cut alike."""
    train, test = tracesets.load("tor-10")
    assert len(train.classes) == 10
    assert train.classes == test.classes
    assert train.spec == test.spec
    spans = np.array(train.table["duration_ns"].to_pylist())
    assert 0.9 < (spans <= train.spec.span_ns).mean() < 0.97
