"""Texts of numbers, dates and clocks as whole nanoseconds since 1970, exactly, a column at a time."""

from __future__ import annotations

import dataclasses
import datetime
import re
import zoneinfo
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from netgen.capture.errors import InputError
from netgen.capture.series.spec import LONGEST_NS, NS

#: A plain decimal number.
NUMBER = r"^(?P<sign>[+-]?)(?P<whole>[0-9]{1,19})(?:\.(?P<fraction>[0-9]*))?$"


@dataclasses.dataclass(frozen=True)
class Times:
    """Times of distinct texts.

    Parameters
    ----------
    ns : ndarray of int64, shape (texts,)
        Nanoseconds since 1970, within 146 years of it.
    width : ndarray of int64, shape (texts,)
        What a text leaves open: the nanoseconds of its second, minute or day but one; 0 if it has a
        fraction.
    bad : ndarray of bool, shape (texts,)
        Texts that are no time, or cannot be told to be which one.
    """

    ns: np.ndarray
    width: np.ndarray
    bad: np.ndarray


def time_zone(name: str) -> datetime.tzinfo:
    """A zone by its name or offset: ``UTC``, ``-03:00``, ``Europe/Berlin``.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    match = re.fullmatch(r"(?:UTC)?([+-])(\d\d?)(?::?(\d\d))?", name)
    if match:
        minutes = int(match[2]) * 60 + int(match[3] or 0)
        if minutes < 24 * 60:
            return datetime.timezone(datetime.timedelta(minutes=minutes if match[1] == "+" else -minutes))
    try:
        return datetime.UTC if name == "UTC" else zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"{name!r} is no time zone", "Write UTC, -03:00 or a name such as Europe/Berlin") from error


def decimals(texts: pa.StringArray, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """Decimal numbers times `unit`, whole and exact, cut off towards 0.

    Parameters
    ----------
    texts : StringArray
        Numbers such as ``12``, ``-0.5`` or ``1.5e9``.
    unit : int
        At most 10**9.

    Returns
    -------
    values : ndarray of int64
        No further than `LONGEST_NS` from 0.
    bad : ndarray of bool
        Texts that are no numbers.
    """
    fields = pc.extract_regex(texts, NUMBER)
    bad = ~fields.is_valid().to_numpy(zero_copy_only=False)
    # the tenth digit after the point is less than a nanosecond
    fraction = numbers(pc.utf8_rpad(pc.utf8_slice_codeunits(fields.field("fraction"), 0, 9), 9, "0"))
    values = np.minimum(numbers(fields.field("whole")), LONGEST_NS // unit) * unit + fraction * unit // NS
    values = np.where(is_text(fields.field("sign"), "-"), -values, values)
    for at in np.flatnonzero(bad).tolist():
        text = texts[at].as_py()
        if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?", text, re.IGNORECASE | re.ASCII):
            values[at] = max(-LONGEST_NS, min(int(Decimal(text) * unit), LONGEST_NS))
            bad[at] = False
    return np.clip(values, -LONGEST_NS, LONGEST_NS), bad


def assemble(
    part: pa.StructArray, fields: dict[str, np.ndarray], shape: np.ndarray, zone: datetime.tzinfo, *, half: np.ndarray
) -> Times:
    """Numbers of a date, and the clock that `part` holds, as times; `half`: 1 to 7 o'clock are after noon."""
    names = {field.name for field in part.type}
    text = {name: part.field(name) for name in names & set("HIMSfpz")}
    clock = {name: numbers(text[name]) if name in text else np.zeros(len(part), np.int64) for name in "HIMS"}
    months = (fields["Y"] - 1970) * 12 + fields["m"] - 1
    first, after = (
        each.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for each in (months, months + 1)
    )
    hour = clock["H"] + clock["I"]
    halves = "p" in text and longer(text["p"], 0)
    after_noon = is_text(pc.utf8_lower(text["p"]), "p") if "p" in text else False
    twelve = half | halves | ("I" in text)
    good = shape & (fields["Y"] > 0) & (fields["m"] >= 1) & (fields["m"] <= 12)
    good &= (fields["d"] >= 1) & (fields["d"] <= after - first) & (clock["M"] < 60) & (clock["S"] < 60)
    good &= np.where(twelve, (hour >= 1) & (hour <= 12), hour < 24)
    hour = np.where(halves, hour % 12 + 12 * after_noon, np.where(half & (hour < 8), hour + 12, hour))
    seconds = (first + fields["d"] - 1) * 86400 + hour * 3600 + clock["M"] * 60 + clock["S"]
    seconds = np.where(good, seconds, 0)
    own = longer(text["z"], 0) if "z" in text else np.zeros(len(part), bool)
    seconds -= np.where(own, _offsets(text["z"]) if own.any() else 0, _zone_offsets(seconds, zone, good & ~own))
    fraction = np.zeros(len(part), np.int64)
    exact = np.zeros(len(part), bool)
    if "f" in text:
        fraction = numbers(pc.utf8_rpad(text["f"], 9, "0"))
        exact = longer(text["f"], 0)
    limit = LONGEST_NS // NS
    width = np.full(len(part), 86400 * NS)
    for name, unit in (("H", 3600), ("I", 3600), ("M", 60), ("S", 1)):
        if name in text:
            width = np.where(longer(text[name], 0), unit * NS, width)
    return Times(np.clip(seconds, -limit, limit) * NS + fraction, np.where(exact, 0, width - 1), ~good)


