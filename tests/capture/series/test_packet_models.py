"""Series of the first packets: scaled, learned by a model, sampled and decoded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.packet_series import tcp_packet_series

import netgen
import netgen.capture.series.counters
from netgen.capture.errors import ModelError
from netgen.capture.series.counters import as_bins
from netgen.capture.series.feasible import PacketLimits, feasible_packets
from netgen.capture.series.spec import NS, SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.encoders.decoding.packet_scaler import PacketScaler
from netgen.evaluation.report.sections import write_report
from netgen.plotting import show

US = 1_000
COMMAND = Path(sys.executable).with_name("netgen")  # what pip puts on the PATH


# -- the scale -----------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
@settings(max_examples=examples(50))
def test_scaled_packets_can_be_decoded(seed: int, flows: Any) -> None:
    """Sizes come back exactly from float32, gaps to float32's precision."""
    series = tcp_packet_series(flows, seed=seed)
    scale = PacketScaler.of(series)
    scaled = scale.scale(series)
    assert scaled.shape == (flows, 3, 16)
    assert scaled.min() >= 0.25
    assert scaled.max() <= 1
    again = PacketScaler.from_json(json.loads(json.dumps(scale.to_json())))
    result = again.decode(scaled.astype(np.float32), np.array([20, 20]), np.array([1500, 1500]))
    np.testing.assert_array_equal(result[:, 0], series[:, 0])
    np.testing.assert_allclose(result[:, 1], series[:, 1], atol=1, rtol=1e-4)


@given(st.integers(0, 2**32 - 1), st.floats(0, 2))
@settings(max_examples=examples(50))
def test_any_sampled_series_becomes_feasible(seed: int, noise: Any) -> None:
    """Any amount of noise is decoded into packets without holes, within the limits of the class."""
    series = tcp_packet_series(8, seed=seed)
    labels = np.arange(8) % 2
    limits = PacketLimits.of(as_bins(series, SeriesSpec.packets(16)), labels, 2)
    scale = PacketScaler.of(series)
    sampled = scale.scale(series) + noise * np.random.default_rng(seed).standard_normal((8, 3, 16))
    result = scale.decode(sampled, limits.smallest[labels], limits.largest[labels])
    same, changed = feasible_packets(result, labels, limits)
    assert changed == {}
    np.testing.assert_array_equal(same, result)
    assert (result[:, 0, 0] != 0).all()


def test_one_weak_packet_does_not_end_a_flow() -> None:
    """The decoder keeps a weak packet among strong ones, and drops one after the end."""
    series = tcp_packet_series(30, 32)
    series = series[(series[:, 0] != 0).sum(1) >= 12][:1]
    scale = PacketScaler.of(series)
    number = int((series[0, 0] != 0).sum())
    sampled = scale.scale(series)
    sampled[0, :2, 5] = 0.26
    sampled[0, :2, min(number + 2, 31)] = 0.35  # nearer to no packet than to the smallest one
    result = scale.decode(sampled, np.array([20, 20]), np.array([1500, 1500]))
    assert (result[0, 0] != 0).sum() == number
    np.testing.assert_array_equal(np.delete(result[0, 0], 5), np.delete(series[0, 0], 5))


@given(st.integers(0, 2**32 - 1))
def test_any_numbers_become_packets_that_a_flow_can_have(seed: int) -> None:
    rng = np.random.default_rng(seed)
    series = np.stack([rng.choice([0, 0, -2000, -100, 3, 60, 5000], (20, 8)), rng.integers(-5, 50, (20, 8))], axis=1)
    result, changed = feasible_packets(series)
    size, gap = result[:, 0], result[:, 1]
    assert ((size == 0) | ((np.abs(size) >= 20) & (np.abs(size) <= 1500))).all()
    assert (size[:, 0] != 0).all()
    assert not ((size[:, 1:] != 0) & (size[:, :-1] == 0)).any()
    assert (gap >= 0).all()
    assert not gap[:, 0].any()
    assert not gap[size == 0].any()
    assert set(changed) <= {
        "packets moved up into a hole",
        "packets brought within the sizes of their class",
        "empty flow given one packet",
        "gaps where there can be none",
    }
    again, unchanged = feasible_packets(result)
    assert unchanged == {}
    np.testing.assert_array_equal(again, result)


