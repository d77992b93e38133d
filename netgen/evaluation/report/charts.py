"""Charts by matplotlib as SVG that stands inside a page: in its colours, with names of its own."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from netgen.evaluation.report.series_labels import SeriesLabels

#: Okabe & Ito's colours, told apart by the colour-blind, on white and on black.
REAL, SYNTH, THIRD = "#0072b2", "#d55e00", "#009e73"

#: What is drawn in this colour takes that of the page's text.
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
    key: str, title: str, draw: Callable[[Any], None], *, columns: int = 1, size: tuple[float, float] = (4.6, 2.8)
) -> str:
    """A chart as an SVG element.

    Parameters
    ----------
    key : str
        Goes before all names inside, so that no two charts of a page share one.
    title : str
        What a screen reader says of it.
    draw : callable
        Draws on the axes it is given: one, or an array of `columns`.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with mpl.rc_context(_STYLE):
        figure, axes = pyplot.subplots(1, columns, figsize=size, layout="constrained")
        try:
            draw(axes)
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


def series(axes: Any, real: np.ndarray, synth: np.ndarray, shown: SeriesLabels) -> None:
    """What is shown of each side: the median, and where 8 of 10 flows lie."""
    for values, colour, name in ((real, REAL, "real"), (synth, SYNTH, "synthetic")):
        if len(values):
            low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
            axes.fill_between(shown.places, low, high, step="post", color=colour, alpha=0.25, linewidth=0)
            axes.step(shown.places, middle, where="post", color=colour, linewidth=1.3, label=name)
    axes.set_yscale("symlog", linthresh=100)
    axes.set_xlabel(shown.across)
    axes.set_ylabel(shown.value)
    axes.legend()


def cumulative(axes: Any, real: np.ndarray, synth: np.ndarray, what: str, *, log: bool = True) -> None:
    """The share of flows with at most so much."""
    for values, colour, name in ((real, REAL, "real"), (synth, SYNTH, "synthetic")):
        if len(values):
            quantiles = np.linspace(0, 1, min(len(values), 200))
            axes.step(np.quantile(values, quantiles), quantiles, color=colour, linewidth=1.3, label=name)
    if log:
        axes.set_xscale("symlog", linthresh=100)
    axes.set_xlabel(what)
    axes.set_ylabel("share of flows")
    axes.legend()


def lags(axes: Any, real: np.ndarray, synth: np.ndarray) -> None:
    """Autocorrelation by lag."""
    for values, colour, name in ((real, REAL, "real"), (synth, SYNTH, "synthetic")):
        axes.plot(np.arange(1, len(values) + 1), values, color=colour, linewidth=1.3, label=name)
    axes.axhline(0, color=_INK, linewidth=0.5)
    axes.set_xlabel("lag")
    axes.set_ylabel("autocorrelation")
    axes.legend()


def fields(axes: Any, real: np.ndarray, synth: np.ndarray) -> None:
    """Gramian angular fields side by side."""
    for axis, image, name in zip(axes, (real, synth), ("real", "synthetic"), strict=True):
        axis.imshow(image, cmap="viridis", vmin=-1, vmax=1, origin="upper")
        axis.set_title(name, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])


def confusions(axes: Any, tables: list[tuple[str, np.ndarray]], names: list[str]) -> None:
    """Shares of each class said to be of each, side by side."""
    for axis, (title, table) in zip(np.atleast_1d(axes), tables, strict=True):
        share = table / np.maximum(table.sum(1, keepdims=True), 1)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axis.set_title(title, fontsize=9)
        few = len(names) <= 12
        short = [name if len(name) < 18 else name[:16] + "…" for name in names]
        axis.set_xticks(range(len(names)) if few else [], short if few else [], rotation=90, fontsize=7)
        axis.set_yticks(range(len(names)) if few else [], short if few else [], fontsize=7)
        axis.set_xlabel("said to be")


def cloud(axes: Any, real: np.ndarray, synth: np.ndarray) -> None:
    """Two clouds of points."""
    axes.scatter(*real.T, s=7, color=REAL, marker="o", alpha=0.6, linewidth=0, label="real")
    axes.scatter(*synth.T, s=9, color=SYNTH, marker="x", alpha=0.6, linewidth=0.8, label="synthetic")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend()


def pair(axes: Any, synth: np.ndarray, near: np.ndarray, shown: SeriesLabels) -> None:
    """A synthetic flow, and the training flow nearest to it."""
    axes.step(shown.places, near, where="post", color=REAL, linewidth=2, label="nearest training flow")
    axes.step(shown.places, synth, where="post", color=SYNTH, linewidth=1, label="synthetic")
    axes.set_yscale("symlog", linthresh=100)
    axes.set_xlabel(shown.across)
    axes.set_ylabel(shown.value)
    axes.legend()


def lines(axes: Any, curves: dict[str, tuple[np.ndarray, np.ndarray]], what: str, *, log: bool = False) -> None:
    """Curves over training steps."""
    for (name, (x, y)), colour in zip(curves.items(), (REAL, SYNTH, THIRD), strict=False):
        axes.plot(x, y, color=colour, linewidth=1.3, label=name, marker="o" if len(x) < 20 else None, markersize=3)
    if log:
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel(what)
    axes.legend()
