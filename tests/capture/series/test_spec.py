"""netgen.capture.series.spec: durations as text, bin widths, and packets counted into bins."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netgen.capture.errors import InputError, SpecMismatchError
from netgen.capture.series.counters import count_packets
from netgen.capture.series.spec import CHANNELS, LONGEST_NS, SeriesSpec, auto_bin_ns, format_duration, parse_duration

MS = 1_000_000
NS = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0.25s", 250 * MS),
        ("250ms", 250 * MS),
        ("250 MS", 250 * MS),
        (" 2m ", 120 * NS),
        ("1h", 3600 * NS),
        (".5", NS // 2),
        (0.1, 100 * MS),
        (3, 3 * NS),
        ("1e-3s", MS),
        ("7ns", 7),
        ("1.5us", 1500),
    ],
)
def test_durations_are_read_as_people_write_them(text: float | int | str, ns: Any) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    "text", ["", "s", "auto", "-1s", "0", "0.0ms", "1 day", "1,5s", "nan", "inf", "1e9999s", "200000000000s", "1e-12"]
)
def test_a_bad_duration_is_refused_with_an_example(text: str) -> None:
    """The error is neither a traceback, nor 0, nor a number that overflows when added to a time."""
    with pytest.raises(InputError, match=r"is not a duration\. Write it like 0\.25s"):
        parse_duration(text)


@given(st.integers(1, LONGEST_NS - 1))
@example(999)
@example(2**53 + 1)
@example(LONGEST_NS - 1)
def test_a_printed_duration_reads_back_to_the_nanosecond(ns: Any) -> None:
    assert parse_duration(format_duration(ns)) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [(250 * MS, "0.25s"), (40 * MS, "40ms"), (1_200 * MS, "1.2s"), (3_200_000, "3.2ms"), (1, "1ns"), (60 * NS, "60s")],
)
def test_durations_are_printed_in_a_short_form(ns: Any, text: str) -> None:
    assert format_duration(ns) == text


@given(st.lists(st.integers(0, 10**14), min_size=1, max_size=40), st.sampled_from([4, 16, 128, 4096]))
@example([0, 0, 0], 128)
@example([128 * 10**9], 128)
@example([10**9 - 1], 4)
def test_the_95th_percentile_of_durations_fits_the_automatic_bins(durations: Any, length: Any) -> None:
    """The width has two significant digits, and at most a tenth of the series stays empty."""
    width = auto_bin_ns(np.array(durations), length)
    longest = np.quantile(durations, 0.95)
    assert longest // width < length
    assert len(str(width).rstrip("0")) <= 2
    SeriesSpec(bin_ns=width, length=length)
    if longest > 0:
        assert width <= 1.1 * (longest / length) + 2


def test_sets_without_a_duration_get_millisecond_bins() -> None:
    assert auto_bin_ns(np.zeros(5, int)) == auto_bin_ns(np.zeros(0, int)) == MS


@st.composite
def packets(draw: Any) -> Any:
    flows = draw(st.integers(1, 4))
    rows = st.tuples(st.integers(0, flows - 1), st.integers(0, 5000), st.integers(20, 65535), st.booleans())
    return flows, draw(st.lists(rows, max_size=60))


@given(packets(), st.sampled_from([1, 7, 100, 1250]))
@example((1, [(0, time, 40, True) for time in (0, 1249, 1250, 4999, 5000)]), 1250)
def test_bins_equal_the_counts_of_a_slow_loop(given_packets: Any, bin_ns: Any) -> None:
    """Bytes and packets of each bin and direction; packets after the last bin are counted as truncated."""
    flows, rows = given_packets
    spec = SeriesSpec(bin_ns=bin_ns, length=4)
    expected, expected_cut = np.zeros((flows, 4, 4), int), np.zeros(flows, int)
    for flow, offset, size, up in rows:
        position = offset // bin_ns
        if position >= 4:
            expected_cut[flow] += 1
            continue
        expected[flow, 0 if up else 1, position] += size
        expected[flow, 2 if up else 3, position] += 1
    flow_of, offsets, sizes = np.array([row[:3] for row in rows], dtype=np.int64).reshape(-1, 3).T
    up_packets = np.array([row[3] for row in rows], dtype=bool)
    series, cut = count_packets(flow_of, offsets, sizes, up_packets, flows, spec)
    assert series.dtype == cut.dtype == np.int64
    np.testing.assert_array_equal(series, expected)
    np.testing.assert_array_equal(cut, expected_cut)


@pytest.mark.parametrize("length", [0, 3, 5, 126, 4100, -4])
def test_lengths_that_are_not_possible_are_refused(length: int) -> None:
    with pytest.raises(InputError, match=f"--length must be a multiple of 4 from 4 to 4096, got {length}"):
        SeriesSpec(bin_ns=NS, length=length)


@pytest.mark.parametrize("bin_ns", [0, -1, LONGEST_NS])
def test_bins_of_no_width_or_too_wide_are_refused(bin_ns: Any) -> None:
    with pytest.raises(InputError, match=r"--bin-width 0\.25s"):
        SeriesSpec(bin_ns=bin_ns)


def test_unknown_views_and_channels_are_refused() -> None:
    with pytest.raises(InputError, match="'packets'"):
        SeriesSpec(bin_ns=NS, view="packets")
    with pytest.raises(InputError, match="unknown series"):
        SeriesSpec(bin_ns=NS, channels=CHANNELS[:2])


@given(st.integers(1, 10**12), st.integers(1, 1024))
def test_a_specification_comes_back_from_its_json(bin_ns: Any, quarter: Any) -> None:
    spec = SeriesSpec(bin_ns=bin_ns, length=4 * quarter)
    assert SeriesSpec.from_json(spec.to_json()) == spec
    assert set(spec.to_json()["units"]) == set(CHANNELS)


def test_only_equal_specs_are_compared_and_the_error_names_both() -> None:
    spec = SeriesSpec(bin_ns=250 * MS)
    spec.require_equal(SeriesSpec(bin_ns=250 * MS, length=128), "a.parquet", "b.parquet")
    for other in (dataclasses.replace(spec, bin_ns=40 * MS), dataclasses.replace(spec, length=64)):
        assert spec != other
        with pytest.raises(SpecMismatchError) as caught:
            spec.require_equal(other, "a.parquet", "b.parquet")
        assert str(caught.value) == (
            f"a.parquet has {spec} but b.parquet has {other}: they cannot be compared. "
            "Give both the same series: --spec-from a.parquet"
        )
    assert str(spec) == "128 bins of 0.25s, channels up_bytes, down_bytes, up_packets, down_packets"
