"""encoders/decoding/traits.py: what flows are like, what the network is told of it, and that it draws such flows."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import netgen
from netgen.capture.errors import ModelError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion import model_file
from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.traits import BLUR, MOST, TRAITS, Traits, traits_of
from netgen.model.model import Model


def random_series(seed: Any, flows: Any, bins: Any = 16) -> Any:
    rng = np.random.default_rng(seed)
    packets = rng.poisson(rng.random((flows, 1, 1)) * 2, (flows, 2, bins))
    packets[:, 0, 0] = np.maximum(packets[:, 0, 0], 1)
    return np.concatenate([packets * rng.integers(40, 1500, packets.shape), packets], axis=1)


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_flow_features_are_the_last_busy_bin_and_the_number_of_busy_bins(seed: int, bins: Any) -> None:
    series = random_series(seed, 20, bins)
    busy = series[:, 2:].any(1)
    result = traits_of(torch.from_numpy(BinScaler.of(series).scale(series))).numpy()
    counts = np.expm1((result + 1) / 2 * np.log1p(bins))
    np.testing.assert_allclose(counts[:, 0], bins - busy[:, ::-1].argmax(1))
    np.testing.assert_allclose(counts[:, 1], busy.sum(1))
    assert (np.abs(result) <= 1 + 1e-6).all()


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 30), st.integers(0, 3))
def test_every_real_flow_is_used_once_per_round(seed: int, flows: Any, turn: Any) -> None:
    real = np.linspace(-1, 1, flows, dtype=np.float32)
    features = Traits(np.repeat(real, TRAITS).reshape(1, flows, TRAITS))
    cond = np.array([features.told(0, turn * flows + index, seed=seed)[0] for index in range(flows)])
    # six spreads are more than chance, in some tens of thousands of numbers
    np.testing.assert_allclose(np.sort(cond), real, atol=6 * BLUR)
    again = features.told(0, turn * flows, seed=seed)
    np.testing.assert_array_equal(again, features.told(0, turn * flows, seed=seed))
    assert (again != features.told(0, turn * flows, seed=seed + 1 if seed < 0 else seed - 1)).all()


def test_of_many_flows_those_are_kept_that_stand_for_all() -> None:
    series = random_series(1, 3 * MOST)
    scaled = torch.from_numpy(BinScaler.of(series).scale(series))
    labels = np.repeat([0, 1], [3 * MOST - 5, 5])
    kept = Traits.learn(scaled, labels, 2).real
    assert kept.shape == (2, MOST, TRAITS)
    assert np.isnan(kept[1, 5:]).all()
    np.testing.assert_allclose(kept[1, :5].mean(0), traits_of(scaled[-5:]).mean(0), atol=1e-6)
    np.testing.assert_allclose(kept[0].mean(0), traits_of(scaled[:-5]).mean(0), atol=0.02)


def test_without_store_flows_features_are_rounded() -> None:
    """Not the counts themselves, but others within a fifth of them, of which there are few."""
    series = random_series(3, 100, bins=128)
    scaled = torch.from_numpy(BinScaler.of(series).scale(series))
    labels = np.zeros(100, np.int64)
    exact, near = (Traits.learn(scaled, labels, 1, exact=item).real[0] for item in (True, False))
    np.testing.assert_allclose(near, exact, atol=BLUR + 1e-6)
    assert len(np.unique(near)) <= 1 + 1 / BLUR
    assert len(np.unique(near)) < len(np.unique(exact))


HOLES = np.zeros((2, 3, TRAITS), np.float32)
HOLES[1, 1] = np.nan
HALF = np.zeros((2, 3, TRAITS), np.float32)
HALF[1, 2, 0] = np.nan


@pytest.mark.parametrize(
    "real",
    [
        np.zeros((3, 1, TRAITS), np.float32),
        np.zeros((2, 1, TRAITS + 1), np.float32),
        np.zeros((2, 1, TRAITS)),
        np.full((2, 1, TRAITS), np.nan, np.float32),
        np.full((2, 1, TRAITS), 2, np.float32),
        np.zeros((2, 0, TRAITS), np.float32),
        HOLES,
        HALF,
    ],
)
def test_features_of_another_model_are_refused(real: Any) -> None:
    Traits(np.zeros((2, 1, TRAITS), np.float32)).check(2)
    with pytest.raises(ValueError, match="does not fit"):
        Traits(real).check(2)


@pytest.fixture(scope="module")
def long_and_short() -> Any:
    """Return a class of which one flow in eight goes on four times as long as the others."""
    series = random_series(2, 64)
    series[np.arange(64) % 8 > 0, :, 4:] = 0
    series[np.arange(64) % 8 == 0, :, 8:] = [[600], [0], [1], [0]]
    table = FlowTable.build(series, SeriesSpec(bin_ns=10**8, length=16), label=["a"] * 64)
    return table, netgen.train(table, training_steps=1000, threads=1, precision="float32", validation=0, preset="tiny")


def last_bins(series: Any) -> Any:
    return 16 - series[:, 2:].any(1)[:, ::-1].argmax(1)


@pytest.mark.slow
@pytest.mark.train
def test_flows_are_as_long_as_their_features(long_and_short: Any) -> None:
    """As often as real flows do, they go on; told that all are short, none does."""
    table, model = long_and_short
    sampled = last_bins(model.sample("a", 128, seed=3).series()) > 8
    assert abs(sampled.sum() - 16) <= 3
    few = dataclasses.replace(model, flow_features=Traits(model.flow_features.real[:, :1].repeat(64, axis=1)))
    assert (last_bins(few.sample("a", 32, seed=3).series()) <= 4).mean() > 0.9
    assert set(last_bins(table.series()).tolist()) <= {1, 2, 3, 4, 16}


@pytest.mark.slow
@pytest.mark.train
def test_features_are_in_the_model_file(long_and_short: Any, tmp_path: Path) -> None:
    _, model = long_and_short
    again = Model.load(model.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(again.flow_features.real, model.flow_features.real)
    assert again.sample("a", 5, seed=1).table.equals(model.sample("a", 5, seed=1).table)


@pytest.mark.slow
@pytest.mark.train
def test_a_file_that_lacks_them_is_refused(long_and_short: Any, tmp_path: Path) -> None:
    _, model = long_and_short
    path = model.save(tmp_path / "m.safetensors")
    tensors = model_file.load_tensors(path)
    del tensors["flow_features.real"]
    model_file.save(tmp_path / "less.safetensors", tensors, model_file.load_metadata(path))
    with pytest.raises(ModelError, match=r"damaged model: its flow features should be 0, not 2"):
        Model.load(tmp_path / "less.safetensors")


def test_series_of_packets_have_none() -> None:
    """Their network is told nothing but the class."""
    rng = np.random.default_rng(0)
    series = np.stack([rng.integers(40, 1500, (12, 8)), rng.integers(0, 1000, (12, 8))], axis=1)
    table = FlowTable.build(series, SeriesSpec(0, 8, "packets", ("size", "gap")), label=["a"] * 12)
    model = netgen.train(table, training_steps=2, threads=1, precision="float32", validation=0)
    assert not len(model.flow_features.real)
    assert model.network.config.n_features == 0
