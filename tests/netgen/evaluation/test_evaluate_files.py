"""`netgen evaluate`: tables and captures in, a verdict out, and a page that says what it means."""

import json
import re
from pathlib import Path
from typing import Any

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
    for module, name, value in (
        (usefulness, "N_TREES", 10), (usefulness, "NETWORK_STEPS", 5), (usefulness, "N_BOOTSTRAP", 10), (realism, "N_TREES", 10)
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def files(tiny_flows: Any, tmp_path: Path) -> Any:
    """Real, synthetic and held-back flows, as files."""
    order = np.random.default_rng(0).permutation(len(tiny_flows))
    for number, name in enumerate(("real", "synthetic", "held")):
        tiny_flows.take(np.sort(order[number::3])).write(tmp_path / f"{name}.parquet")
    return tmp_path


def test_the_verdict_is_the_last_line_and_metrics_have_their_baselines(files: Any, netgen_command: Any) -> None:
    done = netgen_command(
        "evaluate", "--real", files / "real.parquet", "--synthetic", files / "synthetic.parquet",
        "--holdout", files / "held.parquet",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out.strip().splitlines()[-1].startswith("verdict: ")
    for word in ("reference", "shuffled", "copies", "Real-or-fake AUC"):
        assert word in done.out


def test_json_is_one_object(files: Any, netgen_command: Any) -> None:
    done = netgen_command(
        "evaluate", "--real", files / "real.parquet", "--synthetic", files / "synthetic.parquet", "--json"
    )
    found = json.loads(done.out)
    assert {"verdict", "reasons", "metrics"} <= set(found)
    assert found["hold_out_given"] is False
    assert found["metrics"]["real_or_fake_auc"]["reference"]["value"] is not None


def test_tables_of_other_origin_and_csv_are_compared(files: Any, tiny_flows: Any, netgen_command: Any) -> None:
    table = pq.read_table(files / "synthetic.parquet")
    plain = table.select(["label", *tiny_flows.spec.channels]).replace_schema_metadata(None)
    pq.write_table(plain, files / "plain.parquet")
    netgen.write(FlowTable.read(files / "held.parquet"), files / "held.csv")
    given = ("evaluate", "--real", files / "real.parquet", "--json", "--synthetic")
    one = json.loads(netgen_command(*given, files / "synthetic.parquet", "--holdout", files / "held.parquet").out)
    other = json.loads(netgen_command(*given, files / "plain.parquet", "--holdout", files / "held.csv").out)
    assert one["metrics"] == other["metrics"]


def test_two_captures_are_compared_the_second_cut_like_the_first(
    pcap_file: Any, packet: Any, netgen_command: Any
) -> None:
    def capture(name: Any, gap: Any) -> Any:
        frames = []
        for flow in range(40):
            begin = flow * 1000
            frames += [
                (begin + step * gap, packet.tcp4(1000 + flow, 443, 16, b"x" * (40 + 13 * (flow * step % 17))))
                for step in range(6)
            ]
        return pcap_file(frames, name)

    done = netgen_command("evaluate", "--real", capture("a.pcap", 100), "--synthetic", capture("b.pcap", 90), "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["verdict"]["use"] == "unknown"
    assert report["flows"]["synthetic"] == 40


def test_flows_of_a_capture_have_the_classes_of_the_labels_file_beside_it(
    files: Any, tmp_path: Path, netgen_command: Any
) -> None:
    netgen.write(FlowTable.read(files / "synthetic.parquet"), tmp_path / "drawn.pcap.gz")
    given = ("evaluate", "--real", files / "real.parquet", "--holdout", files / "held.parquet", "--json", "--synthetic")
    uses = [
        json.loads(netgen_command(*given, tmp_path / "drawn.pcap.gz", *words).out)["verdict"]["use"]
        for words in ([], ["--label-by", "sni"])
    ]
    assert uses[0] != "unknown"
    assert uses[1] == "unknown"
    # what netgen did not write is left alone, also where it is damaged, and what labels nothing is said
    (tmp_path / "drawn.labels.parquet").write_bytes(b"PAR1 and no more")
    assert json.loads(netgen_command(*given, tmp_path / "drawn.pcap.gz").out)["verdict"]["use"] == uses[0]
    own = (tmp_path / "drawn.labels.csv").read_text("utf-8")
    (tmp_path / "drawn.labels.csv").write_text("name,comment\na,b\n")
    assert json.loads(netgen_command(*given, tmp_path / "drawn.pcap.gz").out)["verdict"]["use"] == "unknown"
    (tmp_path / "drawn.labels.csv").write_text(own.replace("198.18.", "198.17."))
    done = netgen_command(*given, tmp_path / "drawn.pcap.gz")
    assert (done.code, done.out) == (1, "")
    assert "drawn.labels.csv lies beside" in done.err
    # flows without a class, of which the label file says none either
    unnamed = FlowTable.read(files / "synthetic.parquet")
    unnamed = FlowTable.build(unnamed.series(), unnamed.spec)
    netgen.write(unnamed, tmp_path / "unnamed.pcap")
    done = netgen_command(*given, tmp_path / "unnamed.pcap")
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
    files: Any, netgen_command: Any, monkeypatch: pytest.MonkeyPatch, words: Any, message: str
) -> None:
    monkeypatch.chdir(files)
    (files / "model.safetensors").write_bytes(b"x")
    (files / "text.csv").write_text("a,b\n1,2\n")
    done = netgen_command("evaluate", *words)
    assert done.code == 1
    assert len(done.err.strip().splitlines()) == 1
    assert re.search(message, done.err), done.err


def test_the_page_names_every_metric_and_every_threshold() -> None:
    text = PAGE.read_text("utf-8")
    for metric in METRICS:
        assert f"| `{metric.name}` |" in text
        assert metric.text in text
    for name, value in verdict.THRESHOLDS.items():
        assert name in text
        assert re.search(rf"{value:g}[^|]{{0,60}}`{name}`|{value:g} \(`{name}`|{value:g} \(`\w+`, `{name}`", text), name


def _rows(**values: Any) -> Any:
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
    ("figures", "use", "share"),
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
def test_verdicts_follow_from_the_thresholds(figures: Any, use: str, share: str) -> None:
    report = verdict.verdict(_rows(**figures), EvaluationSplit(FLOWS, FLOWS, FLOWS, True, True, []))
    assert (report.use, report.share) == (use, share)
    assert ("do not share" in report.text) == (share == "no")


@pytest.mark.parametrize(("name", "sizes"), [("certta_flows", "ip"), ("iot_setup", "frame")])
def test_on_real_traces_a_test_split_scores_as_real_a_copy_and_shuffled_flows_are_detected(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, name: str, sizes: Any
) -> None:
    monkeypatch.setattr(usefulness, "N_TREES", 60)
    monkeypatch.setattr(usefulness, "NETWORK_STEPS", 150)
    monkeypatch.setattr(realism, "N_TREES", 60)
    path = shared_data / "series" / f"{name}.parquet"
    real = netgen.import_traces(path, size_unit=sizes, split="train")
    test = netgen.import_traces(path, size_unit=sizes, split="test", spec_from=real)
    as_synthetic = netgen.evaluate(real, test, seed=1)
    rows: dict[str, Any] = as_synthetic.rows
    for row in rows.values():
        if row.synth is None:
            continue
        if row.metric.better == "high":
            assert row.synthetic.high >= row.reference.low, row
        else:
            assert row.synthetic.low <= max(row.reference.high, 0.5 if row.metric.better == "half" else 0), row
    assert as_synthetic.verdict.use in ("replace", "augment")
    assert as_synthetic.verdict.share == "unknown"
    assert rows["told_apart"].shuffled.low > 0.9
    copied = netgen.evaluate(real, real, holdout=test, seed=1)
    assert copied.verdict.share == "no"
    assert "equal a real flow" in copied.verdict.text


def test_an_evaluation_is_shown_in_a_line_and_as_a_table(files: Any) -> None:
    evaluation = netgen.evaluate(files / "real.parquet", files / "synthetic.parquet", holdout=files / "held.parquet")
    assert repr(evaluation).startswith("Evaluation(20 synthetic flows, ")
    assert "\n" not in repr(evaluation)
    assert "<td>Real-or-fake AUC<td>" in evaluation._repr_html_()
