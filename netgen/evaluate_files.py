"""Evaluation of files: flow tables of any origin, or captures, brought to equal series and compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from netgen.capture.errors import InputError
from netgen.capture.importers.foreign_tables import read_table
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.evaluate import Evaluation, Progress
from netgen.evaluation.evaluate import evaluate as run_evaluation
from netgen.exporters.pcap.ground_truth import find_ground_truth, is_ground_truth

#: Endings of files that hold tables; all others are captures, or folders of them.
TABLES = (".parquet", ".csv")

What = FlowTable | str | os.PathLike[str]


def evaluate(
    real: What,
    synth: What,
    *,
    holdout: What | None = None,
    seed: int = 0,
    group_by: str = "flow",
    label_by: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure how useful, how real and how private synthetic flows are.

    Parameters
    ----------
    real : FlowTable or path
        The flows that the synthetic ones were made from: a table, a Parquet or CSV file
        (`netgen.capture.importers.foreign_tables`), a capture, or a folder of captures.
    synth : FlowTable or path
        The synthetic flows.
    holdout : FlowTable or path, optional
        Real flows that were held back. Without them the real ones are divided, by capture, and copies
        can be told only in part.
    seed : int
        Of all random choices.
    by, label_by
        How captures are read, as in `netgen.extract`. Flows of a capture with netgen's labels file beside it
        have those classes, unless `group_by` or `label_by` says otherwise.
    progress : callable, optional
        Told what is done, how many steps are done, and of how many.

    Returns
    -------
    Evaluation
        Its ``verdict``, its ``rows`` of figures, and all of it by ``to_json()``.

    Raises
    ------
    NetgenError
        If a file cannot be read, series differ, or there are too few flows.
    """
    given = {"real": real, "synth": synth, "holdout": holdout}
    tables: dict[str, FlowTable] = {}
    options = {"by": group_by, "label_by": label_by}
    # tables first: captures are then cut as those are
    for name, what in sorted(given.items(), key=lambda each: _is_capture(each[1])):
        if what is not None:
            spec_from = next((table.spec for table in tables.values()), None)
            tables[name] = _table(what, spec_from, options)
    return run_evaluation(tables["real"], tables["synth"], holdout=tables.get("holdout"), seed=seed, progress=progress)


def _is_capture(what: What | None) -> bool:
    return what is not None and not isinstance(what, FlowTable) and Path(what).suffix.lower() not in TABLES


def _table(what: What, spec_from: SeriesSpec | None, options: dict[str, Any]) -> FlowTable:
    if isinstance(what, FlowTable):
        return what
    if not _is_capture(what):
        return read_table(what, spec_from=spec_from)
    if Path(what).suffix == ".safetensors":
        raise InputError(f"{what} is a model, no flows", f"Draw some first: netgen synth --model {what} --class all")
    from netgen.api import extract
    from netgen.capture.labels.label_file import LabelFile

    labels = None
    if options == {"by": "flow", "label_by": None}:
        labels = next((each for each in find_ground_truth(Path(what)) if is_ground_truth(each)), None)
    table = extract(what, spec_from=spec_from, labels=labels, **options)
    if labels is not None and not table.classes and LabelFile(labels).rows:
        raise InputError(
            f"{labels} lies beside {what}, but labels none of its flows",
            "Move it away if it is another capture's, or say where classes come from: --label-by folder",
        )
    return table
