"""labeltimes and labelclock: times of label files, held against Python's datetime."""

import datetime
import zoneinfo
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from netgen.capture.errors import InputError
from netgen.capture.labels.options import LabelOptions
from netgen.capture.labels.timestamps import parse_decimal, parse_timestamps, time_zone
from netgen.capture.series.spec import LONGEST_NS, NS

UTC = datetime.UTC
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
DAY, MINUTE = 86400 * NS, 60 * NS

moments = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1))


def since(when: Any, zone: Any = UTC) -> Any:
    when = when if when.tzinfo else when.replace(tzinfo=zone)
    return (when - EPOCH) // datetime.timedelta(microseconds=1) * 1000


def read(*texts: Any, cicflowmeter: Any = False, **options: Any) -> Any:
    """Return (ns, width) of each text, None for a bad one; and the parser's decisions."""
    result = parse_timestamps([list(texts)], LabelOptions(**options), cicflowmeter=cicflowmeter)
    (times,) = result.columns
    rows = zip(times.ns.tolist(), times.resolution.tolist(), times.bad.tolist(), strict=True)
    return [None if bad else (ns, width) for ns, width, bad in rows], result


def ns(*texts: Any, **options: Any) -> Any:
    """Return the nanoseconds of each text."""
    return [row and row[0] for row in read(*texts, **options)[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1499244120", (1_499_244_120 * NS, NS - 1)),
        ("1499244120.", (1_499_244_120 * NS, 0)),
        ("1499244120.000000001", (1_499_244_120 * NS + 1, 0)),
        ("1499244120.1234567899", (1_499_244_120 * NS + 123_456_789, 0)),
        ("-1.5", (-1_500_000_000, 0)),
        ("0", (0, NS - 1)),
        ("1.499244120e9", (1_499_244_120 * NS, 0)),
        ("1499244120123", (1_499_244_120_123_000_000, 999_999)),
        ("1499244120123.5", (1_499_244_120_123_500_000, 0)),
        ("1499244120123456", (1_499_244_120_123_456_000, 999)),
        ("1499244120123456789", (1_499_244_120_123_456_789, 0)),
        ("2017-07-05", (1_499_212_800 * NS, DAY - 1)),
        ("2017-7-5 8:42", (1_499_244_120 * NS, MINUTE - 1)),
        ("2011/08/10 09:46:53.047277", (1_312_969_613_047_277_000, 0)),
        ("20170705T084200", (1_499_244_120 * NS, NS - 1)),
        ("2017-07-05T05:42:00-0300", (1_499_244_120 * NS, NS - 1)),
        ("2017-07-05 08:42:00.5 UTC", (1_499_244_120_500_000_000, 0)),
        ("2017-07-05 08:42:00 AM", (1_499_244_120 * NS, NS - 1)),
    ],
)
def test_unambiguous_formats_are_read(text: str, expected: Any) -> None:
    """Each text gives a time and its resolution; no decision is reported."""
    rows, result = read(text)
    assert rows == [expected]
    assert result.reading == ""


@pytest.mark.parametrize(
    "text",
    [
        *("nan", "inf", "x", "1e60", "12345678901", "12345678901234", "99999999999999999999", "1e", "--5", "1.2.3"),
        *("2017-02-30 8:00", "2017-13-01 8:00", "2017-00-01 8:00", "2017-07-00", "0000-01-01 8:00", "2017-07-05 24:00"),
        *("2017-07-05 8:60", "2017-07-05 08:42:60", "2017-07-05 13:42 PM", "2017-07-05 0:42 AM", "2017-07-05 8"),
        *("13/13/2017 8:00", "31/4/2017 8:00", "5/7/17 8:42", "2017/7/2017 8:00", "08:42"),
    ],
)
def test_texts_that_are_not_times_are_bad(text: Any) -> None:
    assert ns(text, "13/7/2017 8:00")[0] is None


@given(moments, st.sampled_from(["T", " "]), st.sampled_from(["auto", "seconds", "minutes"]))
def test_iso_8601_is_read_as_datetime_reads_it(when: Any, mark: Any, precision: Any) -> None:
    text = when.isoformat(mark, precision)
    expected = since(datetime.datetime.fromisoformat(text))
    width = 0 if "." in text else NS - 1 if text.count(":") == 2 else MINUTE - 1
    assert read(text)[0] == [(expected, width)]


