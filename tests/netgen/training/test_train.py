"""`netgen.train`: seeds, budget, and tables and settings that are refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import netgen
from netgen.capture.errors import InputError, SpecMismatchError, TableError
from netgen.capture.table.flow_table import FlowTable
from netgen.cli.train import print_model
from netgen.diffusion.train import train as run_training
from netgen.model.model import Model
from netgen.training import budget, fit
from netgen.training import train as train_module
from netgen.training.budget import TrainingPlan

QUICK: dict[str, Any] = {"training_steps": 5, "preset": "tiny", "threads": 1, "precision": "float32"}
pytestmark = pytest.mark.usefixtures("one_thread", "quick_calibration")


def test_an_unknown_encoder_or_preset_is_refused(tiny_flows: Any) -> None:
    for more, known in (({"encoder": "gaf"}, "gasf, gadf, delay, series"), ({"preset": "huge"}, "tiny, small, base")):
        with pytest.raises(netgen.NetgenError, match=next(iter(more.values()))) as caught:
            netgen.train(tiny_flows, **{**QUICK, **more})
        assert known in str(caught.value) + str(caught.value.hint)


def test_nothing_but_the_series_reaches_the_model(tiny_flows: Any) -> None:
    """Addresses, ports, names, times, files and totals do not change the weights.

    A protocol splits a class into strata; if all flows have the same, it only sets the protocol of the samples.
    """
    rows = len(tiny_flows)
    other = FlowTable.build(
        tiny_flows.series(), tiny_flows.spec, metadata={"made_by": "somebody else"}, label=tiny_flows.labels,
        source=[f"host{row}.pcap" for row in range(rows)], start_ns=np.arange(rows) * 10**9, protocol=6,
        src=[f"10.0.0.{row}" for row in range(rows)], src_port=np.arange(rows) + 1024, dst="203.0.113.7", dst_port=443,
        vlan=7, server_name="www.example.org", flow=np.arange(rows)[::-1], packets=7, bytes=7, duration_ns=7,
        truncated_packets=7,
    )  # fmt: skip
    # validation holds out whole captures, so the names of captures would decide which flows are held out
    one, two = (netgen.train(table, **QUICK, validation=0) for table in (tiny_flows, other))
    assert one.weights_sha256() == two.weights_sha256()
    first, second = one.sample("all", 6), two.sample("all", 6)
    assert second.table["protocol"].to_pylist() == [6] * 6
    assert second.table.drop_columns("protocol").equals(first.table.drop_columns("protocol"))
    moved = tiny_flows.series()
    moved[0, 0, 0] += 1
    changed = FlowTable.build(moved, tiny_flows.spec, label=tiny_flows.labels)
    assert netgen.train(changed, **QUICK, validation=0).weights_sha256() != one.weights_sha256()


def test_the_names_of_classes_do_not_affect_training(tiny_flows: Any) -> None:
    """Renaming classes in their order renames the samples."""
    names = {"Web-TLS": "a", "dns-doh": "b", "dns-plain": "c"}
    renamed = FlowTable.build(tiny_flows.series(), tiny_flows.spec, label=[names[name] for name in tiny_flows.labels])
    one, two = netgen.train(tiny_flows, **QUICK), netgen.train(renamed, **QUICK)
    assert one.weights_sha256() == two.weights_sha256()
    assert two.classes == ("a", "b", "c")


def test_the_same_seed_makes_the_same_model(tiny_flows: Any) -> None:
    one, two, other = (netgen.train(tiny_flows, seed=seed, **QUICK) for seed in (1, 1, 2))
    assert one.weights_sha256() == two.weights_sha256() != other.weights_sha256()


def test_the_model_does_not_depend_on_the_threads_of_the_calling_program(tiny_flows: Any) -> None:
    """It uses its own option, and restores the setting of torch."""
    hashes = set()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        hashes.add(netgen.train(tiny_flows, **QUICK).weights_sha256())
        assert torch.get_num_threads() == threads
    assert len(hashes) == 1


def test_flows_without_a_label_are_left_out_of_the_training(tiny_flows: Any) -> None:
    more = FlowTable.build(tiny_flows.series()[:3] * 9, tiny_flows.spec)
    with_more = netgen.train([tiny_flows, more], **QUICK)
    assert with_more.weights_sha256() == netgen.train(tiny_flows, **QUICK).weights_sha256()


def test_the_packet_limits_of_every_class_are_measured(tiny_model: Model, tiny_flows: Any) -> None:
    """No sampled packet of a class is smaller or larger on average than the real ones."""
    series, labels = tiny_flows.to_numpy()
    for index, name in enumerate(tiny_model.classes):
        of_class = series[labels == name]
        for way in (0, 1):
            busy = of_class[:, 2 + way] > 0
            mean = of_class[:, way][busy] / of_class[:, 2 + way][busy]
            assert tiny_model.limits.smallest[index, way] == int(mean.min())
            assert tiny_model.limits.largest[index, way] == int(np.ceil(mean.max()))


def test_the_metrics_file_logs_the_training(tiny_model_file: Path) -> None:
    """It has a JSON line at the beginning and one every 20 steps: error, rate, samples a second, progress."""
    lines = [json.loads(line) for line in tiny_model_file.with_name("tiny.metrics.jsonl").read_text().splitlines()]
    assert lines[0]["begin_at_step"] == 0
    assert lines[0]["threads"] == 1
    assert [line["step"] for line in lines[1:]] == [20, 30]
    assert lines[-1]["share_done"] == 1
    assert all(line["error"] > 0 and line["samples_per_second"] > 0 for line in lines[1:])


def test_training_by_time_ends_after_enough_epochs(
    tiny_flows: FlowTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """More passes only memorise the flows; `training_steps` overrides that."""
    monkeypatch.setattr(budget, "MIN_STEPS", 3)
    monkeypatch.setattr(budget, "MAX_EPOCHS", 4)
    settings: dict[str, Any] = {"threads": 1, "precision": "float32", "validation": 0, "preset": "tiny"}
    model = netgen.train(tiny_flows, minutes=60, **settings)
    steps = model.training["steps"]
    assert steps == -(-4 * len(tiny_flows) // model.training["batch"]) > 3
    assert model.training["minutes"] < 30
    assert model.training["ended_by"] == "epochs"
    print_model(model.save(tmp_path / "m.safetensors"), model)
    assert "--training-steps" in "".join(capsys.readouterr())
    longer = netgen.train(tiny_flows, minutes=60, training_steps=steps + 2, **settings)
    assert (longer.training["steps"], longer.training["ended_by"]) == (steps + 2, "training_steps")


def test_the_minutes_include_calibration(tiny_flows: FlowTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training itself ends earlier; the total is noted."""
    limits: list[float] = []
    clock = [0.0]

    def short(state: Any, data: Any, config: Any, *hooks: Any) -> Any:
        if hooks:  # not the speed trial
            limits.append(config.seconds)
        return run_training(state, data, dataclasses.replace(config, steps=2, seconds=None), *hooks)

    def slow(model: Model, *_: Any, **__: Any) -> Model:
        clock[0] += 90.0
        return model

    monkeypatch.setattr(fit, "run_training", short)
    monkeypatch.setattr(train_module, "calibrate", slow)
    monkeypatch.setattr("netgen.training.train.time.monotonic", lambda: clock[0])
    model = netgen.train(tiny_flows, minutes=10, preset="tiny", threads=1, precision="float32", validation=0)
    assert limits == [pytest.approx(600 * 0.9)]
    assert model.training["minutes"] == 1.5
    assert model.training["warnings"][-1] == "training stopped after 2 steps; a model needs about 3,000"


