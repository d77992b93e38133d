"""Timestamps of a label file as exact nanoseconds since 1970, and how ambiguous ones were read.

Epoch numbers and ISO 8601 are unambiguous. ``03/07/2017 8:55`` is not, in two ways: whether the day
or the month comes first, which some line of the file must show, and what its hours mean, because
CICFlowMeter writes a 12-hour clock without AM or PM. Dates that stay ambiguous are refused.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import warnings
import zoneinfo
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from netgen.capture.errors import InputError
from netgen.capture.labels.options import LabelOptions
from netgen.capture.series.spec import LONGEST_NS, NS

#: Fewest and most digits before the point of an epoch time, and its unit in ns. From 1973 on they do not overlap.
_EPOCH_UNITS = ((0, 10, NS), (12, 13, 1_000_000), (15, 16, 1_000), (18, 19, 1))

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_NUMBER = re.compile(r"([+-]?)0*([0-9]{1,19})(?:\.([0-9]*))?", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?", re.IGNORECASE | re.ASCII)
_SCIENTIFIC = re.compile(r"[+-]?\d+\.?\d*e[+-]?\d{1,2}", re.IGNORECASE | re.ASCII)
_DATE = re.compile(
    r"(?P<a>[0-9]{1,4})[-/.](?P<b>[0-9]{1,2})[-/.](?P<c>[0-9]{1,4})"
    r"(?:[T ,]+(?P<H>[0-9]{1,2}):(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9})[0-9]*)?)?"
    r"(?: ?(?P<p>[AaPp])[Mm])?)?"
    r" ?(?P<z>[Zz]|UTC|[+-][0-9]{2}:?[0-9]{2})?"
)
#: Directives of strptime for the smallest unit of a time, and that unit in ns.
_FORMAT_UNITS = (("%f", 1), ("%[ScX]", NS), ("%M", 60 * NS), ("", 3600 * NS))
_HALF_DAY = ", a 12-hour clock without AM or PM: 8 to 11 before noon, 12 to 7 after"

#: Nanoseconds since 1970 and the resolution; None: not a time, or ambiguous.
_Time = tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class Timestamps:
    """Times of distinct texts; shape (texts,) each."""

    ns: np.ndarray  # int64: nanoseconds since 1970, within 146 years of it
    resolution: np.ndarray  # int64: ns that a text leaves open, of a second, minute or day; 0 if it has a fraction
    bad: np.ndarray  # bool: texts that are not times, or are ambiguous


@dataclasses.dataclass(frozen=True)
class ParsedTimestamps:
    """Times of several columns, read by the same rules."""

    columns: list[Timestamps]  # one for each column of texts
    reading: str = ""  # how ambiguous dates were read, in words; empty if there were none
    problem: str = ""  # what is wrong with bad texts, besides not being times; may be empty


def time_zone(name: str) -> datetime.tzinfo:
    """Return a zone by its name or offset: ``UTC``, ``-03:00``, ``Europe/Berlin``; an InputError if there is none."""
    match = re.fullmatch(r"(?:UTC)?([+-])(\d\d?)(?::?(\d\d))?", name)
    if match:
        minutes = int(match[2]) * 60 + int(match[3] or 0)
        if minutes < 24 * 60:
            return datetime.timezone(datetime.timedelta(minutes=minutes if match[1] == "+" else -minutes))
    try:
        return datetime.UTC if name == "UTC" else zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"{name!r} is not a time zone", "Write UTC, -03:00 or a name such as Europe/Berlin") from error


def parse_decimal(text: str, unit: int) -> int | None:
    """Return a decimal number (``12``, ``-0.5``, ``1.5e9``) times `unit`, which is at most 10**9; None if it is none.

    The product is cut off towards 0 and at `LONGEST_NS`.
    """
    if match := _NUMBER.fullmatch(text):
        # the tenth digit after the point is less than a nanosecond
        value = int(match[2]) * unit + int((match[3] or "")[:9].ljust(9, "0")) * unit // NS
        value = -value if match[1] == "-" else value
    elif _DECIMAL.fullmatch(text):
        value = int(Decimal(text) * unit)
    else:
        return None
    return max(-LONGEST_NS, min(value, LONGEST_NS))


def parse_timestamps(columns: Sequence[list[str]], options: LabelOptions, *, cicflowmeter: bool) -> ParsedTimestamps:
    """Parse a file's columns of times, the distinct texts of each, none of them empty.

    `cicflowmeter` says whether the file has that tool's columns: its dates begin with the day, and its hours may be
    those of a 12-hour clock. It is an InputError if the zone or the format of `options` is not known.
    """
    zone = time_zone(options.zone)
    texts = [text for column in columns for text in column]
    if options.time_format is not None:
        check_format(options.time_format)
        times = _parse_with_format(texts, options.time_format, zone)
        reading = options.time_format + (_HALF_DAY if _is_half_day(options.time_format) else "")
        problem = f"of the format {options.time_format}"
    else:
        times, reading, problem = _detect_and_parse(texts, zone, cicflowmeter)
    if reading and options.zone != "UTC":
        reading += f", {options.zone}"
    parsed, first = [], 0
    for column in columns:
        parsed.append(_to_columns(times[first : first + len(column)], options.offset_ns))
        first += len(column)
    return ParsedTimestamps(parsed, reading, problem)


def _to_columns(times: list[_Time], offset_ns: int) -> Timestamps:
    ns = np.array([0 if time is None else time[0] for time in times], np.int64)
    resolution = np.array([0 if time is None else time[1] for time in times], np.int64)
    bad = np.array([time is None for time in times], bool)
    return Timestamps(np.clip(ns + offset_ns, -LONGEST_NS, LONGEST_NS), resolution, bad)


def check_format(time_format: str) -> None:
    """Refuse a format that strptime does not know, or that leaves out the date or the hour."""
    sample = datetime.datetime(2017, 12, 31, 11, 58, tzinfo=datetime.UTC)
    try:
        with warnings.catch_warnings():  # Python 3.13 warns of a day without a year, which is refused below
            warnings.simplefilter("ignore", DeprecationWarning)
            parsed = datetime.datetime.strptime(sample.strftime(time_format), time_format)
    except ValueError:
        parsed = None
    if parsed is None or (parsed.year, parsed.month, parsed.day, parsed.hour % 12) != (2017, 12, 31, 11):
        raise InputError(
            f"{time_format!r} is not a time format",
            "Write one with date and hour, such as '%d/%m/%Y %H:%M:%S' or, for 12 hours, '%d/%m/%Y %I:%M'",
        )


def _detect_and_parse(texts: list[str], zone: datetime.tzinfo, cicflowmeter: bool) -> tuple[list[_Time], str, str]:
    """Parse times of unknown form; return them, how ambiguous dates were read, and what is wrong with bad texts."""
    matches = [_DATE.fullmatch(text) for text in texts]
    local = [match for match in matches if match and len(match["c"]) > 3 and len(match["a"]) < 3]  # the year is last
    first, second = ([int(match[name]) for match in local] for name in "ab")
    day_first = sum(number > 12 for number in first) >= sum(number > 12 for number in second)
    known = cicflowmeter or max(first + second, default=0) > 12
    # CICFlowMeter formats with dd/MM/yyyy hh:mm:ss: its hours are 1 to 12, those of a 24-hour clock go beyond
    hours = [int(match["H"]) for match in local if match["H"]]
    marked = any(match and match["p"] for match in matches)
    half_day = cicflowmeter and not marked and all(1 <= hour <= 12 for hour in hours)
    is_local = set(map(id, local))
    times: list[_Time] = []
    for text, match in zip(texts, matches, strict=True):
        if match and id(match) in is_local:
            month, day = ("b", "a") if day_first else ("a", "b")
            date = int(match["c"]), int(match[month]), int(match[day])
            times.append(_assemble(match, date, zone, half_day=half_day) if known else None)
        elif match and len(match["a"]) > 3 and len(match["c"]) < 3:
            date = int(match["a"]), int(match["b"]), int(match["c"])
            times.append(_assemble(match, date, zone) or _parse_other(text, zone))
        else:
            times.append(_parse_other(text, zone))
    if not local:
        return times, "", ""
    if not known:
        return times, "", "for certain: day or month may come first"
    reading = "day/month/year" if day_first else "month/day/year"
    problem = f"if lines are {reading}"
    # before one o'clock both clocks agree
    return times, reading + (_HALF_DAY if half_day and any(hour < 8 for hour in hours) else ""), problem


def _assemble(
    match: re.Match[str], date: tuple[int, int, int], zone: datetime.tzinfo, *, half_day: bool = False
) -> _Time:
    """Combine a date (year, month, day) with the clock in `match`; in a half day, 1 to 7 o'clock are after noon."""
    clock = match.groupdict()
    hour, noon_mark, offset, fraction = int(clock["H"] or 0), clock["p"], clock["z"], clock["f"]
    half_day = half_day and clock["H"] is not None
    if (half_day or noon_mark) and not 1 <= hour <= 12:
        return None
    if noon_mark:
        hour = hour % 12 + 12 * (noon_mark in "pP")
    elif half_day and hour < 8:
        hour += 12
    try:
        if offset is not None:
            zone = time_zone(offset if offset[0] in "+-" else "UTC")
        when = datetime.datetime(*date, hour, int(clock["M"] or 0), int(clock["S"] or 0), tzinfo=zone)
    except (ValueError, InputError):
        return None
    if fraction:
        return _since_1970(when, zone) + int(fraction.ljust(9, "0")), 0
    unit = 1 if clock["S"] else 60 if clock["M"] else 86400
    return _since_1970(when, zone), unit * NS - 1


