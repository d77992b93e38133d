"""What the report shows: the verdict, all figures, each class, confusion, a map, the nearest pairs."""

from __future__ import annotations

import json
import os
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from netgen._version import __version__
from netgen.capture.errors import InputError
from netgen.capture.files import atomic_file, check_output
from netgen.encoders.gasf import GasfEncoder
from netgen.encoders.log_scale import LogScale
from netgen.evaluation import distances, privacy
from netgen.evaluation.estimate import Estimate
from netgen.evaluation.evaluate import Evaluation, class_table
from netgen.evaluation.feature_spaces import FixedEncoder, LogSpace
from netgen.evaluation.metrics import GROUPS
from netgen.evaluation.report import charts
from netgen.evaluation.report.page import figure, page, table
from netgen.evaluation.report.series_labels import SeriesLabels
from netgen.evaluation.split import FlowSet
from netgen.evaluation.usefulness import confusion
from netgen.evaluation.verdict import THRESHOLDS

#: Classes that are drawn; flows of a side on the map; pairs shown.
DRAWN, ON_MAP, PAIRS = 12, 500, 4

_BETTER = {"high": "higher", "low": "lower", "half": "near 0.5"}


def write_report(
    evaluation: Evaluation,
    out: str | os.PathLike[str],
    *,
    names: dict[str, str] | None = None,
    training: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Path:
    """Write an evaluation as one HTML file that needs no network.

    Parameters
    ----------
    evaluation : Evaluation
        What to show.
    out : path
        ``.html``.
    names : dict, optional
        What the tables are called: ``real``, ``synth``, ``holdout``.
    training : path, optional
        ``NAME.metrics.jsonl`` of `netgen.train`, to be plotted.
    force : bool
        Replace `out` if it exists.

    Returns
    -------
    Path
        `out`.
    """
    out = check_output(out, force=force)
    if out.suffix.lower() != ".html":
        raise InputError(f"a report cannot be written to {out}", "Name it NAME.html")
    sections = [
        ("verdict", "Verdict", _verdict(evaluation, names or {})),
        ("figures", "All figures", _figures(evaluation)),
        ("classes", "Class by class", _classes(evaluation)),
    ]
    if evaluation.said:
        sections.append(("confusion", "What is taken for what", _confusion(evaluation)))
    sections += [("map", "Map of the flows", _map(evaluation)), ("nearest", "Nearest pairs", _nearest(evaluation))]
    if training is not None:
        sections.append(("training", "Training", _training(Path(training))))
    text = page("Synthetic flows, evaluated", sections, f"netgen {__version__}, seed {evaluation.seed}")
    with atomic_file(out) as temporary:
        temporary.write_text(text, "utf-8")
    return out


def _verdict(evaluation: Evaluation, names: dict[str, str]) -> str:
    found, sets = evaluation.verdict, evaluation.sets
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in found.reasons)
    rows = [
        ("real", names.get("real"), len(sets.train)),
        ("held-back real", names.get("holdout", "part of the real flows"), len(sets.held)),
        ("synthetic", names.get("synth"), len(sets.synth)),
    ]
    limits = table(("threshold", "value"), list(THRESHOLDS.items()), "Thresholds of the verdict")
    return (
        f'<p class="verdict {found.share}">{escape(found.text[:1].upper() + found.text[1:])}.</p><ul>{reasons}</ul>'
        + table(("flows", "from", "number"), rows, "What was compared")
        + f"<p>{escape(str(evaluation.spec))}</p><details><summary>Thresholds</summary>{limits}</details>"
    )


def _figures(evaluation: Evaluation) -> str:
    parts = []
    for group, question in GROUPS.items():
        rows = [
            (row.measure.title, _value(row.synth), *map(_bare, (row.floor, row.shuffled, row.resample)),
             _BETTER[row.measure.better], row.measure.text)
            for row in evaluation.rows.values() if row.measure.group == group
        ]  # fmt: skip
        headings = ("figure", "synthetic", "floor", "shuffled", "copycat", "better", "how to read it")
        parts.append(f"<h3>{escape(question)}</h3>" + table(headings, rows, question))
    text = (
        "In brackets the 95 % interval. Floor: real flows in place of the synthetic ones. Shuffled: real flows with "
        "their bins in random order. Copycat: training flows handed out as new."
    )
    return f"<p>{text}</p>" + "".join(parts)


