"""Strata: classes are split by protocol, and samples have the protocols of their class."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import netgen
import netgen.diffusion.train
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.describe import describe
from netgen.diffusion import model_file
from netgen.exporters.pcap.plan import Repair, plan
from netgen.exporters.write import write
from netgen.model.strata import MIN_STRATUM_FLOWS, Stratum, assign_strata, fit_strata, sample_strata

TCP, UDP = 6, 17
SPEC = SeriesSpec(bin_ns=100_000_000, length=8)


def flows(rows: Sequence[tuple[str | None, int | None]]) -> FlowTable:
    """Make a table of these labels and protocols."""
    series = np.zeros((len(rows), 4, 8), np.int64)
    series[:, [0, 2], 0] = 60, 1
    return FlowTable.build(series, SPEC, label=[row[0] for row in rows], protocol=[row[1] for row in rows])


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([TCP, UDP, 1, None]), st.integers(1, 20)),
        min_size=1,
        max_size=12,
    )
)
def test_every_flow_has_one_stratum(groups: list[tuple[str, int | None, int]]) -> None:
    """Strata contain all flows and protocols of their class; a class with a small stratum has no other."""
    table = flows([(label, protocol) for label, protocol, number in groups for _ in range(number)])
    strata = fit_strata(table)
    numbers = assign_strata(table, strata)
    assert [stratum.label for stratum in strata] == sorted(stratum.label for stratum in strata)
    protocols = table.table["protocol"].to_pylist()
    for number, stratum in enumerate(strata):
        rows = np.flatnonzero(numbers == number)
        assert set(table.labels[rows]) == {stratum.label}
        assert len(rows) == stratum.flows
        counted = collections.Counter(protocols[row] for row in rows.tolist())
        assert {name: n for name, n in counted.items() if name is not None} == stratum.protocols
        assert stratum.flows >= MIN_STRATUM_FLOWS or stratum.flows == (table.labels == stratum.label).sum()
    for label in set(table.labels):
        counted = collections.Counter(name for name, of in zip(protocols, table.labels, strict=True) if of == label)
        often = {name for name, n in counted.items() if n >= MIN_STRATUM_FLOWS and name is not None}
        assert often <= {name for stratum in strata if stratum.label == label for name in stratum.protocols}
        assert len([stratum for stratum in strata if stratum.label == label]) >= max(len(often), 1)
    assert tuple(Stratum.from_json(stratum.to_json()) for stratum in strata) == strata


def test_rare_protocols_share_a_stratum_or_join_the_most_frequent_one() -> None:
    """Five of a protocol are too few; with five of another they are enough."""
    rows = [("a", TCP)] * 30 + [("a", UDP)] * 12 + [("a", 1)] * 5
    one = fit_strata(flows(rows))
    assert [stratum.protocols for stratum in one] == [{1: 5, TCP: 30}, {UDP: 12}]
    two = fit_strata(flows([*rows, *[("a", None)] * 5]))
    assert [(stratum.flows, stratum.protocols) for stratum in two] == [(30, {TCP: 30}), (12, {UDP: 12}), (10, {1: 5})]
    assert assign_strata(flows([("a", 1), ("a", None), ("a", 58), ("a", UDP)]), two).tolist() == [2, 2, 0, 1]
    with pytest.raises(netgen.NetgenError, match="no class b"):
        assign_strata(flows([("b", TCP)]), two)


def test_protocols_of_a_stratum_are_sampled_at_their_frequencies() -> None:
    """The protocol of a flow depends on its seed only; it may be unknown."""
    mixed = Stratum("a", 8, {TCP: 4, UDP: 2})
    sampled = [mixed.protocol(seed) for seed in range(4000)]
    for protocol, share in ((TCP, 0.5), (UDP, 0.25), (None, 0.25)):
        assert abs(sampled.count(protocol) / 4000 - share) < 4 * np.sqrt(share * (1 - share) / 4000)
    assert {Stratum("a", 3, {UDP: 3}).protocol(seed) for seed in range(50)} == {UDP}
    assert Stratum("a", 3).protocol(1) is None


def test_strata_are_sampled_in_proportion_to_training_flows() -> None:
    """Proportions hold from the first flows on; the stratum of a flow does not depend on the number of flows."""
    strata = (Stratum("a", 5), Stratum("b", 60), Stratum("b", 30), Stratum("b", 10))
    sampled = sample_strata(strata, "b", 500, seed=3)
    assert set(sample_strata(strata, "a", 40, seed=3)) == {0}
    for many in (10, 50, 100, 500):
        np.testing.assert_array_equal(sample_strata(strata, "b", many, seed=3), sampled[:many])
        count = np.bincount(sampled[:many], minlength=4) / many
        np.testing.assert_allclose(count, [0, 0.6, 0.3, 0.1], atol=2.5 / many)
    first = np.concatenate([sample_strata(strata, "b", 1, seed=seed) for seed in range(2000)])
    assert abs((first == 1).mean() - 0.6) < 0.05  # not always the most frequent one


@pytest.mark.parametrize(
    "changed",
    [
        {"flows": 0},
        {"flows": 8.5},
        {"flows": float("inf")},
        {"flows": 2**70, "protocols": {"6": float("inf")}},
        {"protocols": {"6": 9}},
        {"protocols": {"300": 1}},
        {"protocols": {"6": 0}},
        {"protocols": 3},
        {"protocols": {"tcp": 1}},
        {"class": "other"},
    ],
    ids=str,
)
def test_damaged_strata_are_refused(changed: dict[str, object], tiny_model_file: Path, tmp_path: Path) -> None:
    metadata = model_file.load_metadata(tiny_model_file)
    metadata["strata"][0] = {"class": "Web-TLS", "flows": 8, "protocols": {"6": 8}, **changed}
    model_file.save(tmp_path / "m.safetensors", model_file.load_tensors(tiny_model_file), metadata)
    with pytest.raises(netgen.NetgenError, match=r"m\.safetensors is a damaged model"):
        netgen.load(tmp_path / "m.safetensors")


@pytest.fixture(scope="module")
def device() -> FlowTable:
    """Make two classes whose UDP flows are a question and an answer, and whose TCP flows are connections."""
    rng = np.random.default_rng(0)
    series = np.zeros((160, 4, 8), np.int64)
    udp = np.arange(160) % 4 == 3
    series[udp, :, 0] = 61, 77, 1, 1
    series[~udp, :, 0] = 60 + 52 * 3 + 400, 60 + 52 * 2 + 900, 5, 4
    series[~udp, :, 4] = 52 * 2, 52, 2, 1
    series[~udp, 1, 0] += rng.integers(0, 400, 120)
    labels = np.where(np.arange(160) < 80, "camera", "plug").tolist()
    return FlowTable.build(series, SPEC, label=labels, protocol=np.where(udp, UDP, TCP).tolist())


@pytest.fixture
def model(device: FlowTable, quick_calibration: None) -> netgen.Model:  # noqa: ARG001 (patches the training)
    """Train for a moment: the model has the strata of its flows and has learnt little else."""
    return netgen.train(device, training_steps=5, preset="tiny", threads=1, precision="float32", validation=0)


@pytest.mark.usefixtures("quick_calibration")
def test_flows_of_rare_protocols_have_the_weight_of_their_class(
    device: FlowTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training weights depend on the size of the class, not of the stratum."""
    seen: list[torch.Tensor] = []
    weights = netgen.diffusion.train.class_weights

    def record(classes: torch.Tensor) -> torch.Tensor:
        seen.append(classes)
        return weights(classes)

    monkeypatch.setattr(netgen.diffusion.train, "class_weights", record)
    subset = device.take(np.flatnonzero(np.arange(160) % 16 != 0))
    netgen.train(subset, training_steps=1, preset="tiny", threads=1, precision="float32", validation=0)
    np.testing.assert_array_equal(seen[-1].numpy(), (subset.labels == "plug").astype(int))


