"""encoders: numbers of packets that come again and again have room of their own on the scale."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.counts import LEAST, Counts
from netgen.encoders.decoding.quantile_scale import N_QUANTILES
from netgen.encoders.decoding.rounding import RoundedBins, round_to_packets
from netgen.encoders.decoding.sizes import Sizes
from netgen.encoders.decoding.totals import ALIKE, BENT, with_totals

NO_LIMIT = np.array([0.0, 0.0]), np.array([2.0**40, 2.0**40])


def relays(rng: np.random.Generator, flows: int = 400) -> np.ndarray:
    """Packets of 32 bins, (flows, 32): up to 400; from bin 8 on 36, 72 or 108 in half of them."""
    out = np.exp(rng.uniform(0, np.log(400), (flows, 32))).astype(np.int64)
    often = rng.choice([36, 72, 108], (flows, 32), p=[0.5, 0.3, 0.2])
    out[:, 8:] = np.where(rng.random((flows, 24)) < 0.5, often[:, 8:], out[:, 8:])
    return out


@st.composite
def packets(draw: st.DrawFn) -> np.ndarray:
    """Packets of the bins of some flows, of which few numbers are frequent."""
    shape = (draw(st.integers(1, 60)), draw(st.sampled_from([4, 16, 64])))
    subset = draw(st.lists(st.integers(0, 3000), min_size=1, max_size=6))
    other = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 3000), fill=st.just(0)))
    which = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 2 * len(subset), shape)
    return np.where(which < len(subset), np.array(subset)[which % len(subset)], other)


@given(packets())
def test_numbers_come_back(packets: np.ndarray) -> None:
    """As many as there are, for every number up to the largest, in every bin; in order, and from 0 to 1."""
    scale = Counts.of(packets)
    every = np.broadcast_to(np.arange(int(scale.top) + 1)[:, None], (int(scale.top) + 1, packets.shape[1]))
    share = scale.share(every)
    assert (share[0] == 0).all()
    assert (np.diff(share, axis=0) > 0).all()
    assert (share <= 1).all()
    np.testing.assert_allclose(scale.number(share), every, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(
        scale.number(np.ones((1, packets.shape[1]))).round(), np.full((1, packets.shape[1]), scale.top)
    )


@given(packets())
def test_a_scale_comes_back_from_its_json(packets: np.ndarray) -> None:
    scale = Counts.of(packets)
    again = Counts.from_json(json.loads(json.dumps(scale.to_json())), scale.top)
    np.testing.assert_array_equal(again.share(packets), scale.share(packets))
    np.testing.assert_array_equal(again.often(packets), scale.often(packets))


def test_frequent_numbers_are_steps_where_they_are_frequent() -> None:
    """Twice as wide as their share, beyond that of their neighbours; none in parts of a flow that do not have them."""
    scale = Counts.of(relays(np.random.default_rng(0)))
    assert scale.begin.tolist() == [0, 1, 2, 4, 8, 16]
    for numbers, widths in zip(scale.numbers[4:], scale.widths[4:], strict=True):
        assert numbers.tolist() == [36, 72, 108]
        np.testing.assert_allclose(widths, [0.5, 0.3, 0.2], atol=0.04)
    assert not any(len(numbers) for numbers in scale.numbers[:4])
    assert scale.often(np.full((1, 32), 36))[0].tolist() == [False] * 8 + [True] * 24


def test_a_sample_near_a_frequent_number_gets_that_number() -> None:
    """An error that turns 36 into 34 or 38 where all numbers stand alike leaves it where it is frequent."""
    real = relays(np.random.default_rng(1))
    series = np.concatenate([np.stack([100 * real, 100 * real], axis=1), np.stack([real, real], axis=1)], axis=1)
    scale = BinScaler.of(series)
    one = np.full((1, 4, 32), 36)
    one[:, :2] *= 100
    scaled = scale.scale(one)
    for error in (-0.02, 0.02):
        scaled[:, 2:] += error
        sampled = round_to_packets(scaled, scale, *NO_LIMIT).packets
        scaled[:, 2:] -= error
        assert (sampled[:, :, 8:] == 36).all()
        assert (sampled[:, :, :8] != 36).all()


def test_numbers_spread_evenly_have_no_steps() -> None:
    """Nor has a number that few bins have, nor a part of few busy bins: all is as on a logarithmic scale."""
    rng = np.random.default_rng(0)
    even = rng.integers(1, 60, (400, 16))
    few = relays(rng)[: (LEAST - 1) // 32]
    for packets in (even, few, np.zeros((9, 8), np.int64), np.zeros((0, 8), np.int64)):
        scale = Counts.of(packets)
        assert not any(len(numbers) for numbers in scale.numbers)
        np.testing.assert_allclose(scale.share(packets), np.log1p(packets) / np.log1p(scale.top))


@pytest.mark.parametrize(
    "changed",
    [
        {"from_bin": 1},
        {"numbers": [5, 5], "widths": [0.1, 0.1]},
        {"numbers": [0], "widths": [0.1]},
        {"numbers": [5], "widths": []},
        {"numbers": [5.5], "widths": [0.1]},
        {"from_bin": 0.5},
        {"from_bin": [0]},
        {"numbers": [5], "widths": [float("nan")]},
        {"numbers": [5], "widths": [-0.1]},
        {"numbers": [[5]], "widths": [[0.1]]},
        {"numbers": [500], "widths": [0.1]},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_scales_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="its numbers of packets"):
        Counts.from_json([{"from_bin": 0, "numbers": [5, 9], "widths": [0.1, 0.2], **changed}], 100.0)
    with pytest.raises(ValueError, match="its numbers of packets"):
        Counts.from_json([], 100.0)


STEPPED = BinScaler(
    (Sizes.same_for_all(np.linspace(20.0, 1500.0, N_QUANTILES + 1)),) * 2,
    (Counts(500.0, np.array([0]), (np.array([36, 72, 108]),), (np.array([0.5, 0.3, 0.2]),)),) * 2,
)


def sampled_packets(rng: np.random.Generator, flows: int) -> RoundedBins:
    """Flows of 12 bins, in half of which are 36, 72 or 108 packets."""
    packets = rng.integers(0, 60, (flows, 2, 12))
    often = rng.choice([36, 72, 108], packets.shape)
    packets = np.where(rng.random(packets.shape) < 0.5, often, packets)
    packets[:, :, 0] = np.maximum(packets[:, :, 0], 1)
    amount = np.where(packets > 0, packets + rng.uniform(-0.4, 0.4, packets.shape), 0.0)
    size = np.where(packets > 0, 100.0, 0.0)
    return RoundedBins(packets, amount, size, size / 1500, STEPPED)


@given(st.integers(0, 2**32), st.booleans())
def test_frequent_numbers_stay_as_totals_are_put_right(seed: int, alike: bool) -> None:
    """Totals are met whatever they are; numbers that come again stay where the others can bear it."""
    rng = np.random.default_rng(seed)
    sampled = sampled_packets(rng, 40)
    total = np.maximum(np.rint(sampled.packets.sum(2) * np.exp(rng.normal(0, 0.3, (40, 2)))), 1)
    weights = ALIKE[:, 2:] if alike else rng.uniform(0.1, 1, (40, 2, 12))
    result = with_totals(sampled, total, weights)
    np.testing.assert_array_equal(result.sum(2), total)
    often = np.isin(sampled.packets, [36, 72, 108])
    rest = np.where(often, 0, sampled.count_float)
    busy = rest > 0
    least = np.where(busy, np.maximum(np.rint(rest / BENT), 1), 0).sum(2) + (often * sampled.packets).sum(2)
    most = np.where(busy, np.rint(rest * BENT), 0).sum(2) + (often * sampled.packets).sum(2)
    # as many busy bins as there are packets
    can: np.ndarray = (least <= total) & (total <= most) & ((sampled.count_float > 0).sum(2) <= total)
    stayed = (~often | (result == sampled.packets)).all(2)
    assert stayed[can].all()
    assert can.any()


def test_frequent_numbers_give_way_to_totals_that_nothing_else_can_meet() -> None:
    """A flow of nothing but such numbers gets its total; one that has it already is left as it is."""
    packets = np.full((2, 2, 12), 36)
    ones = np.ones(packets.shape)
    sampled = RoundedBins(packets, packets.astype(float), 100 * ones, ones / 15, STEPPED)
    result = with_totals(sampled, np.array([[500.0, 432.0], [200.0, 432.0]]), ALIKE[:, 2:])
    np.testing.assert_array_equal(result.sum(2), [[500, 432], [200, 432]])
    assert (result[:, 1] == 36).all()
    assert (result[:, 0] != 36).any(1).all()