# -- learning ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packet_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[FlowTable, Path]:
    """Train a model of two classes, one with large packets and one with small ones."""
    series = tcp_packet_series(40, 8)
    series[::2, 0] = np.where(np.abs(series[::2, 0]) > 60, np.sign(series[::2, 0]) * 1400, series[::2, 0])
    table = FlowTable.build(series, SeriesSpec.packets(8), label=["large", "small"] * 20)
    out = tmp_path_factory.mktemp("packets") / "m.safetensors"
    netgen.train(table, out=out, training_steps=150, threads=1, precision="float32")
    return table, out


@pytest.mark.parametrize("encoder", ["series", "gasf", "gadf", "delay"])
def test_every_encoder_learns_packets(packet_model: Any, encoder: str) -> None:
    table, _ = packet_model
    model = netgen.train(table, training_steps=3, threads=1, precision="float32", validation=0, encoder=encoder)
    sampled = model.sample("all", 4)
    assert sampled.spec == table.spec
    _, changed = feasible_packets(sampled.series())
    assert changed == {}


def test_a_model_of_packets_samples_packets_of_its_classes(packet_model: Any) -> None:
    """Sizes lie within those of the real class; flow i is the same alone and among others."""
    table, path = packet_model
    model = netgen.load(path)
    sampled = model.sample({"large": 6, "small": 3}, seed=4)
    sizes = {name: np.abs(table.take(table.labels == name).series()[:, 0]) for name in table.classes}
    for name in table.classes:
        ours = np.abs(sampled.take(sampled.labels == name).series()[:, 0])
        assert ours[ours > 0].min() >= sizes[name][sizes[name] > 0].min()
        assert ours.max() <= sizes[name].max()
    again = netgen.load(path).sample({"large": 6}, seed=4)
    np.testing.assert_array_equal(again.series(), sampled.take(sampled.labels == "large").series())
    assert model.metadata()["series"] == SeriesSpec.packets(8).to_json()


@pytest.mark.slow
def test_evaluation_report_and_picture_of_packets(packet_model: Any, tmp_path: Path) -> None:
    """Metrics are finite, and the report speaks of packets, not of seconds."""
    table, path = packet_model
    sampled = netgen.load(path).sample("all", 40)
    result = netgen.evaluate(table, sampled)
    values = [row.synthetic.value for row in result.rows.values() if row.synthetic is not None]
    assert len(values) > 15
    assert np.isfinite(values).all()
    text = write_report(result, tmp_path / "r.html").read_text()
    assert "Packet sizes" in text
    assert "Bytes down" not in text
    assert show([path], tmp_path / "p.png").stat().st_size > 10_000


def test_a_model_with_another_view_than_its_network_is_refused(packet_model: Any, tmp_path: Path) -> None:
    from netgen.diffusion import model_file

    _, path = packet_model
    metadata = model_file.load_metadata(path)
    metadata["series"] = SeriesSpec(NS, 8).to_json()
    model_file.save(tmp_path / "m.safetensors", model_file.load_tensors(path), metadata)
    with pytest.raises(ModelError, match="its channels should be 4, not 3"):
        netgen.load(tmp_path / "m.safetensors")


def test_augment_fills_up_a_table_of_packets(packet_model: Any) -> None:
    table, path = packet_model
    more = netgen.augment(table.take(np.arange(30)), 25, model=path)
    assert more.counts() == {"large": 25, "small": 25}
    assert more.spec == table.spec


@pytest.mark.slow
def test_the_commands_from_capture_to_capture(packet_model: Any, tmp_path: Path) -> None:
    """Run extract --view packets, train, synth to a capture, and extract --spec-from."""
    table, _ = packet_model
    netgen.write(table, tmp_path / "real.pcap")

    def run(*words: str) -> str:
        done = subprocess.run([COMMAND, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    message = run("extract", "real.pcap", "--view", "packets", "--length", "8", "--label", "x", "-o", "f.parquet")
    assert "the first 8 packets" in message
    run(
        "train", "f.parquet", "-o", "m.safetensors", "--training-steps", "5", "--threads", "1", "--precision", "float32"
    )
    assert "8 packets" in run("info", "m.safetensors")
    run("synth", "-m", "m.safetensors", "--class", "x", "-n", "5", "-o", "s.pcap")
    run("synth", "-m", "m.safetensors", "--class", "x", "-n", "5", "-o", "s.parquet")
    assert "the size and the gap of each" in (tmp_path / "s.card.md").read_text()
    run("extract", "s.pcap", "--spec-from", "s.parquet", "--label", "x", "-o", "back.parquet")
    assert len(FlowTable.read(tmp_path / "back.parquet")) == 5
