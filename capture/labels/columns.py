"""Cells of a label file as numbers: endpoints, protocols, time windows and classes."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from netgen.capture.errors import InputError
from netgen.capture.labels.csv_file import HINT, Column, LabelCells
from netgen.capture.labels.matching import OPEN_END, OPEN_START, Endpoints, TimeWindows
from netgen.capture.labels.options import LabelOptions
from netgen.capture.labels.protocol_names import NOT_IP, NUMBERS, OTHER, PORTED
from netgen.capture.labels.timestamps import ParsedTimestamps, Timestamps, parse_decimal, parse_timestamps
from netgen.capture.series.spec import LONGEST_NS, NS

#: The class of a row whose class is empty while another column flags it as benign, as in UNSW-NB15.
BENIGN = "Normal"

# contents of a column that flags rows instead of naming their class
_FLAGS = frozenset(("0", "1", "0.0", "1.0", "true", "false"))
_BENIGN_FLAGS = frozenset(("0", "0.0", "false"))

_ANY = frozenset(("", "-", "*", "any"))
_BAD = -2
_DURATIONS = (("duration_us", 1_000), ("duration_ms", 1_000_000), ("duration_s", NS))
_TIMES_HINT = (
    "Write epoch seconds or ISO 8601, such as 2017-07-05T08:42:00+00:00, "
    "or give the format: --labels-time-format '%d/%m/%Y %H:%M:%S'"
)


@dataclasses.dataclass(frozen=True)
class LabelRows:
    """The rows of a label file that an IP flow could match, in the file's order."""

    total: int  # rows of the file that have a class
    endpoints: Endpoints  # addresses by their index in `addresses`, ports and protocols
    windows: TimeWindows
    label: np.ndarray  # int64, shape (rows,): index of each row's class in `labels`
    labels: list[str]  # the classes
    addresses: dict[str, int]  # addresses as the flow table writes them, and their indices
    warnings: Counter[str]  # what was decided or left out, and for how many rows


class FirstError:
    """The first bad cell of a file."""

    def __init__(self) -> None:
        self.row: int | None = None
        self.message = ""
        self.hint = HINT

    def add(self, bad: np.ndarray, column: Column, expected: str, hint: str = HINT) -> None:
        """Note rows whose cells in `column` are not as expected."""
        if bad.any():
            row = int(bad.argmax())
            if self.row is None or row < self.row:
                text = column.texts[column.code[row]].as_py()
                self.row, self.message, self.hint = row, f"{text!r} is not {expected}", hint


def parse_rows(cells: LabelCells, path: Path, options: LabelOptions) -> LabelRows:
    """Parse the cells of a label file; an InputError names file, line and value of a bad cell."""
    error = FirstError()
    warnings: Counter[str] = Counter()
    warnings["empty rows of the label file"] = cells.empty
    warnings["lines of the label file that repeat its header"] = cells.repeated
    warnings["rows of the label file with more cells than its header: the last are left out"] = cells.long
    label, labels, named = _classes(cells, error, warnings)
    windows = _windows(cells, options, error, warnings)
    protocol = _parse_column(cells, "protocol", _protocol, error, "a protocol")
    # ARP and the like may have no addresses, and protocols without ports have other numbers in their columns
    ip = protocol != NOT_IP
    ported = ip & ((protocol == -1) | np.isin(protocol, sorted(PORTED)))
    addresses: dict[str, int] = {}

    def address(text: str) -> int:
        return _address(text, addresses)

    src, dst = (_parse_column(cells, end, address, error, "an address", ip) for end in ("src", "dst"))
    src_port, dst_port = (
        np.where(ported, _parse_column(cells, end, _port, error, f"a {end.replace('_', ' ')}", ported), -1)
        for end in ("src_port", "dst_port")
    )
    if error.row is not None:
        raise InputError(f"{path}, line {cells.lines[error.row]}: {error.message}", error.hint)
    if "src" not in cells.columns:
        warnings["rows of the label file without addresses: port, protocol and time must tell them apart"] = cells.rows
    warnings["rows of the label file with a protocol that is not IP"] = int((~ip).sum())
    endpoints = Endpoints(src, dst, src_port, dst_port, protocol)
    kept = np.flatnonzero(ip & named)
    return LabelRows(
        int(named.sum()), endpoints.take(kept), windows.take(kept), label[kept], labels, addresses, warnings
    )


def _classes(cells: LabelCells, error: FirstError, warnings: Counter[str]) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Return the index of each row's class, the classes, and which rows have one."""
    contents = [{text.lower() for text in _used_texts(column)} - {""} for column in cells.classes]
    flags = [bool(texts) and texts <= _FLAGS for texts in contents]
    # words say more than flags: take the first column of words, unless the user named a column
    index = 0
    if not cells.chosen:
        index = next((number for number, flag in enumerate(flags) if not flag and contents[number]), 0)
    column = cells.classes[index]
    if len(cells.classes) > 1:
        warnings[f"rows of the label file with their class in its column {column.name}"] = cells.rows
    texts = column.texts.to_pylist()
    labels = list(dict.fromkeys([*texts, BENIGN]))
    number_of = {label: number for number, label in enumerate(labels)}
    code = column.spread(np.array([number_of[text] for text in texts], np.int64))
    empty = code == number_of.get("", -1)
    for other, flag in zip(cells.classes, flags, strict=True):
        if flag and other is not column and empty.any():
            benign = np.array([text.lower() in _BENIGN_FLAGS for text in other.texts.to_pylist()])
            filled = empty & other.spread(benign)
            warning = f"rows of the label file without a class, called {BENIGN} as {other.name} flags them so"
            warnings[warning] += int(filled.sum())
            code = np.where(filled, number_of[BENIGN], code)
            empty &= ~filled
    if not cells.own:
        error.add(empty, column, "a label")
    warnings["rows of the label file without a class"] = int(empty.sum())
    return code, labels, ~empty


