"""Evaluation of files: flow tables of any origin, or captures, brought to equal series and compared."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from netgen import progress as bars
from netgen.api import TableOrPath, extract
from netgen.capture.errors import InputError
from netgen.capture.importers.foreign_tables import read_table
from netgen.capture.labels.label_file import LabelFile
from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.evaluate import Evaluation
from netgen.evaluation.evaluate import evaluate as run_evaluation
from netgen.exporters.pcap.ground_truth import find_ground_truth, is_ground_truth

if TYPE_CHECKING:
    from netgen import choices

#: Endings of files that hold flow tables; all others are captures, or folders of captures.
TABLE_SUFFIXES = (".parquet", ".csv")


def evaluate(
    real: TableOrPath,
    synthetic: TableOrPath,
    *,
    holdout: TableOrPath | None = None,
    seed: int = 0,
    group_by: choices.GroupBy = "flow",
    label_by: choices.LabelBy | None = None,
    progress: bool | Callable[[str, int, int], None] = True,
) -> Evaluation:
    """Measure how useful, how realistic and how private synthetic flows are.

    Parameters
    ----------
    real : FlowTable or path
        The flows that the synthetic ones were made from: a table, a Parquet or CSV file
        (`netgen.capture.importers.foreign_tables`), a capture, or a folder of captures.
    synthetic : FlowTable or path
        The synthetic flows.
    holdout : FlowTable or path, optional
        Real flows that no synthetic flow was made from. Without them the real flows are split by capture, and
        copies are harder to detect.
    seed : int
        Of all random choices.
    group_by, label_by
        How captures are read, as in `netgen.extract`. By default flows of a capture take their classes from the
        ground truth beside it, if there is one.
    progress : bool or callable
        True shows a bar in terminals and notebooks. A callable gets the present step, steps done, and steps in all.

    Returns
    -------
    Evaluation
        Its ``verdict``, its ``rows`` of metrics, and all of it by ``to_json()``.

    Raises
    ------
    NetgenError
        If a file cannot be read, series differ, or there are too few flows.
    """
    given = {"real": real, "synthetic": synthetic, "holdout": holdout}
    tables: dict[str, FlowTable] = {}
    spec: SeriesSpec | None = None
    # captures last: they are cut as the tables are
    for name, flows in sorted(given.items(), key=lambda item: _is_capture(item[1])):
        if flows is not None:
            tables[name] = _read(flows, spec, group_by, label_by)
            spec = spec or tables[name].spec
    with bars.reporting(progress, bars.steps_bar) as update:
        return run_evaluation(
            tables["real"], tables["synthetic"], holdout=tables.get("holdout"), seed=seed, progress=update
        )


def _is_capture(flows: TableOrPath | None) -> bool:
    return isinstance(flows, str | os.PathLike) and Path(flows).suffix.lower() not in TABLE_SUFFIXES


def _read(
    flows: TableOrPath, spec: SeriesSpec | None, group_by: choices.GroupBy, label_by: choices.LabelBy | None
) -> FlowTable:
    if isinstance(flows, FlowTable):
        return flows
    if not _is_capture(flows):
        return read_table(flows, spec_from=spec)
    if Path(flows).suffix == ".safetensors":
        raise InputError(
            f"{flows} is a model, not flows", f"Sample some first: netgen synth --model {flows} --class all"
        )
    labels = None
    if group_by == "flow" and label_by is None:
        labels = next((path for path in find_ground_truth(Path(flows)) if is_ground_truth(path)), None)
    table = extract(flows, spec_from=spec, labels=labels, group_by=group_by, label_by=label_by, progress=False)
    if labels is not None and not table.classes and LabelFile(labels).rows:
        raise InputError(
            f"{labels} lies beside {flows}, but labels none of its flows",
            "If it belongs to another capture, move it; or choose where classes come from: --label-by folder",
        )
    return table
