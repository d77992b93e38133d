"""Training: batches, averaging, budget, resuming."""

import dataclasses
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.small_network import (
    CPU,
    SMALL,
    equal_states,
    small_training,
)

from netgen.diffusion import model_file
from netgen.diffusion.train import Progress, TrainConfig, class_weights, fastest, learning_rate, new_state

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_denoiser_learns() -> None:
    """The error on two images of two classes falls from 1, that of a guess, to a fraction in about 100 steps."""
    reports: list[Progress] = []
    config = TrainConfig(steps=160, batch=16, lr=5e-3, warmup=10, label_dropout=0.0, log_every=20)
    small_training(config, examples=2, on_log=reports.append)
    assert [report.step for report in reports] == list(range(20, 161, 20))
    assert reports[-1].error < 0.1 < 0.4 < reports[0].error
    assert reports[-1].share_done == 1
    assert json.loads(json.dumps(dataclasses.asdict(reports[-1])))["step"] == 160


def test_the_same_seed_makes_the_same_weights() -> None:
    config = TrainConfig(steps=5, batch=4)
    assert equal_states(small_training(config), small_training(config))
    assert not equal_states(small_training(config), small_training(dataclasses.replace(config, seed=1)))


def test_training_leaves_the_global_generator_alone() -> None:
    """Training does not depend on it either."""
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one = small_training(TrainConfig(steps=2, batch=4))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    assert equal_states(one, small_training(TrainConfig(steps=2, batch=4)))


@pytest.mark.parametrize("at", [1, 7, 11])
def test_a_resumed_training_equals_an_uninterrupted_one(at: int, tmp_path: Path) -> None:
    """Weights, average, optimizer and level weights are equal bit for bit after a checkpoint file."""
    config = TrainConfig(steps=12, batch=4, warmup=5)
    uninterrupted = small_training(config)
    calls = itertools.count()
    first = small_training(config, stop=lambda: next(calls) >= at)
    assert first.step == at
    model_file.save(tmp_path / "x.safetensors", model_file.state_tensors(first), {"step": first.step})
    second = new_state(SMALL, config, CPU)
    model_file.restore_state(second, model_file.load_tensors(tmp_path / "x.safetensors"))
    second.step = model_file.load_metadata(tmp_path / "x.safetensors")["step"]
    assert equal_states(first, second)
    assert equal_states(small_training(config, state=second), uninterrupted)


def test_the_average_follows_the_weights() -> None:
    """It equals neither the last weights nor the first."""
    state = small_training(TrainConfig(steps=30, batch=4, warmup=1))
    fresh = new_state(SMALL, TrainConfig(steps=30), CPU)
    name = "out_proj.weight"
    last, mean, first = (network.state_dict()[name] for network in (state.network, state.ema, fresh.network))
    assert not torch.equal(mean, last)
    assert float((mean - last).norm()) < float((first - last).norm()) / 2


def test_a_budget_is_required_and_the_first_one_reached_ends_the_training() -> None:
    with pytest.raises(ValueError, match="a budget: steps or seconds"):
        TrainConfig()
    assert small_training(TrainConfig(steps=3, seconds=1000, batch=2)).step == 3
    begun = time.monotonic()
    state = small_training(TrainConfig(steps=10**9, seconds=0.3, batch=2))
    assert 1 <= state.step < 10**6
    assert state.seconds >= 0.3
    assert time.monotonic() - begun < 30
    assert small_training(TrainConfig(steps=3, batch=2), state=state).step == state.step  # it was spent before


def test_checkpoints_are_written_during_training() -> None:
    steps = []
    small_training(
        TrainConfig(steps=4, batch=2, checkpoint_seconds=0.0), on_checkpoint=lambda state: steps.append(state.step)
    )
    assert steps == [1, 2, 3, 4]


def test_a_loss_that_is_not_a_number_ends_the_training() -> None:
    images = torch.full((2, 2, 8, 8), math.nan)
    with pytest.raises(ArithmeticError, match="the loss is nan at step 20"):
        small_training(TrainConfig(steps=40, batch=2), examples=2, images=images)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    config = TrainConfig(steps=1000, lr=1e-2, warmup=100)
    rates = [learning_rate(config, step, step / 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-2, rel=0.03)
    assert rates.index(max(rates)) in range(95, 105)
    assert all(one > other for one, other in itertools.pairwise(rates[105:]))
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.randoms())
def test_classes_are_sampled_by_the_square_root_of_their_size(counts: Any, random: Any) -> None:
    """A class with four times the examples is chosen twice as often; examples of a class are equally likely."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    random.shuffle(labels)
    classes = torch.tensor(labels)
    weights = class_weights(classes)
    assert float(weights.sum()) == pytest.approx(1)
    share = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, classes, weights)
    root = torch.tensor(counts, dtype=torch.float64).sqrt()
    torch.testing.assert_close(share, root / root.sum())
    for label in range(len(counts)):
        assert len(weights[classes == label].unique()) == 1


def test_the_fastest_choice_is_measured_after_a_warm_up() -> None:
    """The first run of every choice does not count."""
    runs = []

    def trial(seconds: Any) -> None:
        time.sleep(seconds if seconds in runs else 0.05 - seconds)
        runs.append(seconds)

    assert fastest([0.04, 0.001, 0.03], trial)[0] == 0.001
    assert runs == [0.04] * 4 + [0.001] * 4 + [0.03] * 4
