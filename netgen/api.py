"""The commands as functions: the same names, with underscores for dashes. A path does wherever a table does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netgen import progress as bars
from netgen.capture.errors import InputError
from netgen.capture.extract import Extraction, ExtractOptions
from netgen.capture.extract import extraction as read_captures
from netgen.capture.labels.options import parse_offset
from netgen.capture.series.spec import BINS, DEFAULT_LENGTH, SeriesSpec, parse_duration
from netgen.capture.table.flow_table import FlowTable

if TYPE_CHECKING:
    from netgen import choices

PathLike = str | os.PathLike[str]
TableOrPath = FlowTable | PathLike


def load(name: PathLike) -> Any:
    """Read a flow table or a model.

    Parameters
    ----------
    name : path or str
        A ``.parquet`` flow table, a ``.safetensors`` model, or the name of a bundled model.

    Returns
    -------
    FlowTable or Model
        Typed as ``Any``; `FlowTable.read` and `Model.load` have exact types.

    Raises
    ------
    TableError, ModelError
        If the file is neither, or does not exist.
    """
    if Path(name).suffix == ".parquet":
        return FlowTable.read(name)
    from netgen.model.registry import load as load_model

    return load_model(name)


def extract(
    paths: PathLike | Iterable[PathLike],
    *,
    label: str | None = None,
    label_by: choices.LabelBy | None = None,
    labels: PathLike | None = None,
    labels_zone: str = "UTC",
    labels_offset: str | float = 0,
    labels_time_format: str | None = None,
    labels_column: str | None = None,
    sni_table: PathLike | None = None,
    group_by: choices.GroupBy = "flow",
    bin_width: str | float = "auto",
    length: int | None = None,
    view: choices.View | None = None,
    spec_from: TableOrPath | SeriesSpec | None = None,
    min_packets: int = 1,
    idle_timeout: str | float = "120s",
    active_timeout: str | float | None = None,
    decapsulate: bool = False,
    name_sources: choices.NameSources = "tls",
    threads: int = 1,
    strict: bool = False,
    progress: bool | Callable[[int, int | None], None] = True,
) -> FlowTable:
    """Extract labelled flows from captures, in memory.

    Parameters
    ----------
    paths : path or iterable of paths
        Captures, and folders of captures.
    label : str, optional
        Class of every flow that no other rule labels.
    label_by : {"folder", "file", "sni"}, optional
        Label flows by the name of the folder or file, or by the server name.
    labels : path, optional
        Label file: the CSV of an IDS data set, or netgen's own. It wins over `label` and `label_by`.
    labels_zone : str
        Time zone of the label file: ``"UTC"``, ``"-03:00"``, ``"Europe/Berlin"``.
    labels_offset : str or float
        Added to times of the label file to match the capture: ``"2.5s"``, ``"-1h"``, or seconds.
    labels_time_format : str, optional
        Format of the times in the label file, as for `datetime.strptime`.
    labels_column : str, optional
        Column of the label file with the class.
    sni_table : path, optional
        CSV of suffix and class, which comes before the built-in table.
    group_by : {"flow", "host", "capture"}
        One row per flow, per initiating host, or per capture.
    bin_width : str or float
        Width of a bin: ``"0.25s"``, or seconds. ``"auto"`` fits 95 % of the flows.
    length : int, optional
        Number of bins or packets in a series, 128 by default.
    view : {"bins", "packets"}, optional
        Bytes and packets over time, or size and gap of the first packets.
    spec_from : FlowTable, SeriesSpec or path, optional
        Take view, bin width and length from this table, model or specification.
    min_packets : int
        Leave out flows with fewer packets.
    idle_timeout : str or float
        A silence longer than this ends a flow.
    active_timeout : str or float, optional
        A flow older than this ends, and a new one begins.
    decapsulate : bool
        Count the packet inside a tunnel (IP-in-IP, GRE, VXLAN, GTP-U) instead of the one around it.
    name_sources : {"tls", "all"}
        Protocols to read server names from; ``"all"`` adds QUIC and DNS.
    threads : int
        Number of threads that read. The flows do not depend on it.
    strict : bool
        Raise if a capture is damaged. Otherwise the readable packets are kept.
    progress : bool or callable
        True shows a bar in terminals and notebooks. A callable gets bytes done and bytes in all (None: unknown).

    Returns
    -------
    FlowTable
        Its metadata say what became of every packet:
        ``packets == in_flows + sum(skipped.values())``.

    Raises
    ------
    CaptureError
        If a file is not a capture, none is found, or `strict` and one is damaged.
    InputError
        If a parameter has a wrong value.

    See Also
    --------
    extraction : for a table that does not fit into memory.
    """
    return extraction(
        paths, label=label, label_by=label_by, labels=labels, labels_zone=labels_zone, labels_offset=labels_offset,
        labels_time_format=labels_time_format, labels_column=labels_column, sni_table=sni_table, group_by=group_by,
        bin_width=bin_width, length=length, view=view, spec_from=spec_from, min_packets=min_packets,
        idle_timeout=idle_timeout, active_timeout=active_timeout, decapsulate=decapsulate, name_sources=name_sources,
        threads=threads, strict=strict, progress=progress,
    ).table()  # fmt: skip


def extraction(
    paths: PathLike | Iterable[PathLike],
    *,
    label: str | None = None,
    label_by: choices.LabelBy | None = None,
    labels: PathLike | None = None,
    labels_zone: str = "UTC",
    labels_offset: str | float = 0,
    labels_time_format: str | None = None,
    labels_column: str | None = None,
    sni_table: PathLike | None = None,
    group_by: choices.GroupBy = "flow",
    bin_width: str | float = "auto",
    length: int | None = None,
    view: choices.View | None = None,
    spec_from: TableOrPath | SeriesSpec | None = None,
    min_packets: int = 1,
    idle_timeout: str | float = "120s",
    active_timeout: str | float | None = None,
    decapsulate: bool = False,
    name_sources: choices.NameSources = "tls",
    threads: int = 1,
    strict: bool = False,
    progress: bool | Callable[[int, int | None], None] = True,
) -> Extraction:
    """Read captures, to write a flow table that may be larger than memory.

    Takes what `extract` takes.

    Returns
    -------
    Extraction
        ``write("flows.parquet")`` writes the table block by block; ``table()`` returns it.
    """
    with bars.reporting(progress, bars.bytes_bar) as update:
        options = ExtractOptions(
            label=label, label_by=label_by, labels=labels, labels_zone=labels_zone,
            labels_offset_ns=parse_offset(labels_offset), labels_time_format=labels_time_format,
            labels_column=labels_column, sni_table=sni_table, group_by=group_by, min_packets=min_packets,
            idle_timeout_ns=parse_duration(idle_timeout),
            active_timeout_ns=None if active_timeout is None else parse_duration(active_timeout),
            decapsulate=decapsulate, name_sources=name_sources, threads=threads, strict=strict, progress=update,
            **_series_options(bin_width, length, view, spec_from),
        )  # fmt: skip
        return read_captures(paths, options)


def import_traces(
    path: PathLike,
    *,
    size_unit: choices.SizeUnit = "ip",
    split: str | Sequence[str] | None = None,
    label: str | None = None,
    relabel: Mapping[str, str] | None = None,
    bin_width: str | float = "auto",
    length: int | None = None,
    view: choices.View | None = None,
    spec_from: TableOrPath | SeriesSpec | None = None,
    min_packets: int = 1,
) -> FlowTable:
    """Import labelled traces that are not captures.

    Parameters
    ----------
    path : path
        Parquet with the columns ``label``, ``t_us``, ``signed_bytes``, or CSV with ``time``, ``size``, ``direction``
        (`netgen.capture.importers.traces`).
    size_unit : {"ip", "frame", "payload"}
        What the sizes count. 14 bytes are subtracted from frames, 40 added to payloads.
    split : str or sequence of str, optional
        Import the rows of these splits only.
    label : str, optional
        Class of all traces, instead of the file's.
    relabel : mapping, optional
        New names of classes: ``{"youtube-480": "youtube"}``.
    bin_width, length, view, spec_from, min_packets
        As in `extract`.

    Returns
    -------
    FlowTable

    Raises
    ------
    TableError
        If the file holds no traces, or none is left.
    """
    from netgen.capture.importers.traces import import_traces as run  # loads modules that extract does not need

    return run(
        path, size_unit=size_unit, split=split, label=label, relabel=relabel, min_packets=min_packets,
        **_series_options(bin_width, length, view, spec_from),
    )  # fmt: skip


def read_spec(source: TableOrPath | SeriesSpec) -> SeriesSpec:
    """Return the series specification of a table, a flow table's file, a model's file, or a bundled model."""
    if isinstance(source, SeriesSpec):
        return source
    if isinstance(source, FlowTable):
        return source.spec
    if Path(source).suffix == ".parquet":
        return FlowTable.read(source, rows=False).spec
    from netgen.model.file import read_model_metadata
    from netgen.model.registry import find_model

    return SeriesSpec.from_json(read_model_metadata(find_model(source))["series"])


def _series_options(
    bin_width: str | float, length: int | None, view: str | None, spec_from: TableOrPath | SeriesSpec | None
) -> dict[str, Any]:
    """Turn the parameters of a series into those of `netgen.capture`."""
    if spec_from is None:
        width = None if bin_width == "auto" else parse_duration(bin_width)
        return {"bin_ns": width, "length": DEFAULT_LENGTH if length is None else length, "view": view or BINS}
    if bin_width != "auto" or length is not None or view is not None:
        raise InputError(
            "--spec-from already sets view, bin width and length", "Leave out --view, --bin-width and --length"
        )
    return {"spec": read_spec(spec_from)}