def test_the_plan_is_reported_before_training(tiny_flows: FlowTable) -> None:
    """It states the limit that will end training, the number of held-out flows, and small classes."""
    plans: list[TrainingPlan] = []
    model = netgen.train(tiny_flows, **QUICK, on_plan=plans.append)
    (plan,) = plans
    assert plan.limit == "training_steps"
    assert plan.validation_flows + sum(plan.counts.values()) == len(tiny_flows)
    assert str(plan) == "Training will end after 5 steps. 6 flows are held out for validation."
    assert model.training["warnings"] == plan.warnings
    assert plan.warnings == ["classes with fewer than 20 training flows: Web-TLS (18), dns-doh (18), dns-plain (18)"]


@pytest.mark.parametrize(
    ("minutes", "steps", "speed", "limit", "text"),
    [
        (
            None,
            None,
            0.01,
            "epochs",
            "after 3,000 steps (300 passes over the 320 training flows), in about 0.5 minutes",
        ),
        (None, None, 1.0, "minutes", "after 10.0 minutes, calibration included."),
        (
            None,
            None,
            None,
            None,
            "after 3,000 steps (300 passes over the 320 training flows) or 10.0 minutes, calibration",
        ),
        (None, 50, None, "training_steps", "after 50 steps."),
        (1.0, 50, 0.01, "training_steps", "after 50 steps, in about 0.1 minutes"),
        (1.0, 50, 10.0, "minutes", "after 1.0 minutes, calibration included."),
    ],
)
def test_the_first_limit_reached_is_announced(
    minutes: float | None, steps: int | None, speed: float | None, limit: str | None, text: str
) -> None:
    plan = TrainingPlan(budget.Budget(minutes, steps, flows=320, batch=32), 0, {"a": 320}, speed)
    assert plan.limit == limit
    assert text in str(plan)
    assert str(plan).endswith("No flows are held out for validation.")
    assert plan.warnings == []


