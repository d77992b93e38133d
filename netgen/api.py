"""The commands as functions: one a command, the same words."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from netgen.capture.errors import InputError
from netgen.capture.extract import extraction as run_extraction
from netgen.capture.extraction import Extraction
from netgen.capture.labels.labeller import parse_offset
from netgen.capture.series.spec import BINS, DEFAULT_LENGTH, SeriesSpec, parse_duration
from netgen.capture.table.flow_table import FlowTable

PathLike = str | os.PathLike[str]


def spec_from(path: PathLike) -> SeriesSpec:
    """The series of a flow table or model, or of the shipped model of that name.

    Raises
    ------
    TableError, ModelError
        If it is none of these.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        return FlowTable.read(path).spec
    from netgen.model.model import read_model_metadata
    from netgen.model.registry import find_model

    return SeriesSpec.from_json(read_model_metadata(find_model(path))["series"])


def extract(paths: PathLike | Iterable[PathLike], **options: Any) -> FlowTable:
    """Captures into a table of labelled flows, in memory.

    Takes what `extraction` takes. A table larger than memory can be written as it is made:
    ``netgen.extraction(...).write("flows.parquet")``.

    Returns
    -------
    FlowTable
    """
    return extraction(paths, **options).table()


def extraction(
    paths: PathLike | Iterable[PathLike],
    *,
    bin: str | float = "auto",
    length: int | None = None,
    view: str | None = None,
    spec_from: PathLike | SeriesSpec | FlowTable | None = None,
    idle_timeout: str | float = "120s",
    active_timeout: str | float | None = None,
    labels_offset: str | float = 0,
    jobs: int = 1,
    **options: Any,
) -> Extraction:
    """Captures into labelled flows, to be written or to be had as a table.

    Parameters
    ----------
    paths : path or iterable of paths
        Capture files, and folders of them.
    bin : str or float
        Width of a bin, ``"0.25s"`` or seconds; ``"auto"``: the 95th percentile of durations fits.
    length : int, optional
        Bins or packets of a series, 128 if not given.
    kind : {"bins", "packets"}, optional
        What a series is of: equal bins in time, if not given, or the first packets, each by its size and gap.
    like : path, SeriesSpec or FlowTable, optional
        Cut series like these instead.
    idle_timeout : str or float
        A flow that is silent for longer ends.
    active_timeout : str or float, optional
        A flow that lasts longer ends, and begins anew.
    labels_offset : str or float
        Added to the times of the labels file to get the capture's: ``"2.5s"``, ``"-1h"`` or seconds.
    jobs : int
        Threads and processes that read; the flows are the same for any number.
    **options
        ``by``, ``label``, ``label_by``, ``labels``, ``labels_zone``, ``labels_times``,
        ``labels_column``, ``sni_table``, ``min_packets``, ``inner``, ``names``, ``strict``, ``progress``: see
        `netgen.capture.extract.extraction`.

    Returns
    -------
    Extraction
        Its ``table()`` is a `FlowTable`; its ``write(path)`` needs no memory for the series.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    return run_extraction(
        given,
        idle_timeout_ns=parse_duration(idle_timeout),
        active_timeout_ns=None if active_timeout is None else parse_duration(active_timeout),
        workers=jobs,
        labels_offset_ns=parse_offset(labels_offset),
        **_series(bin, length, view, spec_from),
        **options,
    )


def import_traces(
    path: PathLike,
    *,
    bin: str | float = "auto",
    length: int | None = None,
    view: str | None = None,
    spec_from: PathLike | SeriesSpec | FlowTable | None = None,
    **options: Any,
) -> FlowTable:
    """Labelled traces that are not captures into a flow table.

    `bin`, `length`, `view` and `spec_from` as in `extract`; ``sizes``, ``split``, ``label``, ``relabel`` and
    ``min_packets``: see `netgen.capture.importers.traces.import_traces`.
    """
    from netgen.capture.importers.traces import import_traces as run_import  # loads much that extract does not need

    return run_import(path, **_series(bin, length, view, spec_from), **options)


def _series(
    bin: str | float, length: int | None, view: str | None, spec_from: PathLike | SeriesSpec | FlowTable | None
) -> dict[str, Any]:
    if spec_from is not None:
        if bin != "auto" or length is not None or view is not None:
            raise InputError("--like gives kind, bin width and length already", "Leave --kind, --bin and --length out")
        if isinstance(spec_from, FlowTable):
            return {"spec": spec_from.spec}
        return {"spec": spec_from if isinstance(spec_from, SeriesSpec) else spec_from(spec_from)}
    number = DEFAULT_LENGTH if length is None else length
    width = None if bin == "auto" else parse_duration(bin)
    return {"bin_ns": width, "length": number, "kind": BINS if view is None else view}
