"""A class's flows of each protocol are told apart: what is learnt of them, what is drawn, what a capture shows."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import netgen
import netgen.diffusion.train
from netgen.capture.series.profile import KEY
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.describe import describe
from netgen.diffusion import model_file
from netgen.exporters.pcap.plan import Repair, plan
from netgen.exporters.write import write
from netgen.model.strata import FEWEST, Stratum, assign_strata, fit_strata, sample_strata

TCP, UDP = 6, 17
SPEC = SeriesSpec(bin_ns=100_000_000, length=8)


def flows(rows: list[tuple[str | None, int | None]]) -> FlowTable:
    """A table of these labels and protocols."""
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
def test_every_flow_has_one_condition(drawn: list[tuple[str, int | None, int]]) -> None:
    """Conditions are of one class, hold all its flows and protocols, and few flows have one of their own only alone."""
    table = flows([(label, protocol) for label, protocol, number in drawn for _ in range(number)])
    conditions = fit_strata(table)
    numbers = assign_strata(table, conditions)
    assert [each.label for each in conditions] == sorted(each.label for each in conditions)
    protocols = table.table["protocol"].to_pylist()
    for number, condition in enumerate(conditions):
        mine = np.flatnonzero(numbers == number)
        assert set(table.labels[mine]) == {condition.label}
        assert len(mine) == condition.flows
        counted = collections.Counter(protocols[row] for row in mine.tolist())
        assert {name: n for name, n in counted.items() if name is not None} == condition.protocols
        assert condition.flows >= FEWEST or condition.flows == (table.labels == condition.label).sum()
    for label in set(table.labels):
        counted = collections.Counter(name for name, of in zip(protocols, table.labels, strict=True) if of == label)
        often = {name for name, n in counted.items() if n >= FEWEST and name is not None}
        assert often <= {name for each in conditions if each.label == label for name in each.protocols}
        assert len([each for each in conditions if each.label == label]) >= max(len(often), 1)
    assert tuple(Stratum.from_json(each.to_json()) for each in conditions) == conditions


def test_few_flows_go_with_each_other_or_with_the_most() -> None:
    """Five of a protocol are too few; with five of another they are enough."""
    rows = [("a", TCP)] * 30 + [("a", UDP)] * 12 + [("a", 1)] * 5
    one = fit_strata(flows(rows))
    assert [each.protocols for each in one] == [{1: 5, TCP: 30}, {UDP: 12}]
    two = fit_strata(flows([*rows, *[("a", None)] * 5]))
    assert [(each.flows, each.protocols) for each in two] == [(30, {TCP: 30}), (12, {UDP: 12}), (10, {1: 5})]
    assert assign_strata(flows([("a", 1), ("a", None), ("a", 58), ("a", UDP)]), two).tolist() == [2, 2, 0, 1]
    with pytest.raises(netgen.NetgenError, match="no class b"):
        assign_strata(flows([("b", TCP)]), two)


def test_protocols_of_one_condition_are_drawn_as_often() -> None:
    """A flow's depends on its own seed alone; where some are unknown, so are some that are drawn."""
    mixed = Stratum("a", 8, {TCP: 4, UDP: 2})
    drawn = [mixed.protocol(seed) for seed in range(4000)]
    for protocol, share in ((TCP, 0.5), (UDP, 0.25), (None, 0.25)):
        assert abs(drawn.count(protocol) / 4000 - share) < 4 * np.sqrt(share * (1 - share) / 4000)
    assert {Stratum("a", 3, {UDP: 3}).protocol(seed) for seed in range(50)} == {UDP}
    assert Stratum("a", 3).protocol(1) is None


def test_conditions_are_drawn_as_often_as_they_were_learnt() -> None:
    """The first so many flows keep to the shares; a flow's condition does not depend on how many there are."""
    conditions = (Stratum("a", 5), Stratum("b", 60), Stratum("b", 30), Stratum("b", 10))
    told = sample_strata(conditions, "b", 500, seed=3)
    assert set(sample_strata(conditions, "a", 40, seed=3)) == {0}
    for many in (10, 50, 100, 500):
        np.testing.assert_array_equal(sample_strata(conditions, "b", many, seed=3), told[:many])
        count = np.bincount(told[:many], minlength=4) / many
        np.testing.assert_allclose(count, [0, 0.6, 0.3, 0.1], atol=2.5 / many)
    first = np.concatenate([sample_strata(conditions, "b", 1, seed=seed) for seed in range(2000)])
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
def test_damaged_conditions_are_refused(changed: dict[str, object], tiny_model_file: Path, tmp_path: Path) -> None:
    metadata = model_file.load_metadata(tiny_model_file)
    metadata["conditions"][0] = {"class": "Web-TLS", "flows": 8, "protocols": {"6": 8}, **changed}
    model_file.save(tmp_path / "m.safetensors", model_file.load_tensors(tiny_model_file), metadata)
    with pytest.raises(netgen.NetgenError, match=r"m\.safetensors is a damaged model"):
        netgen.load(tmp_path / "m.safetensors")


