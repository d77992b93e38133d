"""The command ``netgen augment``: what it writes, prints and refuses."""

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest

import netgen
import netgen.augmentation.augment
import netgen.training.fit
from netgen.augmentation.jitter_selection import JitterScores
from netgen.capture.table.flow_table import FlowTable

TRAINING = ("--training-steps", 3, "--threads", 1, "--precision", "float32", "--validation", 0, "--sampling-steps", 2)
pytestmark = pytest.mark.usefixtures("one_thread")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.train
def test_the_command_trains_and_writes_a_table(folder: Path, netgen_command: Callable[..., Any]) -> None:
    """It prints flows before and after, the flows without a label, and the files."""
    options = ("--target", 24, "--jitter", 0.5, *TRAINING, "--save-model", "m.safetensors")
    outcome = netgen_command("augment", "rare.flows.parquet", *options)
    assert (outcome.code, outcome.err) == (0, "")
    cells = [re.findall(r"[\w-]+", line) for line in outcome.out.splitlines()]
    for row in (["Web-TLS", "19", "3", "2", "24"], ["dns-doh", "5", "10", "9", "24"], ["all", "44", "15", "13", "72"]):
        assert row in cells
    assert "2 flows without a label were kept as they are" in outcome.out
    assert "wrote rare.augmented.parquet: Parquet flow table, 74 flows, 28 of them synthetic" in outcome.out
    assert "model m, seed 0" in outcome.out
    assert files(folder) == sorted(
        ["m.metrics.jsonl", "m.safetensors", "rare.augmented.card.md", "rare.augmented.parquet", "rare.flows.parquet"]
    )
    table = FlowTable.read("rare.augmented.parquet")
    again = netgen.augment("rare.flows.parquet", "24", model="m.safetensors", sampling_steps=2, jitter=0.5)
    assert table.table.equals(again.table)
    assert "netgen augment --target 24" in (folder / "rare.augmented.card.md").read_text()


def test_jitter_alone_trains_nothing(folder: Path, netgen_command: Callable[..., Any]) -> None:
    outcome = netgen_command("augment", "rare.flows.parquet", "--jitter", 1, "-o", "x.parquet")
    assert (outcome.code, outcome.err) == (0, "")
    assert "16 of them synthetic" in outcome.out
    assert "model" not in outcome.out
    assert set(FlowTable.read("x.parquet").counts().values()) == {20}
    assert files(folder) == ["rare.flows.parquet", "x.card.md", "x.parquet"]


def test_the_command_with_a_model_prints_json(
    folder: Path, rare: FlowTable, tiny_model_file: Path, netgen_command: Callable[..., Any]
) -> None:
    """CSV has the column `synthetic`, too."""
    options = ("--model", tiny_model_file, "--sampling-steps", 2, "-o", "more.csv", "--only-synthetic", "--json")
    outcome = netgen_command("augment", "rare.flows.parquet", *options)
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads(outcome.out)
    assert (report["wrote"], report["flows"], report["synthetic"]) == ("more.csv", 16, 16)
    assert (report["made_by"], report["flows_before"], report["saved_model"]) == ("augment", rare.counts(), None)
    assert report["added"] == {"Web-TLS": 1, "dns-doh": 15}
    rows = pyarrow.csv.read_csv(folder / "more.csv")
    assert rows["synthetic"].to_pylist() == [True] * 16
    assert rows["source"].to_pylist() == ["netgen:tiny"] * 16


def test_a_dry_run_prints_the_plan_and_writes_nothing(folder: Path, netgen_command: Callable[..., Any]) -> None:
    outcome = netgen_command("augment", "rare.flows.parquet", "--target", 24, "--dry-run")
    assert (outcome.code, outcome.err) == (0, "")
    cells = [re.findall(r"[\w-]+", line) for line in outcome.out.splitlines()]
    assert ["dns-doh", "5", "19", "0", "24"] in cells
    assert "would write rare.augmented.parquet: Parquet flow table, 74 flows" in outcome.out
    assert files(folder) == ["rare.flows.parquet"]


