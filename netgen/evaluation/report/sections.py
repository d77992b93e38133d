"""The sections of the report: verdict, metrics, classes, confusion, map, nearest pairs, training."""

from __future__ import annotations

import json
import os
from functools import partial
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
from netgen.evaluation.verdict import THRESHOLDS

MAX_CLASSES = 12  # classes with charts
MAX_MAP_POINTS = 500  # flows of a side on the map
N_PAIRS = 4  # nearest pairs that are plotted

_BETTER = {"high": "higher", "low": "lower", "half": "near 0.5"}
_ORDINALS = ("nearest", "second nearest", "third nearest", "fourth nearest")


def write_report(
    evaluation: Evaluation,
    out: str | os.PathLike[str],
    *,
    names: dict[str, str] | None = None,
    training: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Path:
    """Write an evaluation as one HTML file that needs no network.

    `names` are those of the tables, by ``real``, ``synthetic`` and ``holdout``; `training` is the log of
    `netgen.train`, ``NAME.metrics.jsonl``, to be plotted.
    """
    out = check_output(out, force=force)
    if out.suffix.lower() != ".html":
        raise InputError(f"a report cannot be written to {out}", "Name it NAME.html")
    sections = [
        ("verdict", "Verdict", _verdict(evaluation, names or {})),
        ("metrics", "All metrics", _metrics(evaluation)),
        ("classes", "Class by class", _classes(evaluation)),
    ]
    if evaluation.predictions:
        sections.append(("confusion", "Confusion between classes", _confusion(evaluation)))
    sections += [("map", "Map of the flows", _map(evaluation)), ("nearest", "Nearest pairs", _nearest(evaluation))]
    if training is not None:
        sections.append(("training", "Training", _training(Path(training))))
    text = page("Evaluation of synthetic flows", sections, f"netgen {__version__}, seed {evaluation.seed}")
    with atomic_file(out) as temporary:
        temporary.write_text(text, "utf-8")
    return out


def _verdict(evaluation: Evaluation, names: dict[str, str]) -> str:
    verdict, split = evaluation.verdict, evaluation.split
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in verdict.reasons)
    rows = [
        ("real", names.get("real"), len(split.train)),
        ("held-out real", names.get("holdout", "half of the real flows"), len(split.held_out)),
        ("synthetic", names.get("synthetic"), len(split.synthetic)),
    ]
    limits = table(("threshold", "value"), list(THRESHOLDS.items()), "Thresholds of the verdict")
    return (
        f'<p class="verdict {verdict.share}">{escape(verdict.text[:1].upper() + verdict.text[1:])}.</p>'
        f"<ul>{reasons}</ul>{table(('flows', 'from', 'count'), rows, 'What was compared')}"
        f"<p>{escape(str(evaluation.spec))}</p><details><summary>Thresholds</summary>{limits}</details>"
    )


def _metrics(evaluation: Evaluation) -> str:
    text = (
        "<p>Below each value is its 95 % interval. <b>Reference</b>: real flows in place of the synthetic ones. "
        "<b>Shuffled</b>: real flows with their bins in random order. <b>Copies</b>: training flows, as if new.</p>"
    )
    headings = ("metric", "synthetic", "reference", "shuffled", "copies", "better")
    for group, question in GROUPS.items():
        rows = [
            (f"{row.metric.title}\n{row.metric.text}", _with_interval(row.synthetic),
             *(None if side is None else side.value for side in (row.reference, row.shuffled, row.copies)),
             _BETTER[row.metric.better])
            for row in evaluation.rows.values() if row.metric.group == group
        ]  # fmt: skip
        text += f"<h3>{escape(question)}</h3>" + table(headings, rows, question)
    return text


def _with_interval(estimate: Estimate | None) -> str | None:
    return None if estimate is None else f"{estimate.value:.3f}\n{estimate.low:.3f} to {estimate.high:.3f}"


def _classes(evaluation: Evaluation) -> str:
    split = evaluation.split
    headings = ["class", "real", "held out", "synthetic"]
    headings += [f"F1, trained on {side}" for side in evaluation.predictions.get("forest", {})]
    rows = [[row.pop("class") or "all", *row.values()] for row in class_table(evaluation)]
    text = table(headings, rows, "Classes")
    names = sorted(split.mixture, key=lambda name: (-split.mixture[name], name))
    if len(names) > MAX_CLASSES:
        text += f"<p>Charts show the {MAX_CLASSES} of {len(names)} classes with the most held-out flows.</p>"
    every = np.concatenate([split.train.series, split.held_out.series])
    space, scale = LogSpace.of(every), LogScale.of(np.abs(every))
    for index, name in enumerate(names[:MAX_CLASSES]):
        real, synthetic = (side.series[side.labels == name] for side in (split.held_out, split.synthetic))
        text += f"<h3>{escape(name) or 'All flows'}</h3>"
        if len(synthetic):
            charts_of_class = _class_charts(evaluation, f"c{index}", name, real, synthetic, space, scale)
            text += f'<div class="charts">{charts_of_class}</div>'
        else:
            text += "<p>There are no synthetic flows of this class.</p>"
    return text