def test_a_model_of_the_format_before_draws_the_same(tiny_model_file: Path, tmp_path: Path) -> None:
    """It has no conditions but classes, and protocols by its profiles."""
    metadata = model_file.load_metadata(tiny_model_file)
    del metadata["scale"]["counts"]
    model_file.save(tmp_path / "new.safetensors", model_file.load_tensors(tiny_model_file), metadata)
    del metadata["conditions"]
    profile = {"tcp": 10, "udp": 30, "up_sizes": [60], "up_packets": 30}
    model_file.save(
        tmp_path / "old.safetensors", model_file.load_tensors(tiny_model_file),
        {**metadata, "format": 3, KEY: {"dns-plain": profile}},
    )  # fmt: skip
    old, new = (netgen.load(path) for path in (tmp_path / "old.safetensors", tmp_path / "new.safetensors"))
    drawn = old.sample({"dns-plain": 60, "dns-doh": 20}, steps=2)
    np.testing.assert_array_equal(drawn.series(), new.sample({"dns-plain": 60, "dns-doh": 20}, steps=2).series())
    assert 30 <= drawn.table["protocol"].to_pylist()[:60].count(UDP) <= 57
    assert set(drawn.table["protocol"].to_pylist()[60:]) == {None}
    again = netgen.load(old.save(tmp_path / "again.safetensors"))
    assert again.sample("dns-plain", 9, steps=2).table.equals(old.sample("dns-plain", 9, steps=2).table)


@pytest.fixture(scope="module")
def device() -> FlowTable:
    """Two classes whose UDP flows are a question and an answer, and whose TCP flows are whole connections."""
    rng = np.random.default_rng(0)
    series = np.zeros((160, 4, 8), np.int64)
    udp = np.arange(160) % 4 == 3
    series[udp, :, 0] = 61, 77, 1, 1
    series[~udp, :, 0] = 60 + 52 * 3 + 400, 60 + 52 * 2 + 900, 5, 4
    series[~udp, :, 4] = 52 * 2, 52, 2, 1
    series[~udp, 1, 0] += rng.integers(0, 400, 120)
    labels = np.where(np.arange(160) < 80, "camera", "plug").tolist()
    return FlowTable.build(series, SPEC, label=labels, protocol=np.where(udp, UDP, TCP).tolist())


@pytest.fixture(scope="module")
def model(device: FlowTable) -> netgen.Model:
    """Trained for a moment."""
    return netgen.train(device, steps=300, threads=1, precision="float32", validation=0)


def test_rare_protocols_are_learnt_from_no_oftener_than_others_of_their_class(
    device: FlowTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flows are drawn by the size of their class: one of a rare protocol as often as any other of it."""
    seen, odds = [], netgen.diffusion.train.class_weights
    monkeypatch.setattr(netgen.diffusion.train, "class_odds", lambda classes: seen.append(classes) or odds(classes))
    some = device.take(np.flatnonzero(np.arange(160) % 16 != 0))
    netgen.train(some, steps=1, threads=1, precision="float32", validation=0)
    np.testing.assert_array_equal(seen[-1].numpy(), (some.labels == "plug").astype(int))


def test_info_says_what_is_told_apart(model: netgen.Model, tmp_path: Path) -> None:
    """Of each class, how many flows of which protocol."""
    found = describe(model.save(tmp_path / "m.safetensors"))["conditions"]
    assert found[:2] == [
        {"class": "camera", "flows": 60, "protocols": {"6": 60}},
        {"class": "camera", "flows": 20, "protocols": {"17": 20}},
    ]


def test_a_drawn_flow_looks_like_its_protocol(device: FlowTable, model: netgen.Model) -> None:
    """Questions are UDP, connections TCP, each as often as in the class; a capture of them needs no handshake added."""
    assert [(each.label, each.flows) for each in model.conditions] == [
        ("camera", 60), ("camera", 20), ("plug", 60), ("plug", 20),
    ]  # fmt: skip
    drawn = model.sample("all", 80)
    udp = drawn.table["protocol"].to_numpy() == UDP
    assert abs(udp[:40].sum() - 10) <= 1
    assert drawn.labels.tolist() == ["camera"] * 40 + ["plug"] * 40
    question = drawn.series()[udp]
    assert (question[:, :, 0] == [61, 77, 1, 1]).all(1).mean() >= 0.9
    assert (drawn.series()[~udp, 2:].sum((1, 2)) >= 7).all()
    assert Repair.NO_HANDSHAKE not in plan(drawn).repairs


def test_drawn_flows_of_another_protocol_are_written_as_what_they_are(device: FlowTable, tmp_path: Path) -> None:
    """The table says what they are, and so does a capture; and their series come back."""
    protocol = np.where(device.table["protocol"].to_numpy() == UDP, 1, TCP).tolist()
    echoes = FlowTable.build(device.series(), SPEC, label=device.labels.tolist(), protocol=protocol)
    drawn = netgen.train(echoes, steps=50, threads=1, precision="float32", validation=0).sample("plug", 40)
    other = drawn.table["protocol"].to_numpy() == 1
    assert 8 <= other.sum() <= 12
    write(drawn.take(np.flatnonzero(other)), tmp_path / "x.pcap")
    again = netgen.extract(tmp_path / "x.pcap", spec_from=drawn)
    assert again.table["protocol"].to_pylist() == [1] * len(again)
    rows = [sorted(map(bytes, each.series())) for each in (again, drawn.take(np.flatnonzero(other)))]
    assert rows[0] == rows[1]


def test_flows_of_several_conditions_do_not_depend_on_the_others(model: netgen.Model) -> None:
    """Flow i of a class is the same however many are drawn, and whatever classes stand before it."""
    many = model.sample({"plug": 50, "camera": 7}, seed=2)
    few = model.sample({"camera": 7, "plug": 9}, seed=2)
    np.testing.assert_array_equal(many.series()[:9], few.series()[7:])
    np.testing.assert_array_equal(many.series()[50:], few.series()[:7])
    assert many.table["protocol"].to_pylist()[:9] == few.table["protocol"].to_pylist()[7:]
    assert len(set(many.table["protocol"].to_pylist()[:9])) == 2