def _first_day(months: np.ndarray) -> np.ndarray:
    """Days since 1970 of the first of each month, months counted from 1970 too."""
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _zone_offsets(seconds: np.ndarray, zone: datetime.tzinfo, mine: np.ndarray) -> np.ndarray:
    """Offset from UTC, in seconds, of local times; an hour that comes twice is taken as the first of them."""
    offsets = np.zeros(len(seconds), np.int64)
    fixed = zone.utcoffset(None)
    if fixed is not None:
        return offsets + int(fixed.total_seconds())
    # clocks are changed on whole minutes, so that few need be looked up
    minutes, place = np.unique(seconds[mine] // 60, return_inverse=True)
    start = datetime.datetime(1970, 1, 1)
    moments = ((start + datetime.timedelta(minutes=minute)).replace(tzinfo=zone) for minute in minutes.tolist())
    found = [(each.utcoffset() or datetime.timedelta()).total_seconds() for each in moments]
    offsets[mine] = np.array(found, np.int64)[place]
    return offsets


def _offsets(text: pa.StringArray) -> np.ndarray:
    """``Z``, ``-03:00`` or ``-0300`` in seconds."""
    fields = pc.extract_regex(text, r"^(?P<sign>[+-])(?P<hour>[0-9]{2}):?(?P<minute>[0-9]{2})$")
    seconds = numbers(fields.field("hour")) * 3600 + numbers(fields.field("minute")) * 60
    return np.where(is_text(fields.field("sign"), "-"), -seconds, seconds)


def since_1970(when: datetime.datetime, zone: datetime.tzinfo) -> int:
    """Nanoseconds since 1970, within `LONGEST_NS`; in `zone` if the moment has none."""
    when = when if when.tzinfo is not None else when.replace(tzinfo=zone)
    since = when - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return max(-LONGEST_NS, min((since // datetime.timedelta(microseconds=1)) * 1_000, LONGEST_NS))


def numbers(text: pa.StringArray) -> np.ndarray:
    """Digits as int64, at most `LONGEST_NS`; 0 where there are none."""
    digits = pc.if_else(pc.equal(text, ""), "0", text).fill_null("0")
    return np.minimum(pc.cast(digits, pa.uint64()).to_numpy(), LONGEST_NS).astype(np.int64)


def longer(text: pa.StringArray, length: int) -> np.ndarray:
    """Which texts have more letters than `length`; null has none."""
    return pc.utf8_length(text).fill_null(0).to_numpy() > length


def is_text(text: pa.StringArray, value: str) -> np.ndarray:
    """Which texts are `value`; null is not."""
    return pc.equal(text, value).fill_null(False).to_numpy(zero_copy_only=False)
