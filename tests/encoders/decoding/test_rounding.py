"""netgen.encoders.decoding.rounding: sampled numbers to whole packets and bytes, and to given totals."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.decoder_series import traffic
from support.examples import examples

from netgen.capture.series.feasible import PacketLimits, feasible
from netgen.encoders.decoding.bin_scaler import BinScaler
from netgen.encoders.decoding.counts import Counts
from netgen.encoders.decoding.decoder import Decoder
from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.quantile_scale import N_QUANTILES
from netgen.encoders.decoding.rounding import keep_top_k, round_to_packets, round_to_total
from netgen.encoders.decoding.sizes import Sizes
from netgen.encoders.log_scale import IDLE

SCALE = BinScaler((Sizes.same_for_all(np.linspace(20.0, 1500.0, N_QUANTILES + 1)),) * 2, (Counts.even(300.0),) * 2)
LOW, HIGH = np.array([20.0, 40.0]), np.array([1500.0, 600.0])
scaled_series = hnp.arrays(np.float64, (3, 4, 8), elements=st.floats(0, 1.1))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


# --- whole packets ---


@given(scaled=scaled_series)
def test_packets_can_carry_any_sample(scaled: Any) -> None:
    """Packets can hold their bytes, and bin 0 has one, so `feasible` changes nothing."""
    limits = np.stack([LOW, HIGH])[:, None]
    series = Decoder(SCALE, limits, Marginals.none(1)).decode(scaled, np.zeros(3, int))
    volume, packets = series[:, :2], series[:, 2:]
    assert (volume >= LOW[:, None] * packets).all()
    assert (volume <= HIGH[:, None] * packets).all()
    assert packets[:, :, 0].any(axis=1).all()
    feasible_series, changed = feasible(
        series, np.zeros(3, int), PacketLimits(LOW[None].astype(int), HIGH[None].astype(int))
    )
    np.testing.assert_array_equal(feasible_series, series)
    assert not changed


def test_feasible_series_come_back(rng: Any) -> None:
    """Scaled series are decoded to the same integers."""
    real = traffic(rng, 40)
    scale = BinScaler.of(real)
    sampled = round_to_packets(scale.scale(real), scale, np.full(2, 20.0), np.full(2, 1500.0))
    np.testing.assert_array_equal(sampled.packets, real[:, 2:])
    np.testing.assert_allclose(sampled.size * sampled.packets, real[:, :2], rtol=1e-9)
    np.testing.assert_allclose(sampled.count_float, real[:, 2:], atol=1e-9)


@pytest.mark.parametrize("error", [-0.01, -0.005, 0.005, 0.01])
def test_a_cell_sampled_with_a_small_error_is_one_cell(error: float) -> None:
    """It does not become two cells or none."""
    cells = np.zeros((1, 4, 8), int)
    cells[0, :, :4] = [[554, 1108, 554, 0], [554, 0, 2770, 554], [1, 2, 1, 0], [1, 0, 5, 1]]
    scale = BinScaler(BinScaler.of(cells).sizes, (Counts.even(100.0),) * 2)
    sampled = round_to_packets(scale.scale(cells) * (1 + error), scale, np.full(2, 554.0), np.full(2, 554.0))
    np.testing.assert_array_equal(sampled.packets, cells[:, 2:])


def test_a_flow_that_begins_late_is_given_its_first_packet_in_bin_0() -> None:
    """The packet is in the direction nearest to having one; a flow that begins in bin 0 is not changed."""
    scaled = np.full((2, 4, 8), IDLE)
    scaled[:, :, 3] = 0.6
    scaled[0, [1, 3], 0] += 0.05
    scaled[1, [0, 2], 0] = 0.6
    sampled = round_to_packets(scaled, SCALE, LOW, HIGH)
    assert sampled.packets[0, :, 0].tolist() == [0, 1]
    assert sampled.packets[1, 0, 0] > 0
    assert sampled.packets[1, 1, 0] == 0


# --- totals ---


@given(
    data=st.data(),
    rows=st.integers(1, 4),
    bins=st.integers(1, 12),
)
@settings(max_examples=examples(200))
def test_bins_add_up_to_the_total_within_their_bounds(data: Any, rows: Any, bins: Any) -> None:
    shape = (rows, bins)
    low = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 50))).astype(float)
    high = low + data.draw(hnp.arrays(np.int64, shape, elements=st.sampled_from([0, 1, 7, 5000])))
    values = data.draw(hnp.arrays(np.float64, shape, elements=st.floats(0, 6000)))
    total = data.draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 20_000))).astype(float)
    out = round_to_total(values, total, low, high)
    assert out.dtype == np.int64
    assert ((out >= low) & (out <= high)).all()
    wanted = np.clip(total, low.sum(1), high.sum(1))
    np.testing.assert_allclose(out.sum(1), wanted, atol=1)
    free = ((high - low) > 4000).all(1)  # the bounds do not matter
    np.testing.assert_array_equal(out.sum(1)[free], wanted[free])


def test_large_bins_take_the_change_and_small_ones_stay() -> None:
    values = np.array([[1.0, 1.0, 2.0, 400.0, 400.0]])
    out = round_to_total(values, np.array([840.0]), np.ones((1, 5)), np.full((1, 5), 1e9))
    assert out.tolist() == [[1, 1, 2, 418, 418]]
    np.testing.assert_array_equal(round_to_total(values, np.array([804.0]), values * 0, values + 1e9), values)


def test_the_strongest_busy_bins_and_the_first_are_kept() -> None:
    amount = np.array([[0.6, 3.0, 0.0, 2.0, 1.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
    kept = keep_top_k(amount, np.array([3.0, 2.0]))
    assert kept.tolist() == [[True, True, False, True, False], [False, False, False, True, True]]
