"""Cells of a labels file as numbers: ends, ports, protocols, windows of time and classes."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from netgen.capture.errors import InputError
from netgen.capture.labels.clock_text import Times, decimals
from netgen.capture.labels.csv_file import HINT, Cells, Column
from netgen.capture.labels.labeller import LabelOptions
from netgen.capture.labels.matching import OPEN_END, OPEN_START, Ends, Windows
from netgen.capture.labels.protocol_names import NOT_IP, NUMBERS, OTHER, PORTED
from netgen.capture.labels.timestamps import read_times
from netgen.capture.series.spec import LONGEST_NS, NS

#: The class of a row whose class is empty while another column flags it as benign, as in UNSW-NB15.
BENIGN = "Normal"

# what a column holds that flags rows in place of naming their class
_FLAGS = frozenset(("0", "1", "0.0", "1.0", "true", "false"))
_BENIGN_FLAGS = frozenset(("0", "0.0", "false"))

_ANY = frozenset(("", "-", "*", "any"))
_BAD = -2
_DURATIONS = (("duration_us", 1_000), ("duration_ms", 1_000_000), ("duration_s", NS))
_TIMES_HINT = (
    "Write epoch seconds or ISO 8601, such as 2017-07-05T08:42:00+00:00, "
    "or say how they are written: --labels-times '%d/%m/%Y %H:%M:%S'"
)


@dataclasses.dataclass(frozen=True)
class LabelRows:
    """The rows of a labels file that some IP flow could fit, in the file's order.

    Parameters
    ----------
    total : int
        Rows of the file that have a class.
    ends : Ends
        Who talks to whom, addresses by their number in `addresses`.
    windows : Windows
        When.
    label : ndarray of int64, shape (rows,)
        Number of each row's class in `labels`.
    labels : list of str
        The classes.
    addresses : dict of str to int
        Addresses as the flow table writes them, and their numbers.
    notes : Counter
        What had to be decided or left out, and for how many rows.
    """

    total: int
    ends: Ends
    windows: Windows
    label: np.ndarray
    labels: list[str]
    addresses: dict[str, int]
    notes: Counter[str]


class NeedsLines(Exception):
    """A cell is bad, and its line is not known: read the file again, with lines."""


class _First:
    """The first bad cell of a file."""

    def __init__(self) -> None:
        self.row: int | None = None
        self.what = ""
        self.hint = HINT

    def add(self, bad: np.ndarray, column: Column, what: str, hint: str = HINT) -> None:
        """Rows whose cells of a column are no `what`."""
        if bad.any():
            row = int(bad.argmax())
            if self.row is None or row < self.row:
                text = column.texts[column.code[row]].as_py()
                self.row, self.what, self.hint = row, f"{text!r} is no {what}", hint


def parse_rows(cells: Cells, path: Path, options: LabelOptions) -> LabelRows:
    """The rows that cells make.

    Raises
    ------
    NeedsLines
        If a cell is bad and `cells` do not know the line.
    InputError
        If a cell is bad: file, line and value.
    """
    first = _First()
    notes: Counter[str] = Counter()
    notes["empty rows of the labels file"] = cells.empty
    notes["lines of the labels file that repeat its header"] = cells.repeated
    notes["rows of the labels file with more cells than its header: the last are left out"] = cells.long
    label, labels, named = _classes(cells, first, notes)
    windows = _windows(cells, options, first, notes)
    protocol = _of_texts(cells, "protocol", _protocol, first, np.ones(cells.rows, bool), "protocol")
    # ARP and the like may have no addresses, and what has no ports has something else in their place
    ip = protocol != NOT_IP
    ported = ip & ((protocol == -1) | np.isin(protocol, sorted(PORTED)))
    addresses: dict[str, int] = {}
    src, dst = (
        _of_texts(cells, end, lambda text: _address(text, addresses), first, ip, "address") for end in ("src", "dst")
    )
    src_port, dst_port = (
        np.where(ported, _of_texts(cells, end, _port, first, ported, end.replace("_", " ")), -1)
        for end in ("src_port", "dst_port")
    )
    if first.row is not None:
        if cells.line is None:
            raise NeedsLines
        raise InputError(f"{path}, line {cells.line(first.row)}: {first.what}", first.hint)
    if "src" not in cells.columns:
        notes["rows of the labels file without addresses: port, protocol and time must tell them apart"] = cells.rows
    notes["rows of the labels file with a protocol that is not IP"] = int((~ip).sum())
    ends = Ends(src, dst, src_port, dst_port, protocol)
    kept = ip & named
    if not kept.all():
        ends, label = ends.take(np.flatnonzero(kept)), label[kept]
        windows = Windows(windows.start[kept], windows.end[kept], windows.width[kept])
    return LabelRows(int(named.sum()), ends, windows, label, labels, addresses, notes)


def _classes(cells: Cells, first: _First, notes: Counter[str]) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Number of each row's class, the classes, and which rows have one."""
    occurring = [{text.lower() for text in _occurring(each)} - {""} for each in cells.classes]
    flags = [bool(texts) and texts <= _FLAGS for texts in occurring]
    # words say more than flags: take the first column of them, unless one was named
    at = 0 if cells.chosen else next((at for at, flag in enumerate(flags) if not flag and occurring[at]), 0)
    column = cells.classes[at]
    texts = column.texts.to_pylist()
    if len(cells.classes) > 1:
        notes[f"rows of the labels file with their class in its column {column.name}"] = cells.rows
    labels = list(dict.fromkeys([*texts, BENIGN]))
    number = {label: place for place, label in enumerate(labels)}
    code = column.rows(np.array([number[text] for text in texts], np.int64))
    empty = code == number.get("", -1)
    for other, flag in zip(cells.classes, flags, strict=True):
        if flag and other is not column and empty.any():
            benign = np.array([text.lower() in _BENIGN_FLAGS for text in other.texts.to_pylist()])
            filled = empty & other.rows(benign)
            notes[f"rows of the labels file without a class, called {BENIGN} as {other.name} flags them so"] += int(
                filled.sum()
            )
            code = np.where(filled, number[BENIGN], code)
            empty &= ~filled
    if not cells.own:
        first.add(empty, column, "label")
    notes["rows of the labels file without a class"] = int(empty.sum())
    return code, labels, ~empty