@given(moments, st.sampled_from(["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%m-%d-%Y"]), st.booleans())
def test_one_number_over_12_decides_between_day_and_month_for_all_lines(when: Any, date: Any, half: Any) -> None:
    """A second time with a 13th or later decides."""
    clock = " %I:%M:%S %p" if half else " %H:%M:%S"
    decisive = datetime.datetime(2017, 7, 13, 9, 30)
    texts = [time.strftime(date + clock) for time in (when, decisive)]
    rows, result = read(*texts)
    assert [row[0] for row in rows] == [since(when.replace(microsecond=0)), since(decisive)]
    assert result.reading == ("day/month/year" if date.index("d") < date.index("m") else "month/day/year")


def test_the_other_time_column_may_decide() -> None:
    columns = [["5/7/2017 8:42"], ["13/7/2017 8:42"], []]
    start, end, none = parse_timestamps(columns, LabelOptions(), cicflowmeter=False).columns
    assert start.ns.tolist() == [1_499_244_120 * NS]
    assert end.ns.tolist() == [(1_499_244_120 + 8 * 86400) * NS]
    assert none.ns.tolist() == []


def test_an_ambiguous_order_is_refused_and_so_is_one_that_changes() -> None:
    rows, result = read("5/7/2017 8:42", "12/12/2017 18:42", "2017-07-05 08:42")
    assert rows == [None, None, (1_499_244_120 * NS, MINUTE - 1)]
    assert "day or month may come first" in result.problem
    rows, result = read("5/7/2017 8:42", "13/7/2017 8:42", "14/7/2017 8:42", "7/15/2017 8:42")
    assert [row is None for row in rows] == [False, False, False, True]
    assert "day/month/year" in result.problem


def test_cicflowmeter_writes_the_day_first_and_a_clock_of_12_hours() -> None:
    """Hours 1 to 7 are in the afternoon, because the data sets cover a working day."""
    texts = ["03/07/2017 08:55:58", "3/7/2017 12:01", "3/7/2017 1:00", "3/7/2017 7:59"]
    expected = [(8, 55, 58), (12, 1, 0), (13, 0, 0), (19, 59, 0)]
    local = [datetime.datetime(2017, 7, 3, *clock) for clock in expected]
    assert ns(*texts, cicflowmeter=True) == [since(time) for time in local]
    assert ns(*texts, cicflowmeter=True, zone="-03:00") == [since(time) + 3 * 3600 * NS for time in local]
    assert "12-hour clock" in read(*texts, cicflowmeter=True)[1].reading
    assert read(*texts[:2], cicflowmeter=True)[1].reading == "day/month/year"  # equal for both clocks
    assert ns(*texts) == [None] * 4


@pytest.mark.parametrize("other", ["3/7/2017 13:00", "3/7/2017 0:30", "3/7/2017 01:00:00 AM"])
def test_hours_over_12_mean_a_24_hour_clock(other: str) -> None:
    texts = ["3/7/2017 1:00", other]
    rows, result = read(*texts, cicflowmeter=True)
    assert rows[0][0] == since(datetime.datetime(2017, 7, 3, 1))
    assert "12-hour" not in result.reading


def test_cicflowmeters_month_comes_first_where_the_file_shows_it() -> None:
    assert ns("7/3/2017 9:00", "7/13/2017 9:00", cicflowmeter=True)[0] == since(datetime.datetime(2017, 7, 3, 9))


FORMATS = [
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%y %H:%M",
    "%Y%m%d%H%M%S",
    "%d.%m.%Y %I:%M:%S %p",
    "%b %d %Y %H:%M:%S.%f",  # read by strptime
    "%Y-%j %H:%M:%S",
    "[%d/%b/%Y:%H:%M:%S %z]",
    "%Y/%m/%d (%H.%M.%S.%f)",
    "%A %d %B %Y %I:%M %p",
]


@given(moments.filter(lambda when: 1970 <= when.year < 2069), st.sampled_from(FORMATS))
def test_formats_are_read_as_strptime_reads_them(when: Any, form: Any) -> None:
    text = when.replace(tzinfo=UTC).strftime(form)
    assert ns(text, "no time", time_format=form) == [since(datetime.datetime.strptime(text, form)), None]