def _value(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _bare(found: Estimate | None) -> str:
    return "–" if found is None else f"{found.value:.3f}"


def _of(flows: FlowSet, name: str) -> np.ndarray:
    chosen: np.ndarray = flows.series[flows.labels == name]
    return chosen


def _classes(evaluation: Evaluation) -> str:
    sets = evaluation.sets
    rows = class_table(evaluation)
    headings = ["class", "real", "held back", "synthetic"]
    headings += [f"F1 {side}" for side in evaluation.said.get("forest", {})]
    text = table(headings, [[row.pop("class") or "all", *row.values()] for row in rows], "Classes")
    names = sorted(sets.mixture, key=lambda name: (-sets.mixture[name], name))
    if len(names) > DRAWN:
        text += f"<p>Of {len(names)} classes the {DRAWN} with the most held-back flows are drawn.</p>"
    space = LogSpace.of(np.concatenate([sets.train.series, sets.held.series]))
    scale = LogScale.of(np.abs(np.concatenate([sets.train.series, sets.held.series])))
    for number, name in enumerate(names[:DRAWN]):
        real, synth = _of(sets.held, name), _of(sets.synth, name)
        text += f"<h3>{escape(name) or 'All flows'}</h3>"
        if not len(synth):
            text += "<p>There are no synthetic flows of this class.</p>"
            continue
        text += f'<div class="charts">{_class_charts(evaluation, f"c{number}", name, real, synth, space, scale)}</div>'
    return text


def _class_charts(
    evaluation: Evaluation, key: str, name: str, real: np.ndarray, synth: np.ndarray, space: LogSpace, scale: LogScale
) -> str:
    title = escape(name, quote=True)
    shown = SeriesLabels.of(evaluation.spec)
    drawn = [shown.of_flows(each) for each in (real, synth)]
    medians = [np.median(each, axis=0) for each in drawn]
    totals = [shown.totals(each) for each in (real, synth)]
    lags = [distances.autocorrelation(space(each))[shown.channel] for each in (real, synth)]
    # a typical flow: the one with the median of bytes
    typical = [
        each[np.argsort(total)[len(total) // 2]][None] for each, total in zip((real, synth), totals, strict=True)
    ]
    images = [GasfEncoder().encode(scale.scale(np.abs(each)))[0, shown.channel] for each in typical]
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    size = (4.6, 2.4)
    return "".join(
        [
            figure(
                charts.svg(f"{key}s", f"Series of {title}", lambda axes: charts.series(axes, drawn[0], drawn[1], shown)),
                f"{shown.said}, real beside synthetic: the median of all flows, and the band that holds 8 of 10. "
                "The bands should lie on one another.",
                table((shown.place, "real median", "synthetic median"),
                      zip(shown.places.tolist(), *(each.tolist() for each in medians), strict=True), f"Medians by {shown.place}"),
            ),
            figure(
                charts.svg(f"{key}t", f"Distribution of totals of {title}",
                           lambda axes: charts.cumulative(axes, totals[0], totals[1], shown.total)),
                f"The share of flows by their total ({shown.total}). The curves should meet.",
                table(("share", "real", "synthetic"),
                      [(share, *(float(np.quantile(each, share)) for each in totals)) for share in shares], "Quantiles"),
            ),
            figure(
                charts.svg(f"{key}a", f"Autocorrelation of {title}", lambda axes: charts.lags(axes, *lags)),
                "How alike places are that lie so far apart: the rhythm of the flows. The curves should meet.",
                table(("lag", "real", "synthetic"),
                      zip(range(1, len(lags[0]) + 1), *(each.tolist() for each in lags), strict=True), "By lag"),
            ),
            figure(
                charts.svg(f"{key}g", f"Gramian angular fields of {title}",
                           lambda axes: charts.fields(axes, *images), columns=2, size=size),
                f"Gramian angular field of a typical real and a typical synthetic flow, {shown.across} from the upper "
                f"left: {shown.dark}. Look for textures that only one of them has.",
                table(("pixel", "real", "synthetic"),
                      [(what, *(float(how(each)) for each in images))
                       for what, how in (("mean", np.mean), ("lowest", np.min), ("highest", np.max))], "Pixels"),
            ),
        ]
    )  # fmt: skip


def _confusion(evaluation: Evaluation) -> str:
    truth, said = evaluation.sets.held.labels, evaluation.said["forest"]
    every = sorted({*truth.tolist(), *(label for each in said.values() for label in each.tolist())})
    tables = []
    for side, title in (("real", "trained on real"), ("synth", "trained on synthetic")):
        names, counts = confusion(truth, said[side])
        whole = np.zeros((len(every), len(every)), np.int64)
        place = np.searchsorted(every, names)
        whole[np.ix_(place, place)] = counts
        tables.append((title, whole))
    rows = [
        (every[a], every[b], *(int(each[a, b]) for _, each in tables))
        for a in range(len(every)) for b in range(len(every)) if any(each[a, b] for _, each in tables)
    ]  # fmt: skip
    rows.sort(key=lambda row: -max(row[2:]))
    chart = charts.svg(
        "confusion", "Confusion matrices", lambda axes: charts.confusions(axes, tables, every), columns=2, size=(9, 5)
    )
    return figure(
        chart,
        "What a random forest says of the held-back flows, trained on real and on synthetic flows: rows are true classes, "
        "dark is a large share of the row. Both should be dark on the diagonal only.",
        table(("class", "said to be", "trained on real", "on synthetic"), rows[:200], "Confusion"),
    )


def _map(evaluation: Evaluation) -> str:
    from sklearn.decomposition import PCA

    sets = evaluation.sets
    space = LogSpace.of(np.concatenate([sets.train.series, sets.held.series]))
    encoder = FixedEncoder(space(sets.held.series))
    generator = np.random.default_rng(evaluation.seed)
    sides = [encoder(space(each.series[generator.permutation(len(each))[:ON_MAP]])) for each in (sets.held, sets.synth)]
    axes = PCA(2, random_state=0).fit(sides[0])
    real, synth = (axes.transform(each) for each in sides)
    rows = [
        (name, *(float(how(each[:, axis])) for axis in (0, 1) for how in (np.mean, np.std)))
        for name, each in (("real", real), ("synthetic", synth))
    ]
    return figure(
        charts.svg("map", "Map of real and synthetic flows", lambda a: charts.cloud(a, real, synth), size=(7, 4.5)),
        "Flows by the two directions in which the held-back real ones vary most, of the features of a fixed encoder. "
        "Crosses should lie where dots lie, and dots should not be left alone.",
        table(("flows", "first, mean", "spread", "second, mean", "spread"), rows, "Where they lie"),
    )


def _nearest(evaluation: Evaluation) -> str:
    sets = evaluation.sets
    space = LogSpace.of(np.concatenate([sets.train.series, sets.held.series]))
    train = space(sets.train.series)
    found, unseen = privacy.nearest(space(sets.synth.series), train), privacy.nearest(space(sets.held.series), train)
    shown = SeriesLabels.of(evaluation.spec)
    limit = float(np.quantile(unseen.forth, 0.01, method="higher"))
    shares = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
    rows = [(share, *(float(np.quantile(each.forth, share)) for each in (unseen, found))) for share in shares]
    parts = [
        figure(
            charts.svg("near", "Distances to the nearest training flow",
                       lambda a: charts.cumulative(a, unseen.forth, found.forth, "distance to the nearest training flow", log=False)),
            "How near held-back real flows and synthetic ones lie to the nearest training flow. A synthetic curve far to the "
            "left of the real one speaks of copies.",
            table(("share", "held-back real", "synthetic"), rows, "Quantiles of the distances"),
        )
    ]  # fmt: skip
    for place, row in enumerate(np.argsort(found.forth, kind="stable")[:PAIRS].tolist()):
        ours, theirs = sets.synth.series[row, shown.channel], sets.train.series[found.which[row], shown.channel]
        busy = np.flatnonzero((ours != 0) | (theirs != 0)).tolist()
        parts.append(
            figure(
                charts.svg(f"p{place}", f"Nearest pair {place + 1}", lambda a, x=ours, y=theirs: charts.pair(a, x, y, shown)),  # type: ignore[misc]
                f"The synthetic flow that is {_ORDER[place]} to a training flow: distance {found.forth[row]:.3f}. One in a "
                f"hundred unseen real flows lies within {limit:.3f}.",
                table((shown.place, "synthetic", "training"),
                      [(float(shown.places[each]), int(ours[each]), int(theirs[each])) for each in busy], shown.said),
            )
        )  # fmt: skip
    return f'<div class="charts">{"".join(parts)}</div>'


_ORDER = ("nearest", "second nearest", "third nearest", "fourth nearest")


def _training(path: Path) -> str:
    """Loss over steps, and what was checked as it went."""
    try:
        lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} is no log of a training: {error}", "Name the NAME.metrics.jsonl that train wrote"
        ) from error
    steps = [line for line in lines if "error" in line and "step" in line]
    if not steps:
        raise InputError(
            f"{path} is no log of a training: it has no steps", "Name the NAME.metrics.jsonl that train wrote"
        )
    x, y = (np.array([line[name] for line in steps]) for name in ("step", "error"))
    few = steps[:: max(1, len(steps) // 50)]
    text = figure(
        charts.svg(
            "loss",
            "Loss over training steps",
            lambda a: charts.lines(a, {"loss": (x, y)}, "loss", log=True),
            size=(7, 3),
        ),
        "Mean squared error of the clean images over their variance: 1 is a guess.",
        table(("step", "loss"), [(line["step"], float(line["error"])) for line in few], "Loss by step"),
    )
    checks = [line for line in lines if line.get("check")]
    if not checks:
        return text
    at = np.array([line["step"] for line in checks])
    names = {
        "macro F1, drawn flows": "macro_f1",
        "macro F1, real flows": "real_macro_f1",
        "closest-record share": "closest_share",
    }
    curves = {name: (at, np.array([line[key] for line in checks])) for name, key in names.items()}
    rows = [(line["step"], *(float(line[key]) for key in names.values())) for line in checks]
    return text + figure(
        charts.svg("checks", "Checks while training", lambda a: charts.lines(a, curves, "share"), size=(7, 3)),
        "What was checked on held-back flows as the training went: how well a random forest that learnt from drawn flows, or "
        "from as many real ones, classifies them; and the share of drawn flows nearer to a flow that was learnt from than "
        "to a held-back one, which should stay near 0.5.",
        table(("step", *names), rows, "Checks by step"),
    )