def test_threads_and_precision_are_chosen_by_trial_and_noted(tiny_flows: Any) -> None:
    """The trial runs if they are not given, and does not affect the training."""
    before = torch.get_num_threads()
    model = netgen.train(tiny_flows, training_steps=3, preset="tiny", threads=1)
    assert torch.get_num_threads() == before
    assert model.training["precision"] in ("float32", "bfloat16")
    if model.training["precision"] == "float32":
        assert (
            model.weights_sha256()
            == netgen.train(
                tiny_flows, training_steps=3, preset="tiny", threads=1, precision="float32"
            ).weights_sha256()
        )


@pytest.mark.parametrize(
    "more", [{"training_steps": 0}, {"minutes": -1}, {"threads": 0}, {"precision": "float16"}], ids=str
)
def test_invalid_settings_are_refused(more: Any, tiny_flows: Any) -> None:
    with pytest.raises(InputError, match=f"--{next(iter(more))}".replace("_", "-")):
        netgen.train(tiny_flows, **more)


@pytest.mark.parametrize("seed", [-1, 2**31, 2**64])
def test_invalid_seeds_are_refused(seed: Any, tiny_flows: Any) -> None:
    with pytest.raises(InputError, match=rf"--seed must be from 0 to 2147483647, got {seed}"):
        netgen.train(tiny_flows, seed=seed, training_steps=1)


def test_tables_that_cannot_be_learnt_from_are_refused(tiny_flows: Any) -> None:
    bare = FlowTable.build(tiny_flows.series(), tiny_flows.spec)
    with pytest.raises(TableError, match="none of the 60 flows has a label"):
        netgen.train(bare, training_steps=1)
    idle = FlowTable.build(np.zeros((3, 4, 16)), tiny_flows.spec, label="a")
    with pytest.raises(TableError, match="hold no bytes"):
        netgen.train(idle, training_steps=1)
    other = FlowTable.build(tiny_flows.series(), dataclasses.replace(tiny_flows.spec, bin_ns=5), label="a")
    with pytest.raises(SpecMismatchError):
        netgen.train([tiny_flows, other], training_steps=1)
    with pytest.raises(InputError, match="out=FILE"):
        netgen.train(tiny_flows, training_steps=1, resume=True)