@given(st.sampled_from(FORMATS[:4]), st.text("0123456789/:. AMPam", max_size=20))
@example("%d/%m/%Y %H:%M:%S", "31/04/2017 10:00:00")
@example("%d/%m/%Y %H:%M:%S", "01/04/2017  10:00:00")
def test_texts_that_strptime_refuses_are_bad(form: Any, text: Any) -> None:
    try:
        expected = since(datetime.datetime.strptime(text, form))
    except ValueError:
        expected = None
    # only strptime accepts the 61st second of a minute
    assume(not (expected is not None and "60" in text))
    if text:
        assert ns(text, time_format=form) == [expected]


@pytest.mark.parametrize("form", ["%d/%m/%Y %I:%M", "%d %b %Y %I:%M"])
def test_12_hours_without_am_or_pm_are_those_of_a_working_day(form: str) -> None:
    hours = [*range(8, 12), 12, *range(1, 8)]
    texts = [datetime.datetime(2017, 7, 5, hour).strftime(form) for hour in hours]
    assert ns(*texts, time_format=form) == [since(datetime.datetime(2017, 7, 5, hour)) for hour in range(8, 20)]
    assert "12-hour clock" in read(*texts, time_format=form)[1].reading


@pytest.mark.parametrize("form", ["", "%d/%m/%Y", "%H:%M", "%Q", "day", "%Y-%m-%d %M", "%s"])
def test_a_format_without_date_or_hour_is_refused(form: str) -> None:
    with pytest.raises(InputError, match="not a time format"):
        read("1", time_format=form)


@given(moments, st.sampled_from(["Europe/Berlin", "America/Halifax", "Asia/Kolkata", "Australia/Lord_Howe"]))
@example(datetime.datetime(2017, 10, 29, 2, 30), "Europe/Berlin")  # this local time occurs twice
@example(datetime.datetime(2017, 3, 26, 2, 30), "Europe/Berlin")  # this local time does not exist
def test_a_zone_has_the_offset_of_zoneinfo(when: Any, name: Any) -> None:
    zone = zoneinfo.ZoneInfo(name)
    assume(not when.replace(tzinfo=zone).utcoffset() % datetime.timedelta(minutes=1))
    assert ns(when.isoformat(), "1499244120", zone=name) == [since(when, zone), 1_499_244_120 * NS]
    assert ns(when.isoformat() + "+01:00", zone=name) == [since(when) - 3600 * NS]


@pytest.mark.parametrize(
    ("zone", "hours"), [("UTC", 0), ("-03:00", -3), ("+0530", 5.5), ("UTC+2", 2), ("+14:00", 14), ("Etc/GMT+3", -3)]
)
def test_zones_by_name_and_offset(zone: str, hours: float | int) -> None:
    assert ns("2017-07-05 08:42", zone=zone) == [round((1_499_244_120 - hours * 3600) * NS)]


@pytest.mark.parametrize("zone", ["", "Mars/Phobos", "+25:00", "3", "../etc/passwd", "Europe", "\0"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(InputError, match="is not a time zone"):
        time_zone(zone)


@given(moments, st.integers(-(10**15), 10**15))
def test_the_offset_of_the_clock_is_added_to_all_times(when: Any, offset: Any) -> None:
    text = when.isoformat()
    assert ns(text, "1499244120", offset_ns=offset) == [since(when) + offset, 1_499_244_120 * NS + offset]


@given(
    st.decimals(-(10**12), 10**12, places=12) | st.integers(-(10**20), 10**20).map(Decimal),
    st.sampled_from([1, 1_000, 1_000_000, NS]),
)
def test_decimals_are_exact_and_cut_off_towards_0(value: Any, unit: Any) -> None:
    assert parse_decimal("x", unit) is None
    for text in (str(value), f"{value:.3e}"):
        expected = int(Decimal(text) * unit)
        clipped = max(-LONGEST_NS, min(expected, LONGEST_NS))
        assert parse_decimal(text, unit) == clipped or abs(expected) > LONGEST_NS - NS
