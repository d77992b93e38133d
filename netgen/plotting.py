"""Plots of series: `plot_flows` for one table, `show` for real beside synthetic with Gramian angular fields."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from netgen.capture.errors import InputError, OutputError, TableError, did_you_mean
from netgen.capture.files import atomic_file, check_output
from netgen.capture.series.spec import BINS, SeriesSpec, format_duration
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.report.series_labels import SeriesLabels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from netgen.encoders.log_scale import LogScale

FORMATS = (".png", ".svg", ".pdf")
MAX_CLASSES = 4  # classes that are plotted by default
SAMPLES = 4  # flows of each class that are sampled from a model
COLOURS = {"up": "#b45f06", "down": "#1c4587"}
PathLike = str | os.PathLike[str]


def plot_flows(
    table: FlowTable,
    classes: str | Sequence[str] | None = None,
    n: int = 3,
    channel: str | None = None,
    ax: Axes | Sequence[Axes] | None = None,
) -> list[Axes]:
    """Plot the first flows of each class, one class above the other.

    Parameters
    ----------
    table : FlowTable
    classes : str or sequence of str, optional
        By default the first four of the table.
    n : int
        Number of flows of each class.
    channel : str, optional
        By default ``down_bytes``, or ``size`` for series of packets.
    ax : Axes or sequence of Axes, optional
        One for each class; by default a new figure.

    Returns
    -------
    list of Axes

    Raises
    ------
    InputError
        If the table has no such class or channel.
    """
    names = _choose([classes] if isinstance(classes, str) else classes, table.classes)
    index = table.spec.channels.index(_channel(channel, table.spec))
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(len(names), figsize=(8, 2 * len(names) + 0.4), sharex=True, layout="constrained")
    axes = list(np.atleast_1d(np.asarray(ax, dtype=object)))
    labels = SeriesLabels.of(table.spec)
    for axis, name in zip(axes, names, strict=True):
        for series in table.take(np.flatnonzero(table.labels == name)[:n]).series():
            axis.step(labels.x, series[index], where="post", linewidth=0.9)
        axis.set_title(name, fontsize=9)
        axis.set_ylabel(table.spec.channels[index], fontsize=8)
    axes[-1].set_xlabel(labels.x_label, fontsize=8)
    return axes


def show(
    files: Sequence[PathLike],
    out: PathLike,
    *,
    classes: Sequence[str] | None = None,
    channel: str | None = None,
    seed: int = 0,
    force: bool = False,
) -> Path:
    """Plot one flow of each class of each file: its series, and the Gramian angular field of one channel.

    `files` are one or two flow tables, or models, from which flows are sampled. `out` ends in ``.png``, ``.svg`` or
    ``.pdf``. By default `classes` are the first four that all files have, and `channel`, that of the field, is
    ``down_bytes``, or ``size`` for series of packets. `seed` picks the flows.
    """
    out = check_output(out, force=force)
    if out.suffix.lower() not in FORMATS:
        raise OutputError(f"a picture cannot be written to {out}", f"End the name in one of {', '.join(FORMATS)}")
    if len(files) > 2:
        raise InputError(f"{len(files)} files do not fit side by side", "Name one or two")
    tables = [_flows(file, classes, seed) for file in files]
    for other, name in zip(tables[1:], files[1:], strict=True):
        tables[0].spec.require_equal(other.spec, str(files[0]), str(name))
    common = [name for name in tables[0].classes if all(name in table.classes for table in tables)]
    if not common:
        raise TableError(f"{' and '.join(map(str, files))} have no class in common", "Label them alike")
    names, channel = _choose(classes, common), _channel(channel, tables[0].spec)

    from matplotlib.figure import Figure

    from netgen.encoders.log_scale import LogScale

    scale = LogScale.of(np.abs(np.concatenate([table.series() for table in tables])))
    figure = Figure(figsize=(5.4 * len(tables), 2.4 * len(names) + 0.4), layout="constrained")
    axes = figure.subplots(len(names), 2 * len(tables), squeeze=False, width_ratios=[1.6, 1] * len(tables))
    for row, name in enumerate(names):
        for column, table in enumerate(tables):
            rows = np.flatnonzero(table.labels == name)
            flow = table.take([int(np.random.default_rng([seed, row]).choice(rows))])
            origin = "synthetic" if flow.table["synthetic"][0].as_py() else "real"
            _plot_series(axes[row, 2 * column], flow, scale, f"{name}, {origin}")
            _plot_field(axes[row, 2 * column + 1], flow, scale, channel)
    with atomic_file(out) as temporary:
        figure.savefig(temporary, format=out.suffix[1:].lower(), dpi=130)
    return out


def _plot_series(axis: Any, flow: FlowTable, scale: LogScale, title: str) -> None:
    """Plot bytes up and down over time, or sizes of packets."""
    spec, series, labels = flow.spec, flow.series()[0], SeriesLabels.of(flow.spec)
    bins = spec.view == BINS
    curves = series[:2] if bins else np.stack([np.maximum(series[0], 0), np.minimum(series[0], 0)])
    for values, (direction, colour) in zip(curves, COLOURS.items(), strict=True):
        axis.step(labels.x, values, where="post", color=colour, linewidth=0.9, label=direction)
    top = max(float(scale.top[: 2 if bins else 1].max()), 1000) * 1.5
    axis.set_yscale("symlog", linthresh=100)
    axis.set_ylim(0 if bins else -top, top)
    axis.set_title(title, fontsize=9)
    axis.set_xlabel(labels.x_label, fontsize=7)
    axis.set_ylabel(f"IP bytes in {format_duration(spec.bin_ns)}" if bins else labels.y_label, fontsize=7)
    axis.tick_params(labelsize=6)
    axis.legend(fontsize=6, loc="upper right", frameon=False)


def _plot_field(axis: Any, flow: FlowTable, scale: LogScale, channel: str) -> None:
    """Plot the Gramian angular field of a channel."""
    from netgen.encoders.gasf import GasfEncoder

    labels, index = SeriesLabels.of(flow.spec), flow.spec.channels.index(channel)
    field = GasfEncoder().encode(scale.scale(np.abs(flow.series())))[0, index]
    end = labels.x[-1]
    axis.imshow(field, cmap="viridis", vmin=-1, vmax=1, origin="upper", extent=(0, end, end, 0))
    axis.set_title(f"GASF of {channel}{labels.unsigned}", fontsize=8)
    axis.tick_params(labelsize=6)


def _flows(file: PathLike, classes: Sequence[str] | None, seed: int) -> FlowTable:
    """Read a flow table, or sample from a model."""
    path = Path(file)
    if path.suffix == ".parquet":
        return FlowTable.read(path).labelled()
    if path.is_file() and path.suffix != ".safetensors":
        raise InputError(
            f"{path}: not a flow table (.parquet) or a model (.safetensors)",
            f"If it is a capture, make a flow table of it first: netgen extract {path}",
        )
    from netgen.model.registry import load

    model = load(file)
    return model.sample(list(classes) if classes else list(model.classes[:MAX_CLASSES]), SAMPLES, seed=seed)


def _channel(channel: str | None, spec: SeriesSpec) -> str:
    channel = channel or spec.channels[SeriesLabels.of(spec).channel]
    if channel not in spec.channels:
        hint = did_you_mean(channel, spec.channels) or f"Choose one of: {', '.join(spec.channels)}"
        raise InputError(f"there is no channel {channel!r}", hint)
    return channel


def _choose(wanted: Sequence[str] | None, classes: Sequence[str]) -> list[str]:
    """Find the wanted classes by their names or parts of these; by default take the first four."""
    from netgen.model.class_names import resolve_class

    return [resolve_class(name, classes, "the plot") for name in wanted] if wanted else list(classes[:MAX_CLASSES])