def _windows(cells: LabelCells, options: LabelOptions, error: FirstError, warnings: Counter[str]) -> TimeWindows:
    """Return the time window of each row."""
    names = [name for name in ("start", "end") if name in cells.columns]
    filled = {name: _filled(cells.columns[name]) for name in names}
    parsed = parse_timestamps(
        [cells.columns[name].texts.filter(pa.array(filled[name])).to_pylist() for name in names],
        options,
        cicflowmeter=cells.cicflowmeter,
    )
    if parsed.reading:
        warnings[f"rows of the label file with times read as {parsed.reading}"] = cells.rows
    times = dict(zip(names, parsed.columns, strict=True))
    start = np.full(cells.rows, OPEN_START)
    end = np.full(cells.rows, OPEN_END)
    resolution = np.zeros(cells.rows, np.int64)
    if "start" in times:
        given, start_times = _add_times(cells.columns["start"], filled["start"], times["start"], "start", parsed, error)
        start = np.where(given, start_times.ns, start)
        resolution = np.where(given, start_times.resolution, 0)
    without_end = start != OPEN_START
    if "end" in times:
        given, end_times = _add_times(cells.columns["end"], filled["end"], times["end"], "end", parsed, error)
        end = np.where(given, np.minimum(end_times.ns + end_times.resolution, LONGEST_NS), end)
        early = given & ~end_times.bad & (end < start)
        error.add(early, cells.columns["end"], "an end (it is before the start)")
        without_end &= ~given
    for name, unit in _DURATIONS:
        if name in cells.columns:
            column = cells.columns[name]
            durations = [parse_decimal(text, unit) for text in column.texts.to_pylist()]
            given = column.spread(_filled(column))
            bad = column.spread(np.array([duration is None for duration in durations], bool))
            error.add(without_end & given & bad, column, f"a {name.replace('_', ' ')}")
            # a negative duration is a fault of the tool that made the file: take it as 0
            duration = column.spread(np.array([duration or 0 for duration in durations], np.int64))
            last = start + resolution + np.clip(duration, 0, LONGEST_NS // 2)
            end = np.where(without_end & given, np.minimum(last, LONGEST_NS), end)
            without_end &= ~given
    return TimeWindows(start, end, resolution)


def _add_times(
    column: Column, filled: np.ndarray, times: Timestamps, name: str, parsed: ParsedTimestamps, error: FirstError
) -> tuple[np.ndarray, Timestamps]:
    """Spread the times of a column's filled texts over its rows; return which rows have one, and these times."""
    spread = []
    for values in (times.ns, times.resolution, times.bad):
        of_text = np.zeros(len(filled), values.dtype)
        of_text[filled] = values
        spread.append(column.spread(of_text))
    rows = Timestamps(*spread)
    article = "an" if name == "end" else "a"
    error.add(rows.bad, column, f"{article} {name} time {parsed.problem}".strip(), _TIMES_HINT)
    return column.spread(filled), rows


def _filled(column: Column) -> np.ndarray:
    """Return which texts of a column occur and are not left open."""
    named = np.array([text.lower() not in _ANY for text in column.texts.to_pylist()], bool)
    return named & (np.bincount(column.code, minlength=len(named)) > 0)


def _used_texts(column: Column) -> list[str]:
    return column.texts.filter(pa.array(np.bincount(column.code, minlength=len(column.texts)) > 0)).to_pylist()


def _parse_column(
    cells: LabelCells,
    name: str,
    parse: Callable[[str], int],
    error: FirstError,
    expected: str,
    checked: np.ndarray | None = None,
) -> np.ndarray:
    """Return a column as numbers, -1 where it is left open; errors count in the rows of `checked` only."""
    if name not in cells.columns:
        return np.full(cells.rows, -1)
    column = cells.columns[name]
    texts = map(str.lower, column.texts.to_pylist())
    values = column.spread(np.array([-1 if text in _ANY else parse(text) for text in texts], np.int64))
    bad = values == _BAD
    error.add(bad if checked is None else bad & checked, column, expected)
    return values


def _protocol(text: str) -> int:
    if text in NUMBERS:
        return NUMBERS[text]
    digits = text.removesuffix(".0")
    if not digits.isascii() or not digits.isdigit() or int(digits) > 255:
        return _BAD
    return int(digits) or OTHER


def _port(text: str) -> int:
    try:
        port = int(text, 16) if text.startswith("0x") else int(text.removesuffix(".0"))
    except ValueError:
        return _BAD
    return port if 0 <= port <= 65535 else _BAD


def _address(text: str, addresses: dict[str, int]) -> int:
    try:
        address = ipaddress.ip_address(text)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        # written as in the flow table: Python's own text differs for IPv4 inside IPv6
        return addresses.setdefault(socket.inet_ntop(family, address.packed), len(addresses))
    except ValueError:
        return _BAD