def _windows(cells: Cells, options: LabelOptions, first: _First, notes: Counter[str]) -> Windows:
    """When each row is."""
    columns = [cells.columns[name] for name in ("start", "end") if name in cells.columns]
    given = [_given(column) for column in columns]
    read = read_times(
        [column.texts.filter(pa.array(mask)) for column, mask in zip(columns, given, strict=True)],
        options,
        cicflowmeter=cells.cicflowmeter,
    )
    if read.how:
        notes[f"rows of the labels file with times read as {read.how}"] = cells.rows
    times = {
        name: (column, mask, _spread(each, mask, column))
        for name, column, mask, each in zip(
            [name for name in ("start", "end") if name in cells.columns], columns, given, read.columns, strict=True
        )
    }
    start = np.full(cells.rows, OPEN_START)
    end = np.full(cells.rows, OPEN_END)
    width = np.zeros(cells.rows, np.int64)
    if "start" in times:
        column, mask, found = times["start"]
        first.add(found.bad, column, f"start time {read.why_bad}".strip(), _TIMES_HINT)
        start = np.where(column.rows(mask), found.ns, start)
        width = np.where(column.rows(mask), found.width, 0)
    waiting = start != OPEN_START
    if "end" in times:
        column, mask, found = times["end"]
        first.add(found.bad, column, f"end time {read.why_bad}".strip(), _TIMES_HINT)
        given_end = column.rows(mask)
        end = np.where(given_end, np.minimum(found.ns + found.width, LONGEST_NS), end)
        first.add(given_end & ~found.bad & (end < start), column, "end (it is before the start)")
        waiting &= ~given_end
    for name, unit in _DURATIONS:
        if name in cells.columns:
            column = cells.columns[name]
            mask = _given(column)
            length, bad = np.zeros(len(mask), np.int64), np.zeros(len(mask), bool)
            length[mask], bad[mask] = decimals(column.texts.filter(pa.array(mask)), unit)
            here = waiting & column.rows(mask)
            first.add(here & column.rows(bad), column, name.replace("_", " "))
            # negative by mistake of the tool that made it: take it for none
            lasting = np.clip(column.rows(length), 0, LONGEST_NS // 2)
            end = np.where(here, np.minimum(start + width + lasting, LONGEST_NS), end)
            waiting &= ~here
    return Windows(start, end, width)


def _spread(times: Times, mask: np.ndarray, column: Column) -> Times:
    """Times of the texts of a mask, for each row of a column; 0 where a text is none of them."""
    parts = []
    for values in (times.ns, times.width, times.bad):
        whole = np.zeros(len(mask), values.dtype)
        whole[mask] = values
        parts.append(column.rows(whole))
    return Times(*parts)


def _given(column: Column) -> np.ndarray:
    """Which texts of a column occur and are not left open."""
    given = ~pc.is_in(pc.utf8_lower(column.texts), value_set=pa.array(sorted(_ANY))).to_numpy(zero_copy_only=False)
    return given & (np.bincount(column.code, minlength=len(given)) > 0)


def _occurring(column: Column) -> list[str]:
    return column.texts.filter(pa.array(np.bincount(column.code, minlength=len(column.texts)) > 0)).to_pylist()


def _of_texts(
    cells: Cells, name: str, number: Callable[[str], int], first: _First, mine: np.ndarray, what: str
) -> np.ndarray:
    """A column as numbers, -1 where it is left open; of the rows that are not `mine`, whatever."""
    if name not in cells.columns:
        return np.full(cells.rows, -1)
    column = cells.columns[name]
    of_text = np.array(
        [-1 if text in _ANY else number(text) for text in map(str.lower, column.texts.to_pylist())], np.int64
    )
    values = column.rows(of_text)
    first.add(mine & (values == _BAD), column, what)
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