def _parse_other(text: str, zone: datetime.tzinfo) -> _Time:
    """Parse an epoch time, or the rest of ISO 8601."""
    if match := _NUMBER.fullmatch(text):
        digits = len(match[2].lstrip("0"))
        for fewest, most, unit in _EPOCH_UNITS:
            if fewest <= digits <= most:
                value = parse_decimal(text, unit)
                return None if value is None else (value, 0 if "." in text else unit - 1)
    if _SCIENTIFIC.fullmatch(text):
        exact = Decimal(text) * NS
        return None if abs(exact) >= 2**63 else (int(exact), 0 if "." in text else NS - 1)
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return _since_1970(when, zone), 0 if re.search(r"[.,]\d", text) else NS - 1


def _since_1970(when: datetime.datetime, zone: datetime.tzinfo) -> int:
    """Return nanoseconds since 1970, within `LONGEST_NS`; in `zone` (the first of two equal hours) by default."""
    when = when if when.tzinfo is not None else when.replace(tzinfo=zone)
    return max(-LONGEST_NS, min((when - _EPOCH) // _MICROSECOND * 1_000, LONGEST_NS))


def _parse_with_format(texts: list[str], time_format: str, zone: datetime.tzinfo) -> list[_Time]:
    unit = next(unit for directives, unit in _FORMAT_UNITS if re.search(directives, time_format))
    times: list[_Time] = []
    for text in texts:
        # strptime reads microseconds: take the nanoseconds behind them out of the text
        rest = re.search(r"(?<=[.,][0-9]{6})[0-9]{1,3}(?![0-9])", text) if unit == 1 else None
        try:
            when = datetime.datetime.strptime(text[: rest.start()] + text[rest.end() :] if rest else text, time_format)
        except ValueError:
            times.append(None)
            continue
        if _is_half_day(time_format) and when.hour < 8:
            when = when.replace(hour=when.hour + 12)
        times.append((_since_1970(when, zone) + (int(rest[0].ljust(3, "0")) if rest else 0), unit - 1))
    return times


def _is_half_day(time_format: str) -> bool:
    return "%I" in time_format and "%p" not in time_format
