"""Classes for flows from a labels file.

A labels file is CSV, one row a labelled flow or address pair, as IDS data sets ship them: ends and
ports, protocol, an optional time window, and the class. What a row leaves empty matches anything.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from netgen.capture.labels.columns import NeedsLines, parse_rows
from netgen.capture.labels.csv_file import COLUMNS as _COLUMNS
from netgen.capture.labels.csv_file import LabelText
from netgen.capture.labels.labeller import LabelOptions
from netgen.capture.labels.matching import Ends, Matcher
from netgen.capture.series.spec import LONGEST_NS, NS

__all__ = ["_COLUMNS", "LabelFile", "LabelOptions"]

#: The starts of flows agree on a shift of the clock if this many, and half of all, are so near to each other.
_AGREE = 3
_AGREE_NS = 120 * NS
_HOUR = 3600 * NS


class LabelFile:
    """Rows of a labels file, to be asked for the classes of flows.

    Both directions match. Of several rows that match, the one that says most (ends, ports,
    protocol, time) wins, and among equals the one whose start is nearest to the flow's.

    Parameters
    ----------
    path : str or Path
        A CSV file with a header line that names columns as IDS data sets do. Times are epoch
        numbers, ISO 8601, or dates whose order of day and month the file shows; ``Flow Duration``
        counts microseconds, ``duration`` seconds.
    options : LabelOptions, optional
        How it is to be read where it does not say so itself.

    Attributes
    ----------
    rows : int
        Rows with a class.

    Raises
    ------
    InputError
        If it cannot be read, lacks a column, or a row is bad; names file, line and value.
    """

    def __init__(self, path: str | os.PathLike[str], options: LabelOptions | None = None) -> None:
        self.path = Path(path)
        self.options = options or LabelOptions()
        text = LabelText(self.path, self.options.column)
        try:
            rows = parse_rows(text.read(), self.path, self.options)
        except NeedsLines:
            rows = parse_rows(text.read(lines=True), self.path, self.options)
        self.rows = rows.total
        self._rows = rows
        self._matcher = Matcher(rows.ends, rows.windows, rows.label)
        self._counts: Counter[str] = Counter()
        self._touched = np.zeros(len(rows.label), bool)
        self._shifts = [np.zeros(0, np.int64)]

    def class_of(
        self,
        src: str | None,
        src_port: int | None,
        dst: str | None,
        dst_port: int | None,
        protocol: int | None,
        start_ns: int,
        duration_ns: int,
    ) -> str | None:
        """The class of a flow, or None if no row matches it; `notes` do not count it.

        Parameters
        ----------
        src, src_port, dst, dst_port, protocol
            As in the flow table.
        start_ns, duration_ns : int
            When the flow was; a row with a time window matches if they overlap.
        """
        ends = self._ends([src], [src_port], [dst], [dst_port], [protocol])
        row = self._matcher.match(ends, *_span([start_ns], [duration_ns])).row[0]
        return self._rows.labels[self._rows.label[row]] if row >= 0 else None

    def classes_of(self, *columns: Iterable[Any]) -> list[str | None]:
        """The classes of flows, None where no row matches; columns as the arguments of `class_of`."""
        *ends_columns, start_ns, duration_ns = (_plain(column) for column in columns)
        ends = self._ends(*ends_columns)
        start, end = _span(start_ns, duration_ns)
        matches = self._matcher.match(ends, start, end)
        without = np.flatnonzero(matches.row < 0)
        self._touched[self._matcher.touched(ends, start, end)] = True
        self._shifts.append(self._matcher.shifts(ends.take(without), start[without]))
        self._counts["flows"] += len(start)
        self._counts["without"] += len(without)
        self._counts["tied"] += int(matches.tied.sum())
        found = np.where(matches.row < 0, -1, self._rows.label[matches.row] if len(self._touched) else -1)
        labels = [*self._rows.labels, None]  # -1 is the last
        return [labels[number] for number in found.tolist()]

    @property
    def notes(self) -> Counter[str]:
        """How the file was read, and what of it matched the flows of all calls of `classes_of`."""
        notes = +self._rows.notes
        flows, without = self._counts["flows"], self._counts["without"]
        notes["flows labelled by the labels file"] = flows - without
        notes["flows that no row of the labels file matches"] = without
        tied = self._counts["tied"]
        notes["flows that rows of several classes match equally well: the first of the file named them"] = tied
        notes["rows of the labels file that match no flow"] = self.rows - int(self._touched.sum())
        if flows and not self.rows:
            notes["flows, and no row of the labels file has a class"] = flows
        elif flows and flows == without:
            notes["flows, and the labels file matches none: look at its times, their zone, and its addresses"] = flows
        shifts = np.sort(np.concatenate(self._shifts))
        near = np.searchsorted(shifts, shifts + _AGREE_NS) - np.arange(len(shifts))
        agree = int(near.max(initial=0))
        # a few flows by chance, or parts of flows that were cut in another way, say nothing of the clock
        if agree >= _AGREE and 2 * agree >= len(shifts) and 4 * agree > flows - without:
            shift = int(shifts[int(near.argmax()) + agree // 2])
            if round(shift / NS):
                notes[f"flows begin {_how_to_shift(shift, self.options)}"] = agree
        return +notes

    def _ends(self, *columns: list[Any]) -> Ends:
        src, src_port, dst, dst_port, protocol = columns
        known = self._rows.addresses
        numbers = [[known.get(each, -1) for each in column] for column in (src, dst)]
        numbers += [[-1 if each is None else each for each in column] for column in (src_port, dst_port, protocol)]
        a, b, a_port, b_port, kind = (np.array(column, np.int64) for column in numbers)
        return Ends(a, b, a_port, b_port, kind)


def _plain(column: Any) -> list[Any]:
    """A column of Arrow or numpy as a list."""
    for method in ("to_pylist", "tolist"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)


def _span(start_ns: Any, duration_ns: Any) -> tuple[np.ndarray, np.ndarray]:
    """First and last moment of flows, within the 146 years around 1970 in which rows are."""
    start = np.clip(np.asarray(start_ns, np.int64), -LONGEST_NS, LONGEST_NS)
    return start, np.minimum(start + np.clip(np.asarray(duration_ns, np.int64), 0, LONGEST_NS - 1), LONGEST_NS)


def _how_to_shift(shift: int, options: LabelOptions) -> str:
    """What to type where flows begin so much later than the rows with their ends."""
    quarter = 900 * NS
    rounded = round(shift / quarter) * quarter
    # zones differ by quarters of an hour; texts of whole minutes blur the rest
    shift = rounded if rounded and abs(shift - rounded) <= _AGREE_NS else round(shift / NS) * NS
    how = f"--labels-offset {_offset_text(options.offset_ns + shift)}"
    if abs(shift) == 12 * _HOUR:
        how = f"--labels-times with {'%I, a 12-hour clock' if shift > 0 else '%H, a 24-hour clock'}"
    elif abs(shift) > 26 * _HOUR:
        how += " or the other order of day and month: --labels-times"
    elif shift == rounded and options.zone == "UTC" and abs(shift) <= 14 * _HOUR:
        hours, minutes = divmod(abs(shift) // (60 * NS), 60)
        how += f" or --labels-zone {'-' if shift > 0 else '+'}{hours:02}:{minutes:02}"
    return (
        f"{_offset_text(abs(shift))} {'later' if shift > 0 else 'earlier'} than the rows of the labels file with "
        f"their ends: try {how}"
    )


def _offset_text(ns: int) -> str:
    """An offset as `parse_offset` reads it."""
    for unit, size in (("h", _HOUR), ("m", 60 * NS), ("s", NS)):
        if ns % size == 0:
            return f"{ns // size}{unit}"
    return f"{ns}ns"
