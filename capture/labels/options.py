"""Options of labelling: how a label file is read, and class names."""

from __future__ import annotations

import dataclasses
import re

from netgen.capture.errors import InputError
from netgen.capture.series.spec import parse_duration


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """How to read a label file where it does not say so itself."""

    zone: str = "UTC"  # zone of times that have none: ``UTC``, ``-03:00`` or a name such as ``Europe/Berlin``
    offset_ns: int = 0  # added to the file's times to get the capture's
    time_format: str | None = None  # of `datetime.strptime`; ``%I`` without ``%p``: 8 to 11 before noon, 12 to 7 after
    column: str | None = None  # name of the column that holds the class


def parse_offset(text: str | float) -> int:
    """Return ``"2.5s"``, ``"-1h"`` or a number of seconds as nanoseconds; 0 is allowed, anything else an InputError."""
    match = re.fullmatch(r"\s*([+-]?)\s*(\S.*)", str(text), re.DOTALL)
    sign, digits = match.groups() if match else ("", "")
    if re.fullmatch(r"0+\.?0*\s*(ns|us|ms|s|m|h)?\s*", digits, re.IGNORECASE):
        return 0
    try:
        return -parse_duration(digits) if sign == "-" else parse_duration(digits)
    except InputError as error:
        raise InputError(f"{text!r} is not a clock offset", "Write it like 2.5s, -250ms or -3h") from error


def check_label(label: str | None) -> None:
    """Refuse a class name that is blank."""
    if label is not None and not label.strip():
        raise InputError(f"{label!r} is not a class name", "Name the class, or leave it out: --label netflix")
