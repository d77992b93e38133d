"""A picture of series and their Gramian angular fields, real beside synthetic."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from netgen.capture.errors import InputError, OutputError, TableError
from netgen.capture.files import check_output, whole_file
from netgen.capture.series.spec import BINS, format_duration
from netgen.capture.table.flow_table import FlowTable
from netgen.encoders.gasf import GasfEncoder
from netgen.encoders.log_scale import LogScale
from netgen.evaluation.report.series_labels import SeriesLabels
from netgen.model.model import match_classes
from netgen.model.registry import load

FORMATS = (".png", ".svg", ".pdf")
MOST_CLASSES = 4


def show(
    files: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    channel: str | None = None,
    seed: int = 0,
    force: bool = False,
) -> Path:
    """Draw one flow a class of each file: its series, and the field of one channel.

    Parameters
    ----------
    files : sequence of paths
        Flow tables, or models, from which flows are drawn.
    out : path
        ``.png``, ``.svg`` or ``.pdf``.
    classes : sequence of str, optional
        Otherwise the first four that all files have.
    channel : str
        The channel whose field is shown; otherwise ``down_bytes``, or ``size``.

    Returns
    -------
    Path
        `out`.
    """
    out = check_output(out, force=force)
    if out.suffix.lower() not in FORMATS:
        raise OutputError(f"a picture cannot be written to {out}", f"End it in one of {', '.join(FORMATS)}")
    if len(files) > 2:
        raise InputError(f"{len(files)} files cannot be shown side by side", "Name one or two")
    tables = [_flows(file, classes, seed) for file in files]
    for other, name in zip(tables[1:], files[1:], strict=True):
        tables[0].spec.require_equal(other.spec, str(files[0]), str(name))
    spec = tables[0].spec
    channel = channel or spec.channels[SeriesLabels.of(spec).channel]
    if channel not in spec.channels:
        raise InputError(f"there is no channel {channel!r}", f"Take one of: {', '.join(spec.channels)}")
    common = [name for name in tables[0].classes if all(name in table.classes for table in tables)]
    wanted = [_one(name, common) for name in classes] if classes else common[:MOST_CLASSES]
    if not wanted:
        raise TableError(f"{' and '.join(map(str, files))} have no class in common", "Label them alike")

    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    scale = LogScale.of(np.abs(np.concatenate([table.series() for table in tables])))
    place = spec.channels.index(channel)
    shown = SeriesLabels.of(spec)
    places = shown.places
    both = (("up", "#b45f06"), ("down", "#1c4587"))
    figure, axes = pyplot.subplots(
        len(wanted), 2 * len(tables), figsize=(5.4 * len(tables), 2.4 * len(wanted) + 0.4), squeeze=False,
        layout="constrained", width_ratios=[1.6, 1] * len(tables),
    )  # fmt: skip
    try:
        for row, name in enumerate(wanted):
            for column, table in enumerate(tables):
                mine = np.flatnonzero(table.labels == name)
                flow = table.take([int(np.random.default_rng([seed, row]).choice(mine))])
                series = flow.series()
                view = "synthetic" if flow.table["synthetic"][0].as_py() else "real"
                left, right = axes[row, 2 * column], axes[row, 2 * column + 1]
                size = series[0, 0]
                curves = series[0, :2] if spec.view == BINS else np.stack([np.maximum(size, 0), np.minimum(size, 0)])
                for values, (word, colour) in zip(curves, both, strict=True):
                    left.step(places, values, where="post", color=colour, linewidth=0.9, label=word)
                left.set_yscale("symlog", linthresh=100)
                most = max(float(scale.top[: 2 if spec.view == BINS else 1].max()), 1000) * 1.5
                left.set_ylim(0 if spec.view == BINS else -most, most)
                left.set_title(f"{name}, {view}", fontsize=9)
                left.set_xlabel(shown.across, fontsize=7)
                bins = f"IP bytes in {format_duration(spec.bin_ns)}" if spec.view == BINS else shown.value
                left.set_ylabel(bins, fontsize=7)
                left.tick_params(labelsize=6)
                left.legend(fontsize=6, loc="upper right", frameon=False)
                field = GasfEncoder().encode(scale.scale(np.abs(series)))[0, place]
                right.imshow(
                    field, cmap="viridis", vmin=-1, vmax=1, origin="upper", extent=(0, places[-1], places[-1], 0)
                )
                right.set_title(f"GASF of {channel}{shown.unsigned}", fontsize=8)
                right.tick_params(labelsize=6)
        with whole_file(out) as temporary:
            figure.savefig(temporary, format=out.suffix[1:].lower(), dpi=130)
    finally:
        pyplot.close(figure)
    return out


def _flows(file: str | os.PathLike[str], classes: Sequence[str] | None, seed: int) -> FlowTable:
    if Path(file).suffix == ".parquet":
        return FlowTable.read(file).labelled()
    model = load(file)
    return model.sample(list(classes) if classes else list(model.classes[:MOST_CLASSES]), 4, seed=seed)


def _one(name: str, classes: Sequence[str]) -> str:
    found = match_classes(name, classes)
    if len(found) != 1:
        raise InputError(f"there is no one class {name!r} in all files", f"They have: {', '.join(classes)}")
    return found[0]
