"""Profiles of a class's UDP flows: measured by extract, stored in a model, used by the exporter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

import netgen
from netgen.capture.series.profile import GAP_QUANTILES, PROFILE_KEY, SIZE_QUANTILES, merge_profiles, read_profiles
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.exporters.pcap.counter_rng import flow_keys
from netgen.exporters.pcap.layout import lay_out
from netgen.exporters.pcap.plan import plan
from netgen.exporters.pcap.sizes_and_times import KNOWN_PORTS, load_profiles, profile_sizes
from netgen.exporters.write import write

MS = 1_000_000


@pytest.fixture
def capture(pcap_file: Callable[..., Path], packet: Any) -> Path:
    """Write 60 calls to port 3478: ten times 80 bytes from the client, and 1,000 from the server 20 ms later."""
    frames = []
    for flow in range(60):
        for turn in range(10):
            when = 10**18 + flow * 3 * 10**8 + turn * 25 * MS
            up = packet.udp(40_000 + flow, 3478, bytes(80 - 28))
            down = packet.udp(3478, 40_000 + flow, bytes(1000 - 28))
            frames.append((when, packet.ether(packet.ipv4(up, 17))))
            answer = packet.ether(packet.ipv4(down, 17, src="10.0.0.2", dst="10.0.0.1"))
            frames.append((when + 20 * MS, answer))
    return pcap_file(sorted(frames), nano=True)


def test_a_profile_describes_the_labelled_flows_of_a_class(capture: Path) -> None:
    """It has protocols, server ports, sizes in both directions and gaps, for any number of threads."""
    table = netgen.extract(capture, label="call")
    profile = read_profiles(table.metadata)["call"]
    assert (profile["tcp"], profile["udp"], profile["ports"]) == (0, 60, {"3478": 60})
    assert (set(profile["up_sizes"]), set(profile["down_sizes"])) == ({80}, {1000})
    assert (profile["up_packets"], profile["down_packets"], profile["gaps"]) == (600, 600, 60 * 19)
    assert (len(profile["up_sizes"]), len(profile["gaps_ns"])) == (SIZE_QUANTILES, GAP_QUANTILES)
    gaps = np.array(profile["gaps_ns"])
    assert ((abs(gaps / (20 * MS) - 1) < 0.05) | (abs(gaps / (5 * MS) - 1) < 0.05)).all()
    assert netgen.extract(capture, label="call", threads=2).metadata == table.metadata
    assert PROFILE_KEY not in netgen.extract(capture).metadata
    assert PROFILE_KEY not in netgen.extract(capture, label="call", group_by="host").metadata


def test_no_address_or_client_port_is_kept(capture: Path) -> None:
    """A profile does not say who talked to whom."""
    text = str(netgen.extract(capture, label="call").metadata[PROFILE_KEY])
    assert not any(word in text for word in ("10.0.0", "40000", "40001", "40059"))


def test_profiles_of_joined_tables_are_merged(capture: Path) -> None:
    """Flows and ports add up; distributions are weighted by their packets."""
    table = netgen.extract(capture, label="call")
    both = read_profiles(concat([table, table]).metadata)["call"]
    assert (both["udp"], both["ports"], both["up_packets"]) == (120, {"3478": 120}, 1200)
    other = {**both, "up_sizes": [200] * SIZE_QUANTILES, "up_packets": 400, "ports": {"443": 500}, "udp": 500}
    mixed = merge_profiles([{"call": both}, {"call": other}, {"web": {"tcp": 3, "udp": 0}}])
    assert mixed["call"]["up_sizes"].count(80) == SIZE_QUANTILES * 3 // 4
    assert mixed["call"]["ports"] == {"443": 500, "3478": 120}
    assert mixed["web"] == {"tcp": 3, "udp": 0}


@pytest.mark.slow
def test_a_model_stores_the_profile(capture: Path, tmp_path: Path) -> None:
    """The model file holds it, and the sampled flows are UDP like the real ones."""
    table = netgen.extract(capture, label="call", length=8)
    model = netgen.train(table, out=tmp_path / "m.safetensors", training_steps=2, validation=0)
    again = netgen.load(tmp_path / "m.safetensors")
    assert again.profile == model.profile == table.metadata[PROFILE_KEY]
    sampled = again.sample("call", 4, sampling_steps=2)
    assert sampled.table["protocol"].to_pylist() == [17] * 4
    assert sampled.metadata[PROFILE_KEY] == table.metadata[PROFILE_KEY]
    write(sampled, tmp_path / "x.pcap")
    assert set(pq.read_table(tmp_path / "x.labels.parquet")["dst_port"].to_pylist()) == {3478}


def test_exported_packets_have_the_sizes_and_gaps_of_the_class(capture: Path, tmp_path: Path) -> None:
    """They come from the profile where the bins of a series do not determine them."""
    table = netgen.extract(capture, label="call", bin_width="100ms", length=8)
    write(table, tmp_path / "x.pcap")
    again = netgen.extract(tmp_path / "x.pcap", label="call", spec_from=table)
    np.testing.assert_array_equal(again.series(), table.series())
    measured, wanted = again.metadata[PROFILE_KEY]["call"], table.metadata[PROFILE_KEY]["call"]
    assert (measured["up_sizes"], measured["down_sizes"]) == (wanted["up_sizes"], wanted["down_sizes"])
    assert measured["ports"] == wanted["ports"]
    share = np.mean([abs(gap / MS - 20) < 2 or abs(gap / MS - 5) < 0.6 for gap in measured["gaps_ns"]])
    assert share > 0.5  # gaps within a bin; the others depend on the bin boundaries


def test_ports_of_other_protocols_are_not_used() -> None:
    """A payload of zeros at port 53 would be malformed DNS, so port 443 replaces it."""
    profile = {"tcp": 0, "udp": 9, "ports": {"53": 5, "3478": 3, "50000": 1}, "up_sizes": [60], "up_packets": 9}
    series = np.ones((400, 4, 8), np.int64)
    table = FlowTable.build(
        series, SeriesSpec(bin_ns=10**8, length=8), metadata={PROFILE_KEY: {"a": profile}}, label="a", protocol=17
    )
    number = np.arange(400)
    ports = load_profiles(table).server_ports(flow_keys(0, number, number * 0)).tolist()
    assert set(ports) == {443, 3478, 50000}
    assert set(ports) - {50000} <= set(KNOWN_PORTS)
    assert ports.count(443) > ports.count(3478) > ports.count(50000) > 0


cell = st.tuples(st.integers(1, 40), st.floats(0, 1))


@settings(max_examples=examples(150))
@given(
    st.lists(cell, min_size=1, max_size=20), st.lists(st.integers(1, 3000), min_size=1, max_size=9), st.integers(0, 9)
)
def test_sampled_sizes_add_up(cells: list[tuple[int, float]], sizes: list[int], seed: int) -> None:
    """Sizes add up to the bytes of the bin; each packet has its headers and fits the MTU."""
    profile = {"tcp": 0, "udp": 1, "up_sizes": sorted(sizes), "up_packets": 3}
    table = FlowTable.build(
        np.ones((1, 4, 8), np.int64),
        SeriesSpec(bin_ns=10**8, length=8),
        metadata={PROFILE_KEY: {"a": profile}},
        label="a",
        protocol=17,
    )  # fmt: skip
    many = np.array([number for number, _ in cells])
    rest = np.array([28 * number + int(fraction * number * 1472) for number, fraction in cells])
    cell_of = np.repeat(np.arange(len(cells)), many)
    index = np.arange(len(cell_of)) - np.repeat(many.cumsum() - many, many)
    zeros = np.zeros(len(cells), np.int64)
    keys = flow_keys(seed, np.arange(len(cells)), zeros)
    measured = profile_sizes(load_profiles(table), zeros, zeros, index, cell_of, many, rest, zeros + 1500, keys)
    assert np.bincount(cell_of, measured).astype(int).tolist() == rest.tolist()
    assert measured.min() >= 28
    assert measured.max() <= 1500


def test_a_flow_with_a_profile_does_not_depend_on_the_others(capture: Path) -> None:
    """Its packets are the same alone and among others."""
    table = netgen.extract(capture, label="call", bin_width="100ms", length=8)
    everyone = lay_out(plan(table, seed=2), np.arange(len(table)))
    alone = lay_out(plan(table.take([7]), seed=2), np.array([0]))
    of_class = everyone.flow == 7
    for name in ("offset_ns", "up", "size"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(everyone, name)[of_class])
