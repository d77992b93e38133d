"""Charts as inline SVG, in the colours of the page, with unique ids."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from netgen.evaluation.report.series_labels import SeriesLabels

#: Okabe & Ito's colours: colour-blind readers can tell them apart, on white and on black.
REAL = "#0072b2"
SYNTHETIC = "#d55e00"
THIRD = "#009e73"

#: Stands for the colour of the page's text.
_INK = "#010203"

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "netgen",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "path.simplify_threshold": 0.5,
}


def svg(
    key: str, title: str, plot: Callable[[Any], None], *, columns: int = 1, size: tuple[float, float] = (4.6, 2.8)
) -> str:
    """Plot a chart and return it as an SVG element.

    `key` begins all ids inside, so that no two charts of a page share one; screen readers read `title`; `plot` plots on
    the axes it is given: one, or an array of `columns`.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with mpl.rc_context(_STYLE):
        figure, axes = pyplot.subplots(1, columns, figsize=size, layout="constrained")
        try:
            plot(axes)
            stream = io.StringIO()
            figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        finally:
            pyplot.close(figure)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(_INK, "currentColor")
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{key}-", text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _label(axes: Any, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend()


def series(axes: Any, real: np.ndarray, synthetic: np.ndarray, labels: SeriesLabels) -> None:
    """Plot the median of each side, and the band that holds 8 of 10 flows."""
    for values, colour, name in ((real, REAL, "real"), (synthetic, SYNTHETIC, "synthetic")):
        if len(values):
            low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
            axes.fill_between(labels.x, low, high, step="post", color=colour, alpha=0.25, linewidth=0)
            axes.step(labels.x, middle, where="post", color=colour, linewidth=1.3, label=name)
    axes.set_yscale("symlog", linthresh=100)
    _label(axes, labels.x_label, labels.y_label)


def cumulative(axes: Any, real: np.ndarray, synthetic: np.ndarray, label: str, *, log: bool = True) -> None:
    """Plot cumulative distributions."""
    for values, colour, name in ((real, REAL, "real"), (synthetic, SYNTHETIC, "synthetic")):
        if len(values):
            quantiles = np.linspace(0, 1, min(len(values), 200))
            axes.step(np.quantile(values, quantiles), quantiles, color=colour, linewidth=1.3, label=name)
    if log:
        from matplotlib.ticker import EngFormatter

        axes.set_xscale("log")  # a power of ten may be missing between close values: label them all
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.xaxis.set_minor_formatter(EngFormatter())
    _label(axes, label, "share of flows")


def lags(axes: Any, real: np.ndarray, synthetic: np.ndarray) -> None:
    """Plot autocorrelation by lag."""
    for values, colour, name in ((real, REAL, "real"), (synthetic, SYNTHETIC, "synthetic")):
        axes.plot(np.arange(1, len(values) + 1), values, color=colour, linewidth=1.3, label=name)
    axes.axhline(0, color=_INK, linewidth=0.5)
    _label(axes, "lag", "autocorrelation")


def fields(axes: Any, real: np.ndarray, synthetic: np.ndarray) -> None:
    """Plot Gramian angular fields side by side."""
    for axis, image, name in zip(axes, (real, synthetic), ("real", "synthetic"), strict=True):
        axis.imshow(image, cmap="viridis", vmin=-1, vmax=1, origin="upper")
        axis.set_title(name, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])


def confusions(axes: Any, tables: list[tuple[str, np.ndarray]], names: list[str]) -> None:
    """Plot confusion matrices side by side, as shares of each row."""
    for axis, (title, table) in zip(np.atleast_1d(axes), tables, strict=True):
        share = table / np.maximum(table.sum(1, keepdims=True), 1)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)
        named = len(names) <= 12
        short = [name if len(name) < 18 else name[:16] + "…" for name in names]
        axis.set_xticks(range(len(names)) if named else [], short if named else [], rotation=90, fontsize=7)
        axis.set_yticks(range(len(names)) if named else [], short if named else [], fontsize=7)
        axis.set_xlabel("predicted")


def cloud(axes: Any, real: np.ndarray, synthetic: np.ndarray) -> None:
    """Plot two clouds of points."""
    axes.scatter(*real.T, s=7, color=REAL, marker="o", alpha=0.6, linewidth=0, label="real")
    axes.scatter(*synthetic.T, s=9, color=SYNTHETIC, marker="x", alpha=0.6, linewidth=0.8, label="synthetic")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend()


def pair(axes: Any, flows: tuple[np.ndarray, np.ndarray], labels: SeriesLabels) -> None:
    """Plot a synthetic flow, and the training flow nearest to it."""
    synthetic, nearest = flows
    axes.step(labels.x, nearest, where="post", color=REAL, linewidth=2, label="nearest training flow")
    axes.step(labels.x, synthetic, where="post", color=SYNTHETIC, linewidth=1, label="synthetic")
    axes.set_yscale("symlog", linthresh=100)
    _label(axes, labels.x_label, labels.y_label)


def lines(axes: Any, curves: dict[str, tuple[np.ndarray, np.ndarray]], label: str, *, log: bool = False) -> None:
    """Plot curves over training steps."""
    for (name, (x, y)), colour in zip(curves.items(), (REAL, SYNTHETIC, THIRD), strict=False):
        axes.plot(x, y, color=colour, linewidth=1.3, label=name, marker="o" if len(x) < 20 else None, markersize=3)
    if log:
        axes.set_yscale("log")
    _label(axes, "step", label)