@pytest.mark.parametrize(
    ("scores", "line"),
    [
        (JitterScores(0.5, 0.62, 42), "7 of the new flows are jittered real ones: in a trial, a random forest gives"),
        (JitterScores(0.5, 0.4, 42), "of 0.400 with jittered flows and 0.500 with repeated ones (--jitter 0.5: half)"),
        (JitterScores(0, 0, 0), "no flow is jittered: a trial needs two classes or more with two real flows each"),
    ],
)
def test_the_command_prints_the_scores_of_jitter_and_of_training(
    scores: JitterScores, line: str, folder: Path, tiny_model: Any, netgen_command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kept = {"step": 30, "macro_f1": 0.5, "real_macro_f1": 0.625, "closest_record_share": 0.52, "closest_low": 0.4}
    validation = {"flows": 6, "kept": kept, "stopped": None}
    monkeypatch.setitem(tiny_model.training, "validation", validation)
    monkeypatch.setattr(netgen.augmentation.augment, "load", lambda _: tiny_model)
    monkeypatch.setattr(netgen.augmentation.augment, "cross_validate_jitter", lambda *_: scores)
    options = ("--model", "tiny", "--sampling-steps", 2, "-o", "x.parquet")
    outcome = netgen_command("augment", "rare.flows.parquet", *options)
    assert (outcome.code, outcome.err) == (0, "")
    text = " ".join(outcome.out.split())
    assert line in text
    assert "6 flows held out: macro F1 0.500 (real flows: 0.625), closest-record share 0.52" in text
    assert FlowTable.read("x.parquet").metadata["jittered"]["scores"] == scores.to_json()
    assert FlowTable.read("x.parquet").metadata["training"]["validation"] == validation
    assert folder.is_dir()


def test_the_command_adds_nothing_if_every_class_has_enough(folder: Path, netgen_command: Callable[..., Any]) -> None:
    """And trains nothing."""
    outcome = netgen_command("augment", "rare.flows.parquet", "--target", 5, "-o", "more.parquet", "--no-card")
    assert outcome.code == 0
    assert "every class has enough flows: none was added" in outcome.out
    assert FlowTable.read("more.parquet").table.equals(FlowTable.read("rare.flows.parquet").table)
    assert files(folder) == ["more.parquet", "rare.flows.parquet"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "x.pcap"], "x.pcap: a capture does not say which of its flows are synthetic"),
        (["-o", "x.txt"], ".txt"),
        (["-o", "rare.flows.parquet"], "exists"),
        (["--target", "lots"], "--target must be a number greater than 0, or balance, got 'lots'"),
        (["--model", "tiny", "--minutes", 1], "--minutes has no effect"),
        (["--save-model", "m.bin"], "--save-model must end with .safetensors, got m.bin"),
        (["--jitter", "lots"], "--jitter must be from 0 to 1, or auto, got 'lots'"),
        (["--resume"], "--resume needs the model of the interrupted training"),
        (["--guidance", "-1"], "--guidance must be 0 or greater, got -1.0"),
        (["no.parquet"], "no.parquet does not exist"),
        (["--training-steps", 0], "--training-steps must be greater than 0, got 0"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("bundled_folder")
def test_an_error_leaves_no_file(
    options: list[Any], message: str, folder: Path, netgen_command: Callable[..., Any]
) -> None:
    outcome = netgen_command("augment", "rare.flows.parquet", *options)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert message in outcome.err
    assert files(folder) == ["rare.flows.parquet"]


@pytest.mark.slow
@pytest.mark.train
def test_an_interrupted_training_can_be_resumed(
    folder: Path, netgen_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the checkpoint beside --save-model; the flows are those of an undisturbed run."""
    options = ("augment", "rare.flows.parquet", *TRAINING, "--no-card", "--save-model")
    assert netgen_command(*options, "whole.safetensors", "-o", "whole.parquet").code == 0

    class SetAtSecondCheck:
        """An event that is set after the first step."""

        checks = 0

        def is_set(self) -> bool:
            self.checks += 1
            return self.checks > 1

    with monkeypatch.context() as patch:
        patch.setattr(netgen.training.fit, "_interruptible", lambda: contextlib.nullcontext(SetAtSecondCheck()))
        outcome = netgen_command(*options, "m.safetensors", "-o", "more.parquet")
    assert outcome.code == 1
    assert "--resume" in outcome.err
    assert not (folder / "more.parquet").exists()
    outcome = netgen_command(*options, "m.safetensors", "-o", "more.parquet", "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    undisturbed, resumed = (FlowTable.read(name) for name in ("whole.parquet", "more.parquet"))
    assert np.array_equal(undisturbed.series(), resumed.series())
