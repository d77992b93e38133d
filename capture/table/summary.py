"""Totals of a flow table by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.arrow_utils import to_numpy

_TOTALS = ("packets", "bytes", "truncated_packets")


class TableSummary:
    """Add up what a table holds, a block of rows at a time."""

    def __init__(self) -> None:
        self._classes: dict[str | None, dict[str, int]] = {}
        self._synthetic = 0

    def add(self, table: pa.Table) -> None:
        """Add rows; `table` has the columns of `FLOW_COLUMNS`."""
        column = table["label"]
        labels = [None] * len(table) if column.null_count == len(table) else column.to_pylist()
        index = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        single = len(index) == 1
        codes = np.zeros(len(labels), np.int64) if single else np.array([index[label] for label in labels], np.int64)
        values = {name: np.concatenate([np.zeros(0, np.int64), *map(to_numpy, table[name].chunks)]) for name in _TOTALS}
        for label, number in index.items():
            row = self._classes.setdefault(label, dict.fromkeys(("flows", *_TOTALS), 0))
            of_class = codes == number
            row["flows"] += int(of_class.sum())
            for name in _TOTALS:
                row[name] += int(values[name][of_class].sum())
        self._synthetic += sum(chunk.true_count for chunk in table["synthetic"].chunks)

    def summary(self, spec: SeriesSpec, metadata: dict[str, Any]) -> dict[str, Any]:
        """Return the totals as JSON types, see `FlowTable.summary`."""
        rows = self._classes
        totals = {name: sum(row[name] for row in rows.values()) for name in ("flows", *_TOTALS)}
        return {
            "flows": totals.pop("flows"),
            "classes": {label: rows[label] for label in sorted(label for label in rows if label is not None)},
            "unlabelled": rows[None]["flows"] if None in rows else 0,
            "synthetic": self._synthetic,
            **totals,
            "series": spec.to_json(),
            **metadata,
        }