def test_info_lists_the_strata(model: netgen.Model, tmp_path: Path) -> None:
    """Each has its class, flows and protocols."""
    strata = describe(model.save(tmp_path / "m.safetensors"))["strata"]
    assert strata[:2] == [
        {"class": "camera", "flows": 60, "protocols": {"6": 60}},
        {"class": "camera", "flows": 20, "protocols": {"17": 20}},
    ]


@pytest.mark.slow
@pytest.mark.train
def test_a_sampled_flow_resembles_its_protocol(device: FlowTable) -> None:
    """Questions are UDP, connections are TCP, at the class's frequencies; a capture needs no added handshake."""
    model = netgen.train(device, training_steps=300, threads=1, precision="float32", validation=0)
    assert [(stratum.label, stratum.flows) for stratum in model.strata] == [
        ("camera", 60), ("camera", 20), ("plug", 60), ("plug", 20),
    ]  # fmt: skip
    sampled = model.sample("all", 80)
    udp = sampled.table["protocol"].to_numpy() == UDP
    assert abs(udp[:40].sum() - 10) <= 1
    assert sampled.labels.tolist() == ["camera"] * 40 + ["plug"] * 40
    question = sampled.series()[udp]
    assert (question[:, :, 0] == [61, 77, 1, 1]).all(1).mean() >= 0.9
    assert (sampled.series()[~udp, 2:].sum((1, 2)) >= 7).all()
    assert Repair.NO_HANDSHAKE not in plan(sampled).repairs


@pytest.mark.usefixtures("quick_calibration")
def test_sampled_flows_of_other_protocols_are_exported_with_their_protocol(device: FlowTable, tmp_path: Path) -> None:
    """The table and the capture have the protocol, and extraction returns the series."""
    protocol = np.where(device.table["protocol"].to_numpy() == UDP, 1, TCP).tolist()
    echoes = FlowTable.build(device.series(), SPEC, label=device.labels.tolist(), protocol=protocol)
    sampled = netgen.train(
        echoes, training_steps=50, preset="tiny", threads=1, precision="float32", validation=0
    ).sample("plug", 40)
    other = sampled.table["protocol"].to_numpy() == 1
    assert 8 <= other.sum() <= 12
    write(sampled.take(np.flatnonzero(other)), tmp_path / "x.pcap")
    again = netgen.extract(tmp_path / "x.pcap", spec_from=sampled)
    assert again.table["protocol"].to_pylist() == [1] * len(again)
    rows = [sorted(map(bytes, flows.series())) for flows in (again, sampled.take(np.flatnonzero(other)))]
    assert rows[0] == rows[1]


def test_samples_of_several_strata_do_not_depend_on_the_other_classes(model: netgen.Model) -> None:
    """Flow i of a class is the same for any number of flows and any classes before it."""
    many = model.sample({"plug": 50, "camera": 7}, seed=2)
    few = model.sample({"camera": 7, "plug": 9}, seed=2)
    np.testing.assert_array_equal(many.series()[:9], few.series()[7:])
    np.testing.assert_array_equal(many.series()[50:], few.series()[:7])
    assert many.table["protocol"].to_pylist()[:9] == few.table["protocol"].to_pylist()[7:]
    assert len(set(many.table["protocol"].to_pylist()[:9])) == 2
