"""Plans of augmentations: what each class lacks, and which new flows are jittered."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netgen.augmentation.jitter import is_jittered, jitter_flows
from netgen.augmentation.plan import parse_jitter, plan_augmentation
from netgen.capture.errors import InputError, TableError
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable


@settings(max_examples=40)
@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1),
    target=st.one_of(st.just("balance"), st.integers(1, 12)),
    skip=st.booleans(),
)
def test_a_plan_fills_every_class_or_gives_a_reason(counts: dict[str, int], target: Any, skip: bool) -> None:
    """A class ends with the target, has more already, or is skipped because one flow is too few to learn from."""
    labels = [name for name, count in counts.items() for _ in range(count)]
    series = np.ones((len(labels), 4, 8), np.int64)
    table = FlowTable.build(series, SeriesSpec(bin_ns=10**9, length=8), label=labels)
    goal = max(counts.values()) if target == "balance" else target
    lacking = {name for name, count in counts.items() if count < goal}
    single = {name for name in lacking if counts[name] == 1}
    if single and (not skip or single == lacking):
        with pytest.raises(TableError, match="too few real flows") as caught:
            plan_augmentation(table, target, skip_missing=skip)
        assert all(name in caught.value.message for name in single)
        return
    plan = plan_augmentation(table, target, skip_missing=skip)
    assert plan.skipped.keys() == single
    for name, count in counts.items():
        after = count + plan.added.get(name, 0)
        assert after == (count if name in single else max(count, goal))


@pytest.mark.parametrize("target", [0, -3, True, "many", "", "1.5", 2.0, "²"])
def test_a_target_must_be_a_number_or_balance(target: Any, rare: FlowTable) -> None:
    with pytest.raises(InputError, match=r"--target must be a number greater than 0, or balance, got"):
        plan_augmentation(rare, target)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, 7, float("nan"), "most", "", None])
def test_a_fraction_must_be_from_0_to_1(fraction: Any) -> None:
    with pytest.raises(InputError, match=r"--jitter must be from 0 to 1, or auto, got .*--jitter 0\.5"):
        parse_jitter(fraction)


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0, 0.99))
def test_jittered_flows_are_spread_evenly(first: int, count: int, fraction: float) -> None:
    """Whether a flow is jittered does not depend on the flow that an augmentation begins with."""
    mask = is_jittered(0, first + count, fraction)
    np.testing.assert_array_equal(is_jittered(first, count, fraction), mask[first:])
    assert abs(mask.sum() - fraction * (first + count)) < 1
    assert not mask[:1].any()
    assert is_jittered(first, count, 1.0).all()


def test_jittered_packets_are_as_large_as_real_ones_that_a_network_card_merged() -> None:
    """They are not cut to 1500 bytes, and no gap is longer than the longest real one."""
    series = np.zeros((8, 2, 8), np.int64)
    series[:, 0, :6] = [60, -60, 20_000, -30_000, 9_000, -52]
    series[:, 1, 1:6] = [10, 20, 119_000_000, 30, 40]
    real = FlowTable.build(series, SeriesSpec.packets(8), label="a")
    for flow in jitter_flows(real, {"a": range(50)}, 0).series():
        assert (np.abs(np.log(flow[0, :6] / series[0, 0, :6])) < 0.7).all()
        assert flow[1].max() <= 119_000_000
    bins = FlowTable.build(np.tile([[[60_000], [0], [3], [0]]], (8, 1, 4)), SeriesSpec(10**9, 4), label="a")
    for flow in jitter_flows(bins, {"a": range(50)}, 0).series():
        assert (flow[0] > 30_000).all()
        assert (flow[2] > 0).all()
