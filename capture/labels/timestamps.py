"""Times of a labels file: texts to nanoseconds since 1970, and how that was decided.

Epoch numbers and ISO 8601 need no decision. ``03/07/2017 8:55`` needs two: whether day or month comes
first, which the whole file must show, and what its hours mean, as CICFlowMeter writes a 12-hour
clock without AM or PM. What cannot be told is refused, not guessed.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from netgen.capture.errors import InputError
from netgen.capture.labels.clock_text import NUMBER, Times, assemble, decimals, longer, numbers, since_1970, time_zone
from netgen.capture.labels.labeller import LabelOptions
from netgen.capture.series.spec import LONGEST_NS, NS

#: Fewest and most digits before the point of an epoch time, and its unit: from 1973 on, no two can be mixed up.
_EPOCH_UNITS = ((0, 10, NS), (12, 13, 1_000_000), (15, 16, 1_000), (18, 19, 1))

_DATE = (
    r"^(?P<a>[0-9]{1,4})(?P<mark>[-/.])(?P<b>[0-9]{1,2})[-/.](?P<c>[0-9]{1,4})"
    r"(?:[T ,]+(?P<H>[0-9]{1,2}):(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]{1,9})[0-9]*)?)?"
    r"(?: ?(?P<p>[AaPp])[Mm])?)?"
    r" ?(?P<z>[Zz]|UTC|[+-][0-9]{2}:?[0-9]{2})?$"
)
#: What a directive of strptime matches; the others are left to strptime itself.
_DIRECTIVES = {
    "d": r"(?P<d>[0-9]{1,2})",
    "m": r"(?P<m>[0-9]{1,2})",
    "Y": r"(?P<Y>[0-9]{4})",
    "y": r"(?P<y>[0-9]{2})",
    "H": r"(?P<H>[0-9]{1,2})",
    "I": r"(?P<I>[0-9]{1,2})",
    "M": r"(?P<M>[0-9]{1,2})",
    "S": r"(?P<S>[0-9]{1,2})",
    "f": r"(?P<f>[0-9]{1,9})",
    "p": r"(?P<p>[AaPp])[Mm]",
    "z": r"(?P<z>[Zz]|[+-][0-9]{2}:?[0-9]{2})",
    "%": "%",
}

_HALF = ", a 12-hour clock without AM or PM: 8 to 11 before noon, 12 to 7 after"


@dataclasses.dataclass(frozen=True)
class TimesRead:
    """Times of several columns, read alike.

    Parameters
    ----------
    columns : list of Times
        One for each column of texts.
    how : str
        What was decided, in words; empty if nothing had to be.
    why_bad : str
        What is wrong with bad texts, beside being no time; may be empty.
    """

    columns: list[Times]
    how: str = ""
    why_bad: str = ""


def read_times(columns: Sequence[pa.StringArray], options: LabelOptions, *, cicflowmeter: bool) -> TimesRead:
    """Times of a file's columns of times.

    Parameters
    ----------
    columns : sequence of StringArray
        The distinct texts of each column, none of them empty.
    options : LabelOptions
        Zone, clock offset and format.
    cicflowmeter : bool
        The file has that tool's columns: its dates begin with the day, and its hours may be those
        of a clock of 12 hours.

    Raises
    ------
    InputError
        If there is no such zone, or the format is none.
    """
    zone = time_zone(options.zone)
    texts = pa.concat_arrays(columns) if columns else pa.array([], pa.string())
    if options.times is not None:
        check_format(options.times)
        read = _by_format(texts, options.times, zone)
        how, why_bad = f"{options.times}{_HALF if _halves(options.times) else ''}", f"of the format {options.times}"
    else:
        read, how, why_bad = _by_looks(texts, zone, cicflowmeter)
    if how and options.zone != "UTC":
        how += f", {options.zone}"
    ns = np.clip(read.ns + options.offset_ns, -LONGEST_NS, LONGEST_NS)
    ends = np.cumsum([len(column) for column in columns])[:-1]
    parts = zip(*(np.split(values, ends) for values in (ns, read.width, read.bad)), strict=True)
    return TimesRead([Times(*part) for part in parts][: len(columns)], how, why_bad)


def check_format(times: str) -> None:
    """Refuse a format of times that strptime does not know, or that leaves out the date or the hour."""
    try:
        again = datetime.datetime.strptime(
            datetime.datetime(2017, 12, 31, 11, 58, tzinfo=datetime.UTC).strftime(times), times
        )
    except ValueError:
        again = None
    if again is None or (again.year, again.month, again.day, again.hour % 12) != (2017, 12, 31, 11):
        raise InputError(
            f"{times!r} is no format of times",
            "Write one with date and hour, such as '%d/%m/%Y %H:%M:%S' or, for 12 hours, '%d/%m/%Y %I:%M'",
        )


def _by_looks(texts: pa.StringArray, zone: datetime.tzinfo, cicflowmeter: bool) -> tuple[Times, str, str]:
    """Times whose form is found by looking at them; what was decided; why others are bad."""
    part = pc.extract_regex(texts, _DATE)
    first, second, third, hour = (numbers(part.field(name)) for name in "abcH")
    year_first = longer(part.field("a"), 3) & ~longer(part.field("c"), 2)
    local = longer(part.field("c"), 3) & ~longer(part.field("a"), 2)  # day and month stand before the year
    day_first = int((first[local] > 12).sum()) >= int((second[local] > 12).sum())
    known = cicflowmeter or bool((np.maximum(first, second)[local] > 12).any())
    # CICFlowMeter formats with dd/MM/yyyy hh:mm:ss: its hours are 1 to 12, those of a 24-hour clock go beyond
    timed = local & longer(part.field("H"), 0)
    half = cicflowmeter and not longer(part.field("p"), 0).any() and bool(((hour >= 1) & (hour <= 12))[timed].all())
    date = {
        "Y": np.where(local, third, first),
        "m": np.where(local & ~np.bool_(day_first), first, second),
        "d": np.where(local, first if day_first else second, third),
    }
    read = assemble(part, date, year_first | (local & known), zone, half=timed & half)
    read = _others(texts, read, ~read.bad | local, zone)
    if not local.any():
        return read, "", ""
    if not known:
        return read, "", "for certain: day or month may come first"
    how = "day/month/year" if day_first else "month/day/year"
    # before one o'clock both clocks say the same
    return read, how + (_HALF if half and (hour[timed] < 8).any() else ""), f"if lines are {how}"


def _others(texts: pa.StringArray, times: Times, done: np.ndarray, zone: datetime.tzinfo) -> Times:
    """Texts of no known date: epoch times, and the rest of ISO 8601, one by one."""
    rest = np.flatnonzero(~done)
    if not rest.size:
        return times
    ns, width, bad = times.ns.copy(), times.width.copy(), times.bad.copy()
    mine = texts.take(pa.array(rest))
    whole = pc.extract_regex(mine, NUMBER)
    digits = pc.utf8_length(pc.utf8_ltrim(whole.field("whole"), "0")).fill_null(0).to_numpy()
    digits = np.where(whole.is_valid().to_numpy(zero_copy_only=False), digits, -1)
    exact = ~pc.match_substring(mine, ".").to_numpy(zero_copy_only=False)
    for fewest, most, unit in _EPOCH_UNITS:
        fits = (digits >= fewest) & (digits <= most)
        here = rest[fits]
        ns[here], bad[here] = decimals(mine.filter(pa.array(fits)), unit)
        width[here] = np.where(exact[fits], unit - 1, 0)
    for at in np.flatnonzero(bad & ~done).tolist():
        text = texts[at].as_py()
        try:
            if re.fullmatch(r"[+-]?\d+\.?\d*e[+-]?\d{1,2}", text, re.IGNORECASE | re.ASCII):
                value = Decimal(text) * NS
                if abs(value) >= 2**63:
                    continue
                ns[at], width[at] = int(value), 0 if "." in text else NS - 1
            else:
                ns[at] = since_1970(datetime.datetime.fromisoformat(text), zone)
                width[at] = 0 if re.search(r"[.,]\d", text) else NS - 1
        except ValueError:
            continue
        bad[at] = False
    return Times(ns, width, bad)


def _by_format(texts: pa.StringArray, times: str, zone: datetime.tzinfo) -> Times:
    """Times of a format that was given."""
    half = _halves(times)
    pattern = _pattern(times)
    if pattern is not None:
        part = pc.extract_regex(texts, pattern)
        fields = {name: numbers(part.field(name)) for name in "Ymd" if f"(?P<{name}>" in pattern}
        if "Y" not in fields:  # as strptime has it
            short = numbers(part.field("y"))
            fields["Y"] = short + np.where(short < 69, 2000, 1900)
        matched = part.is_valid().to_numpy(zero_copy_only=False)
        return assemble(part, fields, matched, zone, half=np.full(len(texts), half))
    ns = np.zeros(len(texts), np.int64)
    bad = np.zeros(len(texts), bool)
    for at, text in enumerate(texts.to_pylist()):
        try:
            when = datetime.datetime.strptime(text, times)
        except ValueError:
            bad[at] = True
            continue
        if half:
            when = when.replace(hour=when.hour + 12 if when.hour < 8 else when.hour)
        ns[at] = since_1970(when, zone)
    unit = 0 if "%f" in times else NS if re.search("%[ScTX]", times) else 60 * NS
    return Times(ns, np.full(len(texts), max(unit - 1, 0)), bad)


def _halves(times: str) -> bool:
    return "%I" in times and "%p" not in times


def _pattern(times: str) -> str | None:
    """A regular expression for a format of strptime; None if that must do it itself."""
    pattern = ""
    for directive, space, other in re.findall(r"%(.)|(\s+)|(.)", times, re.DOTALL):
        if directive:
            piece = _DIRECTIVES.get(directive)
            if piece is None or piece in pattern:
                return None
            pattern += piece
        else:
            pattern += r"\s+" if space else re.escape(other)
    has = {name for name in "dmYyHIM" if f"(?P<{name}>" in pattern}
    return f"^{pattern}$" if has >= {"d", "m"} and has & {"Y", "y"} and len(has & {"H", "I"}) == 1 else None
