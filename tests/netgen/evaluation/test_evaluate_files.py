"""`netgen evaluate`: files that it reads, what it prints, its verdicts, and its documentation."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.paths import ROOT

import netgen
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation import realism, usefulness, verdict
from netgen.evaluation.estimate import Estimate
from netgen.evaluation.metrics import METRICS, MetricRow
from netgen.evaluation.split import EvaluationSplit, FlowSet

PAGE = ROOT / "docs" / "evaluation.md"


@pytest.fixture(autouse=True)
def _small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"N_TREES": 10, "NETWORK_STEPS": 5, "N_BOOTSTRAP": 10}.items():
        monkeypatch.setattr(usefulness, name, value)
    monkeypatch.setattr(realism, "N_TREES", 10)


@pytest.fixture
def files(tiny_flows: FlowTable, tmp_path: Path) -> Path:
    """Return a folder with tables of real, synthetic and held-out flows."""
    order = np.random.default_rng(0).permutation(len(tiny_flows))
    for number, name in enumerate(("real", "synthetic", "held_out")):
        tiny_flows.take(np.sort(order[number::3])).write(tmp_path / f"{name}.parquet")
    return tmp_path


def test_the_verdict_is_the_last_line_below_metrics_and_baselines(files: Path, netgen_command: Any) -> None:
    done = netgen_command(
        "evaluate", "--real", files / "real.parquet", "--synthetic", files / "synthetic.parquet",
        "--holdout", files / "held_out.parquet",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.strip().splitlines()[-1].startswith("verdict: ")
    for word in ("reference", "shuffled", "copies", "Real-or-fake AUC"):
        assert word in done.out


def test_json_is_one_object(files: Path, netgen_command: Any) -> None:
    done = netgen_command(
        "evaluate", "--real", files / "real.parquet", "--synthetic", files / "synthetic.parquet", "--json"
    )
    report = json.loads(done.out)
    assert {"verdict", "reasons", "metrics"} <= set(report)
    assert report["hold_out_given"] is False
    assert report["metrics"]["real_or_fake_auc"]["reference"]["value"] is not None


def test_csv_and_tables_that_netgen_did_not_write_score_the_same(
    files: Path, tiny_flows: FlowTable, netgen_command: Any
) -> None:
    table = pq.read_table(files / "synthetic.parquet")
    plain = table.select(["label", *tiny_flows.spec.channels]).replace_schema_metadata(None)
    pq.write_table(plain, files / "plain.parquet")
    netgen.write(FlowTable.read(files / "held_out.parquet"), files / "held_out.csv")
    words = ("evaluate", "--real", files / "real.parquet", "--json", "--synthetic")
    one = json.loads(netgen_command(*words, files / "synthetic.parquet", "--holdout", files / "held_out.parquet").out)
    other = json.loads(netgen_command(*words, files / "plain.parquet", "--holdout", files / "held_out.csv").out)
    assert one["metrics"] == other["metrics"]


def test_the_second_capture_is_extracted_with_the_spec_of_the_first(
    pcap_file: Any, packet: Any, netgen_command: Any
) -> None:
    def capture(name: str, gap: int) -> Path:
        frames = []
        for flow in range(40):
            begin = flow * 1000
            frames += [
                (begin + step * gap, packet.tcp4(1000 + flow, 443, 16, b"x" * (40 + 13 * (flow * step % 17))))
                for step in range(6)
            ]
        path: Path = pcap_file(frames, name)
        return path

    done = netgen_command("evaluate", "--real", capture("a.pcap", 100), "--synthetic", capture("b.pcap", 90), "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["verdict"]["use"] == "unknown"
    assert report["flows"]["synthetic"] == 40


def test_the_ground_truth_beside_a_capture_labels_its_flows(files: Path, tmp_path: Path, netgen_command: Any) -> None:
    netgen.write(FlowTable.read(files / "synthetic.parquet"), tmp_path / "new.pcap.gz")
    real, held_out = files / "real.parquet", files / "held_out.parquet"
    words = ("evaluate", "--real", real, "--holdout", held_out, "--json", "--synthetic")
    uses = [
        json.loads(netgen_command(*words, tmp_path / "new.pcap.gz", *more).out)["verdict"]["use"]
        for more in ([], ["--label-by", "sni"])
    ]
    assert uses[0] != "unknown"
    assert uses[1] == "unknown"
    # a damaged Parquet file and a file that is not ground truth are ignored; one that labels no flow is an error
    (tmp_path / "new.labels.parquet").write_bytes(b"PAR1 and no more")
    assert json.loads(netgen_command(*words, tmp_path / "new.pcap.gz").out)["verdict"]["use"] == uses[0]
    ground_truth = (tmp_path / "new.labels.csv").read_text("utf-8")
    (tmp_path / "new.labels.csv").write_text("name,comment\na,b\n")
    assert json.loads(netgen_command(*words, tmp_path / "new.pcap.gz").out)["verdict"]["use"] == "unknown"
    (tmp_path / "new.labels.csv").write_text(ground_truth.replace("198.18.", "198.17."))
    done = netgen_command(*words, tmp_path / "new.pcap.gz")
    assert (done.code, done.out) == (1, "")
    assert "new.labels.csv lies beside" in done.err
    # neither the table nor the ground truth gives these flows a class
    unnamed = FlowTable.read(files / "synthetic.parquet")
    unnamed = FlowTable.build(unnamed.series(), unnamed.spec)
    netgen.write(unnamed, tmp_path / "unnamed.pcap")
    done = netgen_command(*words, tmp_path / "unnamed.pcap")
    assert (done.code, json.loads(done.out)["verdict"]["use"]) == (0, "unknown")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--real", "none.parquet", "--synthetic", "none.parquet"], "does not exist"),
        (["--real", "real.parquet", "--synthetic", "synthetic.parquet", "-o", "report.pdf"], "report.html|NAME.html"),
        (["--real", "real.parquet", "--synthetic", "model.safetensors"], "is a model, not flows"),
        (["--real", "real.parquet", "--synthetic", "synthetic.parquet", "--training", "x.jsonl"], "-o report.html"),
        (["--real", "real.parquet", "--synthetic", "text.csv"], "is not a flow table"),
    ],
)
def test_an_error_is_one_line(
    files: Path, netgen_command: Any, monkeypatch: pytest.MonkeyPatch, words: Any, message: str
) -> None:
    monkeypatch.chdir(files)
    (files / "model.safetensors").write_bytes(b"x")
    (files / "text.csv").write_text("a,b\n1,2\n")
    done = netgen_command("evaluate", *words)
    assert done.code == 1
    assert len(done.err.strip().splitlines()) == 1
    assert re.search(message, done.err), done.err


def test_the_evaluation_page_names_every_metric_and_threshold() -> None:
    text = PAGE.read_text("utf-8")
    for metric in METRICS:
        assert f"| `{metric.name}` |" in text
        assert metric.text in text
    for name, value in verdict.THRESHOLDS.items():
        assert name in text
        assert re.search(rf"{value:g}[^|]{{0,60}}`{name}`|{value:g} \(`{name}`|{value:g} \(`\w+`, `{name}`", text), name


def metric_rows(**values: float) -> dict[str, MetricRow]:
    """Make rows of good scores, except for the given ones."""
    good = {metric.name: 0.5 if metric.better == "half" else 1.0 for metric in METRICS}
    good |= {"exact_copies": 0.0, "shifted_copies": 0.0, "near_share": 0.01, "real_or_fake_auc": 0.5}
    rows = {}
    for metric in METRICS:
        value = values.get(metric.name, good[metric.name])
        reference = good[metric.name]
        rows[metric.name] = MetricRow(
            metric, Estimate(value, value - 0.005, value + 0.005), Estimate(reference, reference, reference), None, None
        )
    return rows


FLOWS = FlowSet(np.ones((20, 4, 8), int), np.repeat(["a", "b"], 10), np.full(20, "x"))


@pytest.mark.parametrize(
    ("scores", "use", "share"),
    [
        ({}, "replace", "yes"),
        ({"forest_ratio": 0.9, "network_ratio": 0.9}, "augment", "yes"),
        ({"forest_ratio": 0.7, "network_ratio": 0.75}, "no", "yes"),
        ({"forest_ratio": 0.7, "network_ratio": 0.7, "forest_added_macro_f1": 1.1}, "augment", "yes"),
        ({"network_added_macro_f1": 0.97}, "no", "yes"),
        ({"exact_copies": 0.02}, "replace", "no"),
        ({"exact_copies": 0.009}, "replace", "yes"),
        ({"shifted_copies": 0.02}, "replace", "no"),
        ({"near_share": 0.05}, "replace", "no"),
        ({"near_share": 0.02}, "replace", "yes"),
        ({"closest_record_share": 0.56}, "replace", "no"),
        ({"closest_record_share": 0.554}, "replace", "yes"),
        ({"membership_auc": 0.6}, "replace", "no"),
    ],
)
def test_verdicts_follow_from_the_thresholds(scores: dict[str, float], use: str, share: str) -> None:
    report = verdict.verdict(metric_rows(**scores), EvaluationSplit(FLOWS, FLOWS, FLOWS, True, True, []))
    assert (report.use, report.share) == (use, share)
    assert ("do not share" in report.text) == (share == "no")


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(("name", "size_unit"), [("certta_flows", "ip"), ("iot_setup", "frame")])
def test_on_real_traces_a_test_split_scores_as_real_and_copies_are_detected(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, name: str, size_unit: Literal["ip", "frame"]
) -> None:
    monkeypatch.setattr(usefulness, "N_TREES", 60)
    monkeypatch.setattr(usefulness, "NETWORK_STEPS", 150)
    monkeypatch.setattr(realism, "N_TREES", 60)
    path = shared_data / "series" / f"{name}.parquet"
    real = netgen.import_traces(path, size_unit=size_unit, split="train")
    test = netgen.import_traces(path, size_unit=size_unit, split="test", spec_from=real)
    as_synthetic = netgen.evaluate(real, test, seed=1)
    rows = as_synthetic.rows
    for row in rows.values():
        if row.synthetic is None:
            continue
        assert row.reference, row
        if row.metric.better == "high":
            assert row.synthetic.high >= row.reference.low, row
        else:
            assert row.synthetic.low <= max(row.reference.high, 0.5 if row.metric.better == "half" else 0), row
    assert as_synthetic.verdict.use in ("replace", "augment")
    assert as_synthetic.verdict.share == "unknown"
    shuffled = rows["real_or_fake_auc"].shuffled
    assert shuffled
    assert shuffled.low > 0.9
    copied = netgen.evaluate(real, real, holdout=test, seed=1)
    assert copied.verdict.share == "no"
    assert "equal a real flow" in copied.verdict.text


def test_an_evaluation_has_a_one_line_repr_and_an_html_table(files: Path) -> None:
    evaluation = netgen.evaluate(
        files / "real.parquet", files / "synthetic.parquet", holdout=files / "held_out.parquet"
    )
    assert repr(evaluation).startswith("Evaluation(20 synthetic flows, ")
    assert "\n" not in repr(evaluation)
    assert "<td>Real-or-fake AUC</td>" in evaluation._repr_html_()
