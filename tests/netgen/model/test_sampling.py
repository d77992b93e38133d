"""Samples of a model: flow i of a class depends on the seed alone."""

import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch

from netgen.capture.errors import InputError
from netgen.capture.series.feasible import PacketLimits, feasible
from netgen.model.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")


def equal(one: Any, other: Any) -> Any:
    return one.table.equals(other.table) and one.spec == other.spec


def test_samples_are_labelled_flows_that_packets_can_make(tiny_model: Model) -> None:
    table = tiny_model.sample({"dns-doh": 5, "Web-TLS": 20}, seed=3)
    assert table.counts() == {"Web-TLS": 20, "dns-doh": 5}
    assert table.spec == tiny_model.spec
    series, labels = table.to_numpy()
    classes = np.array([tiny_model.classes.index(label) for label in labels])
    for more in ((), (classes, tiny_model.limits)):
        out, changed = feasible(series, *more)
        assert changed == {}
        np.testing.assert_array_equal(out, series)
    assert table.table["synthetic"].to_pylist() == [True] * 25
    assert set(table.table["source"].to_pylist()) == {"netgen:tiny"}


def test_samples_carry_no_address_time_or_name(tiny_model: Model) -> None:
    """Only the series distinguishes the classes."""
    table = tiny_model.sample("all", 6).table
    for name in ("start_ns", "protocol", "src", "src_port", "dst", "dst_port", "vlan", "server_name"):
        assert table[name].null_count == len(table)


def test_the_metadata_suffice_to_sample_the_same_flows_again(tiny_model: Model) -> None:
    metadata = tiny_model.sample({"doh": 3}, seed=7, guidance=1.5, sampling_steps=4).metadata
    assert json.loads(json.dumps(metadata)) == metadata
    wanted = {"model": "tiny", "seed": 7, "guidance": 1.5, "sampling_steps": 4, "n_flows": {"dns-doh": 3}}
    assert {key: metadata[key] for key in wanted} == wanted
    assert metadata["weights_sha256"] == tiny_model.weights_sha256()
    assert 0 <= metadata["distance_from_field_rms"]["mean"] <= metadata["distance_from_field_rms"]["max"]


def test_the_same_seed_samples_the_same_flows(tiny_model: Model) -> None:
    assert equal(tiny_model.sample("plain", 5, seed=1), tiny_model.sample("plain", 5, seed=1))
    others = [tiny_model.sample("plain", 5, seed=seed).series() for seed in (1, 2, -1, 2**40)]
    for index, one in enumerate(others):
        assert not any(np.array_equal(one, other) for other in others[index + 1 :])


@pytest.mark.parametrize("n_flows", [1, 2, 15, 16, 17, 33])
def test_a_flow_does_not_depend_on_the_number_of_flows(n_flows: int, tiny_model: Model) -> None:
    """Numbers around the block size of 16: flow i of a class is the same in all of them."""
    many = tiny_model.sample("Web-TLS", 40, sampling_steps=4).series()
    np.testing.assert_array_equal(tiny_model.sample("Web-TLS", n_flows, sampling_steps=4).series(), many[:n_flows])


def test_a_flow_is_the_same_whichever_classes_are_sampled(tiny_model: Model) -> None:
    """Neither other classes nor their order matter."""
    alone = tiny_model.sample("dns-doh", 5, sampling_steps=4).series()
    for wanted in (
        {"Web-TLS": 3, "dns-doh": 5},
        {"dns-doh": 5, "dns-plain": 20},
        {"dns-plain": 1, "dns-doh": 7, "Web-TLS": 2},
    ):
        table = tiny_model.sample(wanted, sampling_steps=4)
        np.testing.assert_array_equal(table.series()[table.labels == "dns-doh"][:5], alone)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_flow_is_the_same_with_any_number_of_threads(threads: int, tiny_model: Model) -> None:
    """Any number of threads samples the same table, in the same order, and leaves torch's threads as they were."""
    before = torch.get_num_threads()
    table = tiny_model.sample({"Web-TLS": 40, "dns-doh": 20}, sampling_steps=4, threads=threads)
    assert torch.get_num_threads() == before
    assert equal(table, tiny_model.sample({"Web-TLS": 40, "dns-doh": 20}, sampling_steps=4))


def test_a_flow_does_not_depend_on_the_global_generators(tiny_model: Model) -> None:
    torch.manual_seed(1)
    one = tiny_model.sample("doh", 3, sampling_steps=4)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002 - the global one is meant
    assert equal(tiny_model.sample("doh", 3, sampling_steps=4), one)


def test_flows_of_two_classes_begin_from_different_noise(tiny_model: Model) -> None:
    """A network without classes still samples different flows for two classes."""
    network = copy.deepcopy(tiny_model.network)
    torch.nn.init.zeros_(network.stratum_embed.weight)
    torch.nn.init.zeros_(network.stratum_pos_embed.weight)
    limits = PacketLimits(np.full((3, 2), 20), np.full((3, 2), 1500))
    model = dataclasses.replace(tiny_model, network=network, limits=limits)
    table = model.sample({"Web-TLS": 4, "dns-doh": 4}, sampling_steps=4)
    one, other = (table.series()[table.labels == name] for name in ("Web-TLS", "dns-doh"))
    assert not any(np.array_equal(a, b) for a in one for b in other)


def test_steps_and_guidance_change_the_samples(tiny_model: Model) -> None:
    plain = tiny_model.sample("Web", 4, sampling_steps=4).series()
    for more in ({"sampling_steps": 5}, {"sampling_steps": 4, "guidance": 3.0}):
        assert not np.array_equal(tiny_model.sample("Web", 4, **more).series(), plain)


@pytest.mark.parametrize(
    ("n", "counts"),
    [(1, {"Web-TLS": 1}), (3, {"Web-TLS": 1, "dns-doh": 1, "dns-plain": 1}),
     (8, {"Web-TLS": 3, "dns-doh": 3, "dns-plain": 2})],
)  # fmt: skip
def test_all_spreads_the_flows_evenly_over_the_classes(n: int, counts: Any, tiny_model: Model) -> None:
    assert tiny_model.sample("all", n, sampling_steps=2).counts() == counts


def test_n_flows_is_per_class_for_several_classes(tiny_model: Model) -> None:
    assert tiny_model.sample(["doh", "Web"], 2, sampling_steps=2).counts() == {"Web-TLS": 2, "dns-doh": 2}


def test_progress_counts_the_flows(tiny_model: Model) -> None:
    reports: list[tuple[int, int]] = []
    tiny_model.sample(
        {"doh": 20, "Web": 3}, sampling_steps=2, progress=lambda done, total: reports.append((done, total))
    )
    assert reports == [(3, 23), (19, 23), (23, 23)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"n_flows": 0}, "number of flows must be greater than 0"),
        ({"n_flows": -4}, "number of flows must be greater than 0"),
        ({"classes": {"doh": -1}}, "number of flows must be greater than 0"),
        ({"classes": {}}, "number of flows must be greater than 0"),
        ({"sampling_steps": 1}, "--sampling-steps must be at least 2, got 1"),
        ({"device": "tpu"}, "--device must be auto, cpu or cuda, got 'tpu'"),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(more: Any, message: str, tiny_model: Model) -> None:
    with pytest.raises(InputError, match=message):
        tiny_model.sample(**more)
