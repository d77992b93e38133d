"""Labels of flows from a label file.

A label file is CSV, one row a labelled flow or pair of addresses, as IDS data sets ship them:
addresses, ports, protocol, an optional time window, and the class. An empty cell matches anything.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from netgen.capture.labels.columns import parse_rows
from netgen.capture.labels.csv_file import LabelFileReader
from netgen.capture.labels.matching import Endpoints, Matcher
from netgen.capture.labels.options import LabelOptions
from netgen.capture.series.spec import LONGEST_NS, NS

#: A shift of the clock is suggested if so many flows, and half of all, agree on it within `_SHIFT_TOLERANCE_NS`.
_MIN_SHIFTED = 3
_SHIFT_TOLERANCE_NS = 120 * NS
_HOUR = 3600 * NS


class LabelFile:
    """A label file, which gives flows their classes.

    Both directions match. Of several rows that match, the one that names most fields (addresses,
    ports, protocol, time) wins, and among equals the one whose start is nearest to the flow's.

    Parameters
    ----------
    path : str or Path
        A CSV file with a header line that names columns as IDS data sets do. Times are epoch
        numbers, ISO 8601, or dates whose order of day and month the file shows; ``Flow Duration``
        counts microseconds, ``duration`` seconds.
    options : LabelOptions, optional
        How to read the file where it does not say so itself.

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
        rows = parse_rows(LabelFileReader(self.path, self.options.column).read(), self.path, self.options)
        self.rows = rows.total
        self._rows = rows
        self._matcher = Matcher(rows.endpoints, rows.windows, rows.label)
        self._counts: Counter[str] = Counter()
        self._matched = np.zeros(len(rows.label), bool)
        self._shifts = [np.zeros(0, np.int64)]

    def classes_of(self, *columns: Iterable[Any]) -> list[str | None]:
        """Return the classes of flows, None where no row matches.

        The columns are those of the flow table: ``src, src_port, dst, dst_port, protocol, start_ns, duration_ns``. A
        row with a time window matches if it overlaps the flow.
        """
        *names, start_ns, duration_ns = (_to_list(column) for column in columns)
        flows = self._endpoints(*names)
        start, end = _span(start_ns, duration_ns)
        best = self._matcher.match(flows, start, end)
        unmatched = np.flatnonzero(best.row < 0)
        self._matched[self._matcher.matching_rows(flows, start, end)] = True
        self._shifts.append(self._matcher.shifts(flows.take(unmatched), start[unmatched]))
        self._counts["flows"] += len(start)
        self._counts["unmatched"] += len(unmatched)
        self._counts["tied"] += int(best.tied.sum())
        return [self._rows.labels[self._rows.label[row]] if row >= 0 else None for row in best.row.tolist()]

    @property
    def warnings(self) -> Counter[str]:
        """How the file was read, and how much of it matched the flows of all calls of `classes_of`."""
        warnings = +self._rows.warnings
        flows, unmatched = self._counts["flows"], self._counts["unmatched"]
        warnings["flows labelled by the label file"] = flows - unmatched
        warnings["flows that no row of the label file matches"] = unmatched
        tied = self._counts["tied"]
        warnings["flows that rows of several classes match equally well: the first of the file named them"] = tied
        warnings["rows of the label file that match no flow"] = self.rows - int(self._matched.sum())
        if flows and not self.rows:
            warnings["flows, and no row of the label file has a class"] = flows
        elif flows and flows == unmatched:
            warnings["flows, and the label file matches none: look at its times, their zone, and its addresses"] = flows
        shifts = np.sort(np.concatenate(self._shifts))
        near = np.searchsorted(shifts, shifts + _SHIFT_TOLERANCE_NS) - np.arange(len(shifts))
        agree = int(near.max(initial=0))
        # a few flows agree by chance, or because flows were split differently
        if agree >= _MIN_SHIFTED and 2 * agree >= len(shifts) and 4 * agree > flows - unmatched:
            shift = int(shifts[int(near.argmax()) + agree // 2])
            if round(shift / NS):
                warnings[f"flows begin {_shift_hint(shift, self.options)}"] = agree
        return +warnings

    def _endpoints(
        self, src: list[Any], src_port: list[Any], dst: list[Any], dst_port: list[Any], protocol: list[Any]
    ) -> Endpoints:
        addresses = [[self._rows.addresses.get(address, -1) for address in column] for column in (src, dst)]
        numbers = [[-1 if value is None else value for value in column] for column in (src_port, dst_port, protocol)]
        return Endpoints(*(np.array(column, np.int64) for column in (*addresses, *numbers)))


def _to_list(column: Any) -> list[Any]:
    """Return a column of Arrow or NumPy as a list."""
    for method in ("to_pylist", "tolist"):
        if hasattr(column, method):
            return list(getattr(column, method)())
    return list(column)


def _span(start_ns: Any, duration_ns: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last moment of flows, within the 146 years around 1970 in which rows are."""
    start = np.clip(np.asarray(start_ns, np.int64), -LONGEST_NS, LONGEST_NS)
    return start, np.minimum(start + np.clip(np.asarray(duration_ns, np.int64), 0, LONGEST_NS - 1), LONGEST_NS)


def _shift_hint(shift: int, options: LabelOptions) -> str:
    """Say what to type if flows begin so much later than the rows with their addresses."""
    quarter = 900 * NS
    rounded = round(shift / quarter) * quarter
    # zones differ by quarters of an hour; texts of whole minutes blur the rest
    shift = rounded if rounded and abs(shift - rounded) <= _SHIFT_TOLERANCE_NS else round(shift / NS) * NS
    option = f"--labels-offset {_offset_text(options.offset_ns + shift)}"
    if abs(shift) == 12 * _HOUR:
        option = f"--labels-time-format with {'%I, a 12-hour clock' if shift > 0 else '%H, a 24-hour clock'}"
    elif abs(shift) > 26 * _HOUR:
        option += " or the other order of day and month: --labels-time-format"
    elif shift == rounded and options.zone == "UTC" and abs(shift) <= 14 * _HOUR:
        hours, minutes = divmod(abs(shift) // (60 * NS), 60)
        option += f" or --labels-zone {'-' if shift > 0 else '+'}{hours:02}:{minutes:02}"
    return (
        f"{_offset_text(abs(shift))} {'later' if shift > 0 else 'earlier'} than the rows of the label file with "
        f"their ends: try {option}"
    )


def _offset_text(ns: int) -> str:
    """Format an offset for `parse_offset`."""
    for unit, size in (("h", _HOUR), ("m", 60 * NS), ("s", NS)):
        if ns % size == 0:
            return f"{ns // size}{unit}"
    return f"{ns}ns"
