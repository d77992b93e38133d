"""netgen.capture.series.feasible: the nearest series that packets can make, and what had to be changed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.real_data import REAL_SETS

from netgen.capture.series.feasible import MAX_PACKET, MIN_PACKET, PacketLimits, feasible

BINS = 6
AGREE, EMPTY, LATE = (
    "bytes and packets of a bin made to agree",
    "empty flow given one packet",
    "moved to begin in bin 0",
)


@st.composite
def sampled(draw: Any, flows: Any = 5) -> Any:
    """Generate series as a model may sample them, with bytes that do not fit the packets."""
    rows = draw(st.integers(1, flows))
    volume = hnp.arrays(np.int64, (rows, 2, BINS), elements=st.integers(-5, 10**6) | st.integers(0, 40) | st.just(0))
    count = hnp.arrays(np.int64, (rows, 2, BINS), elements=st.integers(-2, 900) | st.integers(0, 2) | st.just(0))
    return np.concatenate([draw(volume), draw(count)], axis=1)


@st.composite
def limits(draw: Any, classes: Any = 2) -> Any:
    smallest = draw(hnp.arrays(np.int64, (classes, 2), elements=st.integers(MIN_PACKET, MAX_PACKET)))
    more = draw(hnp.arrays(np.int64, (classes, 2), elements=st.integers(0, MAX_PACKET) | st.just(0)))
    return PacketLimits(smallest, np.minimum(smallest + more, MAX_PACKET))


@st.composite
def real(draw: Any) -> Any:
    """Generate series counted from packets of 20 to 1500 bytes, the first in bin 0."""
    rows = draw(st.integers(1, 4))
    series = np.zeros((rows, 4, BINS), np.int64)
    packet = st.tuples(st.integers(0, BINS - 1), st.integers(0, 1), st.integers(MIN_PACKET, MAX_PACKET))
    for flow in series:
        packets = draw(st.lists(packet, min_size=1, max_size=8))
        first = min(position for position, _, _ in packets)
        for position, way, size in packets:
            flow[way, position - first] += size
            flow[2 + way, position - first] += 1
    return series


def is_feasible(series: Any, low: Any = MIN_PACKET, high: Any = MAX_PACKET) -> Any:
    volume, count = series[:, :2], series[:, 2:]
    agree = (low * count <= volume) & (volume <= high * count)
    return agree.all() and (series >= 0).all() and series[:, :, 0].any(axis=1).all()


@given(sampled())
def test_the_result_is_feasible(series: Any) -> None:
    """Each bin has 20 to 1500 bytes a packet; nothing is negative; bin 0 has a packet; the input is unchanged."""
    before = series.copy()
    out, _ = feasible(series)
    assert is_feasible(out)
    assert out.dtype == np.int64
    assert out.shape == series.shape
    np.testing.assert_array_equal(series, before)


@given(sampled(), limits(), st.data())
def test_the_limits_of_a_flows_class_are_respected(series: Any, of_class: Any, data: Any) -> None:
    classes = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(series), max_size=len(series))))
    out, _ = feasible(series, classes, of_class)
    assert is_feasible(out, of_class.smallest[classes][:, :, None], of_class.largest[classes][:, :, None])


@given(sampled(), limits())
def test_a_feasible_series_is_unchanged(series: Any, of_class: Any) -> None:
    """A second call changes nothing and reports no changes."""
    classes = np.zeros(len(series), int)
    for more in ((), (classes, of_class)):
        once, _ = feasible(series, *more)
        twice, changed = feasible(once, *more)
        np.testing.assert_array_equal(twice, once)
        assert changed == {}


@given(real())
def test_series_counted_from_packets_are_not_changed(series: Any) -> None:
    """The general limits leave them alone, and so do limits measured on the same series."""
    classes = np.arange(len(series)) % 2
    for more in ((), (classes, PacketLimits.of(series, classes, 2))):
        out, changed = feasible(series, *more)
        np.testing.assert_array_equal(out, series)
        assert changed == {}


@given(sampled())
def test_changes_are_counted_in_flows(series: Any) -> None:
    """A loop over the flows gives the same counts."""
    expected = {AGREE: 0, EMPTY: 0, LATE: 0}
    for flow in series:
        kept = np.zeros_like(flow)
        for way in (0, 1):
            for position in range(BINS):
                volume, count = int(flow[way, position]), int(flow[2 + way, position])
                if volume < MIN_PACKET:
                    continue
                fewest = -(-volume // MAX_PACKET)
                packets = min(max(count, fewest, 1), volume // MIN_PACKET)
                kept[way, position], kept[2 + way, position] = volume, packets
        expected[AGREE] += bool((kept != flow).any())
        expected[EMPTY] += not kept.any()
        expected[LATE] += bool(kept.any() and not kept[:, 0].any())
    _, changed = feasible(series)
    assert changed == {reason: number for reason, number in expected.items() if number}


@given(sampled(flows=1))
def test_bytes_that_packets_can_carry_are_kept(series: Any) -> None:
    """With the general limits the number of packets follows the bytes, unless a bin has fewer than a header."""
    out, changed = feasible(series)
    if EMPTY not in changed:
        kept = np.where(series[0, :2] >= MIN_PACKET, series[0, :2], 0)
        first = kept.any(axis=0).argmax()
        np.testing.assert_array_equal(out[0, :2, : BINS - first], kept[:, first:])
        assert not out[0, :, BINS - first :].any()


def test_examples_of_every_change() -> None:
    flow = np.zeros((6, 4, BINS), int)
    flow[0, :, 0] = 1501, 0, 1, 0  # one packet cannot carry it
    flow[1, :, 0] = 100, 0, 9, 0  # nine packets are at least 180 bytes
    flow[2, :, 0] = 60, 19, 1, 1  # under a header: nothing
    flow[3, :, 2] = 60, 0, 1, 0  # begins too late
    flow[4, :, 1] = 0, 0, 0, 7  # packets without bytes: an empty flow
    flow[5, :, 0] = 60, 0, 0, 0  # bytes without a packet
    out, changed = feasible(flow)
    assert [row[:, 0].tolist() for row in out] == [
        [1501, 0, 2, 0],
        [100, 0, 5, 0],
        [60, 0, 1, 0],
        [60, 0, 1, 0],
        [MIN_PACKET, 0, 1, 0],
        [60, 0, 1, 0],
    ]
    assert not out[:, :, 1:].any()
    assert changed == {AGREE: 5, EMPTY: 1, LATE: 1}


def test_tor_cells_keep_their_size() -> None:
    """If all packets of a class have one size, bytes are a multiple of it."""
    cells = PacketLimits(np.full((1, 2), 554), np.full((1, 2), 554))
    series = np.zeros((1, 4, BINS), int)
    series[0, :, 0] = 1000, 554, 0, 3
    out, _ = feasible(series, np.zeros(1, int), cells)
    assert out[0, :, 0].tolist() == [1108, 554, 2, 1]


def test_limits_are_the_smallest_and_largest_mean_packet_of_a_class() -> None:
    """A direction without packets keeps the general limits; sizes over the MTU are ignored."""
    series = np.zeros((3, 4, BINS), int)
    series[0, :, 0] = 1000, 3001, 10, 2
    series[0, :, 3] = 64, 0, 1, 0
    series[1, :, 0] = 121, 0, 2, 0
    series[2, :, 0] = 50, 19, 1, 1
    limits = PacketLimits.of(series, np.array([0, 0, 1]), 3)
    assert limits.smallest.tolist() == [[60, MAX_PACKET], [50, MIN_PACKET], [MIN_PACKET, MIN_PACKET]]
    assert limits.largest.tolist() == [[100, MAX_PACKET], [50, MIN_PACKET], [MAX_PACKET, MAX_PACKET]]


@given(limits(3))
def test_limits_come_back_from_their_json(of_class: Any) -> None:
    again = PacketLimits.from_json(of_class.to_json())
    np.testing.assert_array_equal(again.smallest, of_class.smallest)
    np.testing.assert_array_equal(again.largest, of_class.largest)


@pytest.mark.parametrize("name", REAL_SETS)
def test_real_series_are_feasible(name: str, real_table: Any) -> None:
    table = real_table(name)
    series = table.series()
    classes = np.searchsorted(table.classes, table.labels.astype(str))
    for more in ((), (classes, PacketLimits.of(series, classes, len(table.classes)))):
        out, changed = feasible(series, *more)
        assert changed == {}
        assert np.array_equal(out, series)