def _class_charts(
    evaluation: Evaluation,
    key: str,
    name: str,
    real: np.ndarray,
    synthetic: np.ndarray,
    space: LogSpace,
    scale: LogScale,
) -> str:
    title, sides = escape(name, quote=True), (real, synthetic)
    labels = SeriesLabels.of(evaluation.spec)
    channels = labels.of_flows(real), labels.of_flows(synthetic)
    medians = [np.median(values, axis=0) for values in channels]
    totals = labels.totals(real), labels.totals(synthetic)
    lags = [distances.autocorrelation(space(series))[labels.channel] for series in sides]
    # a typical flow: the one with the median of bytes
    typical = [series[np.argsort(total)[len(total) // 2]][None] for series, total in zip(sides, totals, strict=True)]
    images = [GasfEncoder().encode(scale.scale(np.abs(series)))[0, labels.channel] for series in typical]
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    return "".join(
        [
            figure(
                charts.svg(f"{key}s", f"Series of {title}", lambda axes: charts.series(axes, *channels, labels)),
                f"{labels.title}: the median of all flows, and the band that holds 8 of 10. The bands should overlap.",
                table((labels.unit, "real median", "synthetic median"),
                      zip(labels.x.tolist(), *(median.tolist() for median in medians), strict=True), "Medians"),
            ),
            figure(
                charts.svg(f"{key}t", f"Distribution of totals of {title}",
                           lambda axes: charts.cumulative(axes, *totals, labels.total_label, log=any(t.any() for t in totals))),
                f"Cumulative distribution of the flows' totals ({labels.total_label}). The curves should meet.",
                table(("quantile", "real", "synthetic"),
                      [(q, *(float(np.quantile(total, q)) for total in totals)) for q in quantiles], "Quantiles"),
            ),
            figure(
                charts.svg(f"{key}a", f"Autocorrelation of {title}", lambda axes: charts.lags(axes, *lags)),
                "Correlation of values a number of steps apart: the rhythm of the flows. The curves should meet.",
                table(("lag", "real", "synthetic"),
                      zip(range(1, len(lags[0]) + 1), *(values.tolist() for values in lags), strict=True), "By lag"),
            ),
            figure(
                charts.svg(f"{key}g", f"Gramian angular fields of {title}",
                           lambda axes: charts.fields(axes, *images), columns=2, size=(4.6, 2.4)),
                f"Gramian angular field of a typical real and a typical synthetic flow, {labels.x_label} from the upper "
                f"left: {labels.dark}. Look for textures that only one of them has.",
                table(("pixel", "real", "synthetic"),
                      [(name, *(float(statistic(image)) for image in images))
                       for name, statistic in (("mean", np.mean), ("lowest", np.min), ("highest", np.max))], "Pixels"),
            ),
        ]
    )  # fmt: skip


def _confusion(evaluation: Evaluation) -> str:
    from sklearn.metrics import confusion_matrix

    truth, predictions = evaluation.split.held_out.labels, evaluation.predictions["forest"]
    names = sorted({*truth.tolist(), *(label for column in predictions.values() for label in column.tolist())})
    matrices = [
        (title, confusion_matrix(truth, predictions[side], labels=names))
        for side, title in (("real", "trained on real"), ("synthetic", "trained on synthetic"))
    ]
    rows = [
        (names[a], names[b], *(int(matrix[a, b]) for _, matrix in matrices))
        for a in range(len(names)) for b in range(len(names)) if any(matrix[a, b] for _, matrix in matrices)
    ]  # fmt: skip
    rows.sort(key=lambda row: -max(row[2:]))
    return figure(
        charts.svg("confusion", "Confusion matrices", lambda axes: charts.confusions(axes, matrices, names),
                   columns=2, size=(9, 5)),
        "Predictions of a random forest for the held-out flows, trained on real and on synthetic flows. Rows are true "
        "classes; dark is a large share of the row. Both should be dark on the diagonal only.",
        table(("class", "predicted", "trained on real", "on synthetic"), rows[:200], "Confusion"),
    )  # fmt: skip


def _map(evaluation: Evaluation) -> str:
    from sklearn.decomposition import PCA

    split = evaluation.split
    space = LogSpace.of(np.concatenate([split.train.series, split.held_out.series]))
    encoder = FixedEncoder(space(split.held_out.series))
    generator = np.random.default_rng(evaluation.seed)
    features = [
        encoder(space(side.series[generator.permutation(len(side))[:MAX_MAP_POINTS]]))
        for side in (split.held_out, split.synthetic)
    ]
    pca = PCA(2, random_state=0).fit(features[0])
    real, synthetic = (pca.transform(points) for points in features)
    rows = [
        (name, *(float(statistic(points[:, axis])) for axis in (0, 1) for statistic in (np.mean, np.std)))
        for name, points in (("real", real), ("synthetic", synthetic))
    ]
    return figure(
        charts.svg("map", "Map of real and synthetic flows", lambda a: charts.cloud(a, real, synthetic), size=(7, 4.5)),
        "The first two principal components of the held-out real flows, in features of a fixed encoder. "
        "Crosses should lie where dots lie, and no dots should be left alone.",
        table(("flows", "first, mean", "deviation", "second, mean", "deviation"), rows, "Positions"),
    )


def _nearest(evaluation: Evaluation) -> str:
    split, labels = evaluation.split, SeriesLabels.of(evaluation.spec)
    space = LogSpace.of(np.concatenate([split.train.series, split.held_out.series]))
    train = space(split.train.series)
    nearest = privacy.nearest(space(split.synthetic.series), train)
    unseen = privacy.nearest(space(split.held_out.series), train)
    limit = float(np.quantile(unseen.distance, 0.01, method="higher"))
    quantiles = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
    rows = [(q, *(float(np.quantile(side.distance, q)) for side in (unseen, nearest))) for q in quantiles]
    label = "distance to the nearest training flow"
    text = figure(
        charts.svg("near", "Distances to the nearest training flow",
                   lambda a: charts.cumulative(a, unseen.distance, nearest.distance, label, log=False)),
        "Distance of held-out real flows and of synthetic ones to the nearest training flow. A synthetic curve far to "
        "the left of the real one is a sign of copies.",
        table(("quantile", "held-out real", "synthetic"), rows, "Quantiles of the distances"),
    )  # fmt: skip
    for rank, row in enumerate(np.argsort(nearest.distance, kind="stable")[:N_PAIRS].tolist()):
        pair = (split.synthetic.series[row, labels.channel], split.train.series[nearest.index[row], labels.channel])
        active = np.flatnonzero((pair[0] != 0) | (pair[1] != 0)).tolist()
        text += figure(
            charts.svg(f"p{rank}", f"Nearest pair {rank + 1}", partial(charts.pair, flows=pair, labels=labels)),
            f"The synthetic flow that is {_ORDINALS[rank]} to a training flow: distance {nearest.distance[row]:.3f}. "
            f"One in a hundred held-out real flows lies within {limit:.3f}.",
            table((labels.unit, "synthetic", "training"),
                  [(float(labels.x[i]), int(pair[0][i]), int(pair[1][i])) for i in active], labels.title),
        )  # fmt: skip
    return f'<div class="charts">{text}</div>'


def _training(path: Path) -> str:
    """Plot the loss over steps, and the validation checks."""
    hint = "Name the NAME.metrics.jsonl that netgen train wrote"
    try:
        lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a training log: {error}", hint) from error
    steps = [line for line in lines if "error" in line and "step" in line]
    if not steps:
        raise InputError(f"{path} is not a training log: it has no steps", hint)
    x, y = (np.array([line[name] for line in steps]) for name in ("step", "error"))
    rows = [(line["step"], float(line["error"])) for line in steps[:: max(1, len(steps) // 50)]]
    text = figure(
        charts.svg("loss", "Loss over training steps", lambda a: charts.lines(a, {"loss": (x, y)}, "loss", log=True),
                   size=(7, 3)),
        "Mean squared error of the predicted clean images, divided by their variance: 1 is no better than the mean.",
        table(("step", "loss"), rows, "Loss by step"),
    )  # fmt: skip
    checks = [line for line in lines if line.get("check")]
    if not checks:
        return text
    names = {
        "macro F1, synthetic": "macro_f1",
        "macro F1, real": "real_macro_f1",
        "closest-record share": "closest_record_share",
    }
    at = np.array([line["step"] for line in checks])
    curves = {name: (at, np.array([line[key] for line in checks])) for name, key in names.items()}
    return text + figure(
        charts.svg("checks", "Validation checks", lambda a: charts.lines(a, curves, "value"), size=(7, 3)),
        "Macro F1 on held-out flows of a random forest trained on synthetic flows, and of one trained on as many real "
        "ones; and the share of synthetic flows nearer to a training flow than to a held-out one, which should stay near 0.5.",
        table(("step", *names), [(line["step"], *(float(line[key]) for key in names.values())) for line in checks],
              "Checks by step"),
    )  # fmt: skip
