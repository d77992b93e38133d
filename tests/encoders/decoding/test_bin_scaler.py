"""encoders: sizes and numbers of packets on a scale, and back."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.real_data import REAL_SETS

from netgen.encoders.decoding.bin_scaler import MIN_BUSY, BinScaler
from netgen.encoders.decoding.quantile_scale import N_QUANTILES
from netgen.encoders.decoding.rounding import round_to_packets
from netgen.encoders.decoding.sizes import LEAST, Sizes
from netgen.encoders.log_scale import IDLE
from netgen.encoders.registry import ENCODERS

NO_LIMIT = np.array([0.0, 0.0]), np.array([2.0**40, 2.0**40])

pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def traffic(draw: Any, most: Any = 1000, largest: Any = 1500) -> Any:
    """Generate feasible series, int64 (flows, 4, bins), with a packet in bin 0."""
    shape = (draw(st.integers(1, 4)), 2, draw(st.sampled_from([4, 8, 16])))
    packets = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, most), fill=st.just(0)))
    packets[:, 0, 0] = np.maximum(packets[:, 0, 0], 1)
    share = draw(hnp.arrays(np.float64, shape, elements=st.floats(0, 1), fill=st.sampled_from([0.0, 0.02, 1.0])))
    volume = np.floor(packets * (20 + share * (largest - 20))).astype(np.int64)
    return np.concatenate([volume, packets], axis=1)


def back(scale: Any, scaled: Any) -> Any:
    sampled = round_to_packets(scaled, scale, *NO_LIMIT)
    return np.concatenate([np.rint(sampled.size * sampled.packets).astype(np.int64), sampled.packets], axis=1)


def group_of(sizes: Any, bin_: Any, packets: Any) -> Any:
    """Return the number of the scale for this bin and number of packets."""
    group_ = max(begin for begin in sizes.begin if begin <= bin_)
    return next(
        group
        for group, (begin, most) in enumerate(zip(sizes.begin, sizes.most, strict=True))
        if begin == group_ and packets <= most
    )


@given(traffic())
def test_series_come_back_from_float32(series: Any) -> None:
    """Up to 1000 full packets a bin come back exactly."""
    scale = BinScaler.of(series)
    np.testing.assert_array_equal(back(scale, scale.scale(series).astype(np.float32)), series)


@given(real=traffic(), other=traffic())
def test_other_series_are_clipped_to_the_scale(real: Any, other: Any) -> None:
    """Sizes and packets beyond the real ones are clipped to them."""
    scale = BinScaler.of(real)
    result = back(scale, scale.scale(other))
    packets = np.minimum(other[:, 2:], scale.top[:, None])
    mean = other[:, :2] / np.maximum(other[:, 2:], 1)
    for way, sizes in enumerate(scale.sizes):
        for row, bin_ in np.ndindex(mean[:, way].shape):
            known = sizes.remembered[group_of(sizes, bin_, packets[row, way, bin_])]
            mean[row, way, bin_] = np.clip(mean[row, way, bin_], known[0], known[-1])
    np.testing.assert_array_equal(result[:, 2:], packets)
    np.testing.assert_allclose(result[:, :2], np.where(packets > 0, mean * packets, 0), atol=0.51)


@given(traffic(largest=60_000))
def test_scaled_values_lie_between_idle_and_one(series: Any) -> None:
    """Only idle bins are 0.25; more packets, or larger ones, never get a lower value."""
    scaled = BinScaler.of(series).scale(series)
    idle = series[:, 2:] == 0
    assert ((scaled >= IDLE) & (scaled <= 1 + 1e-12)).all()
    np.testing.assert_array_equal(scaled[:, :2] == IDLE, idle)
    np.testing.assert_array_equal(scaled[:, 2:] == IDLE, idle)
    assert (scaled[:, :2][~idle] >= MIN_BUSY).all()
    for way in (0, 1):
        busy = ~idle[:, way]
        order = np.argsort(series[:, 2 + way][busy], kind="stable")
        assert (np.diff(scaled[:, 2 + way][busy][order]) >= 0).all()
        for bin_, packets in {(bin_, series[row, 2 + way, bin_]) for row, bin_ in np.argwhere(busy)}:
            rows = np.flatnonzero(series[:, 2 + way, bin_] == packets)
            order = rows[np.argsort(series[rows, way, bin_], kind="stable")]
            assert (np.diff(scaled[order, way, bin_]) >= -1e-12).all()


@pytest.mark.parametrize("error", [-0.02, -0.01, 0.01, 0.02])
def test_a_sample_near_a_frequent_size_gets_that_size(error: float) -> None:
    """Half of the packets are acknowledgements of 52 bytes and half are full, and none is in between."""
    series = np.zeros((1, 4, 64), np.int64)
    series[0, 2:] = 1
    series[0, :2] = np.where(np.arange(64) % 2, 52, 1500)
    scale = BinScaler.of(series)
    scaled = scale.scale(series)
    scaled[:, :2] += error
    np.testing.assert_array_equal(back(scale, scaled), series)


@pytest.mark.parametrize("error", [-0.03, 0.03])
def test_a_size_of_first_bins_only_is_sampled(error: float) -> None:
    """Each flow begins with two packets of 220 bytes in total; later bins hold two packets of any size."""
    series = np.zeros((50, 4, 64), np.int64)
    series[:, 2] = 2
    series[:, 0] = 2 * np.random.default_rng(0).integers(40, 1500, (50, 64))
    series[:, 0, 0] = 220
    scale = BinScaler.of(series)
    scaled = scale.scale(series)
    scaled[:, :2][series[:, 2:] > 0] += error
    assert (back(scale, scaled)[:, 0, 0] == 220).all()


@pytest.mark.parametrize("error", [-0.02, 0.02])
def test_bytes_of_two_packet_sizes_survive(error: float) -> None:
    """Bins of nine packets hold 9 x 158 bytes, or 8 x 158 + 40; the others hold 158 bytes a packet."""
    series = np.zeros((40, 4, 64), np.int64)
    series[:, 2] = np.random.default_rng(0).integers(1, 9, (40, 64))
    series[:, 0] = 158 * series[:, 2]
    series[:, 2, 1::4] = 9
    series[:, 0, 1::8], series[:, 0, 5::8] = 9 * 158, 8 * 158 + 40
    scale = BinScaler.of(series)
    scaled = scale.scale(series)
    scaled[:, :2][series[:, 2:] > 0] += error
    np.testing.assert_array_equal(back(scale, scaled), series)


def test_bins_with_another_number_of_packets_get_the_sizes_of_such_bins() -> None:
    """One packet is an acknowledgement, two are a request of 300 bytes and its acknowledgement."""
    series = np.zeros((80, 4, 64), np.int64)
    series[:, 2] = 1 + np.add.outer(np.arange(80), np.arange(64)) % 2
    series[:, 0] = np.where(series[:, 2] == 1, 52, 352)
    scale = BinScaler.of(series)
    sampled = round_to_packets(scale.scale(series), scale, *NO_LIMIT)
    limits = np.array([[0.0, 0.0], [1500.0, 1500.0]])
    swapped = np.concatenate([3 - sampled.packets[:, :1], sampled.packets[:, 1:]], axis=1)
    volume = sampled.sizes(swapped, limits) * swapped
    np.testing.assert_array_equal(volume[:, 0], np.where(swapped[:, 0] == 1, 52, 352))
    np.testing.assert_array_equal(sampled.sizes(sampled.packets, limits), sampled.size)


@pytest.mark.parametrize("bins", [32, 40, 100, 1000])
def test_a_size_is_a_frequent_one_only_if_several_bins_of_its_group_have_it(bins: int) -> None:
    """If all bins differ, none is frequent, although each fills several quantiles; if half are equal, those are."""
    packets = np.ones((bins, 1), np.int64)
    size = np.arange(40.0, 40.0 + bins)[:, None]
    assert not Sizes.of(size, packets).often(size, packets).any()
    size[::2] = 1500.0
    np.testing.assert_array_equal(Sizes.of(size, packets).often(size, packets), size == 1500.0)


@given(traffic())
def test_every_scale_of_sizes_is_fitted_to_enough_bins(series: Any) -> None:
    """It has at least `LEAST` busy bins, unless the series have fewer."""
    for way, sizes in enumerate(BinScaler.of(series).sizes):
        assert sizes.begin[0] == 0
        groups = [group_of(sizes, bin_, series[row, 2 + way, bin_]) for row, bin_ in np.argwhere(series[:, 2 + way])]
        counts = np.bincount(groups, minlength=len(sizes.begin))
        assert (counts >= min(LEAST, max(len(groups), 1))).all() or not groups


def test_a_scale_of_earlier_versions_is_one_for_all_bins() -> None:
    """Its JSON is one list of quantiles."""
    sizes = Sizes.from_json(np.linspace(40, 1500, N_QUANTILES + 1).tolist())
    packets = np.arange(1, 65)[None]
    result = sizes.size(np.full((1, 64), 0.3), packets)
    assert (result == result[0, 0]).all()
    np.testing.assert_allclose(result[0, 0], 40 + 0.3 * 1460)


@pytest.mark.parametrize(
    "damage", ["gap", "end", "order", "twice", "short", "none", "falling", "nan", "infinite", "no packets", "old"]
)
def test_a_scale_that_does_not_cover_all_bins_is_refused(damage: str) -> None:
    good = [{"from_bin": first, "to_packets": most, "sizes": [40.0, 1500.0]} for first, most in ((0, 3), (0, None))]
    Sizes.from_json(good)
    Sizes.from_json([*good, {**good[1], "from_bin": 1}])
    bad: dict[str, list[Any]] = {
        "gap": [{**good[0], "from_bin": 1}, {**good[1], "from_bin": 1}],
        "end": good[:1],
        "order": [good[1], good[0]],
        "twice": [good[0], *good],
        "short": [40.0, 1500.0],
        "none": [good[0], {**good[1], "sizes": []}],
        "falling": [good[0], {**good[1], "sizes": [1500.0, 40.0]}],
        "nan": [good[0], {**good[1], "sizes": [float("nan")]}],
        "infinite": [{**good[0], "to_packets": float("inf")}, good[1]],
        "no packets": [{**good[0], "to_packets": 0}, good[1]],
        "old": [None] * (N_QUANTILES + 1),
    }
    with pytest.raises(ValueError, match=r"sizes|reshape"):
        Sizes.from_json(bad[damage])


@given(traffic())
def test_no_sample_exceeds_the_largest_real_bin(series: Any) -> None:
    """Samples beyond the end of the scale are clipped."""
    scale = BinScaler.of(series)
    packets = back(scale, np.full(series.shape, 1.1))[:, 2:]
    np.testing.assert_array_equal(packets, np.broadcast_to(scale.top[:, None], packets.shape))


def test_idle_and_empty_sets_have_a_scale() -> None:
    for series in (np.zeros((3, 4, 8), int), np.zeros((0, 4, 8), int)):
        scaled = BinScaler.of(series).scale(series)
        assert (scaled == IDLE).all()


@given(traffic())
def test_a_scale_comes_back_from_its_json(series: Any) -> None:
    scale = BinScaler.of(series)
    again = BinScaler.from_json(json.loads(json.dumps(scale.to_json())))
    np.testing.assert_array_equal(again.top, scale.top)
    np.testing.assert_array_equal(again.scale(series), scale.scale(series))
    for ours, real_side in zip(scale.sizes, again.sizes, strict=True):
        np.testing.assert_array_equal(ours.begin, real_side.begin)
        np.testing.assert_array_equal(ours.most, real_side.most)
        for one, other in zip(ours.remembered, real_side.remembered, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", REAL_SETS)
def test_series_of_real_sets_come_back(name: Any, real_table: Any) -> None:
    """Every bin of every flow comes back from float32."""
    series = real_table(name).series()
    scale = BinScaler.of(series)
    np.testing.assert_array_equal(back(scale, scale.scale(series).astype(np.float32)), series)


@pytest.mark.parametrize("encoder", [kind() for kind in ENCODERS.values()], ids=list(ENCODERS))
@pytest.mark.parametrize("name", REAL_SETS)
def test_series_of_real_sets_survive_the_image(encoder: Any, name: Any, real_table: Any) -> None:
    """Flows go through scale and image, and come back."""
    series = real_table(name).series()
    subset = series[np.random.default_rng(0).permutation(len(series))[:32]]
    scale = BinScaler.of(series)
    scaled, _ = encoder.decode(encoder.encode_tensor(torch.from_numpy(scale.scale(subset).astype(np.float32))))
    np.testing.assert_array_equal(back(scale, scaled), subset)
