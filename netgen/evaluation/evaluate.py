"""Evaluate synthetic flows: every metric, beside its baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation import distances, privacy
from netgen.evaluation.estimate import Estimate, jackknife, wilson_mean
from netgen.evaluation.feature_spaces import FixedEncoder, LogSpace
from netgen.evaluation.metrics import METRICS, SIDES, MetricRow
from netgen.evaluation.realism import real_or_fake_auc
from netgen.evaluation.split import EvaluationSplit, FlowSet, make_split, match_mixture, resample, shuffle_bins
from netgen.evaluation.usefulness import CLASSIFIERS, accuracy_ratio, scores
from netgen.evaluation.verdict import Verdict, verdict

MAX_FLOWS = 10_000  # flows of each set that are used
MAX_TRAINING_FLOWS = 5_000  # flows that a classifier learns from
MAX_REAL_OR_FAKE = 2_000  # flows of each side of the real-or-fake test
MAX_BASELINE_NEIGHBOURS = 2_000  # flows of a baseline whose nearest real flows are searched

Progress = Callable[[str, int, int], None]
Estimates = dict[str, Estimate]


@dataclasses.dataclass(frozen=True, repr=False)
class Evaluation:
    """The result of an evaluation.

    Parameters
    ----------
    rows : dict of str to MetricRow
        Each metric of the synthetic flows and of the baselines.
    verdict : Verdict
        What to do with the flows, and why.
    split : EvaluationSplit
        The flows that were compared.
    predictions : dict
        Classifier -> training set ("real", "synthetic", "both") -> predicted classes of the held-out flows.
    spec : SeriesSpec
        Of the series.
    seed : int
        Of all random choices.
    """

    rows: dict[str, MetricRow]
    verdict: Verdict
    split: EvaluationSplit
    predictions: dict[str, dict[str, np.ndarray]]
    spec: SeriesSpec
    seed: int

    def __repr__(self) -> str:
        return f"Evaluation({len(self.split.synthetic)} synthetic flows, {self.verdict.text!r})"

    def _repr_html_(self) -> str:
        from html import escape

        cells = [
            (
                row.metric.title,
                *("–" if side is None else f"{side.value:.3f}" for side in (row.synthetic, row.reference)),
            )
            for row in self.rows.values()
        ]
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
        head = "<tr><th>metric</th><th>synthetic</th><th>reference</th></tr>"
        return f"<p>{escape(self.verdict.text)}</p><table>{head}{body}</table>"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict, the reasons, and every metric with its baselines, as JSON types."""
        split = self.split
        return {
            **self.verdict.to_json(),
            "metrics": {name: row.to_json() for name, row in self.rows.items()},
            "flows": {"real": len(split.train), "hold_out": len(split.held_out), "synthetic": len(split.synthetic)},
            "hold_out_given": split.holdout_given,
            "classes": sorted(split.mixture),
            "missing_classes": split.missing,
            "series": self.spec.to_json(),
            "seed": self.seed,
        }


def evaluate(
    real: FlowTable,
    synthetic: FlowTable,
    *,
    holdout: FlowTable | None = None,
    seed: int = 0,
    baselines: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure how useful, how realistic and how private synthetic flows are (see `netgen.evaluate_files.evaluate`).

    Without `baselines`, shuffled flows and copies of training flows are not measured, only the reference: they take
    more than half of the time and change no other value. Raises SpecMismatchError or TableError if the tables cannot be
    compared.
    """
    generator = np.random.default_rng(seed)
    split = _limited(make_split(real, synthetic, holdout, seed=seed), generator)
    measurement = _Measurement(split, seed, generator, SIDES if baselines else SIDES[:2])
    estimates: dict[str, Estimates] = {}
    steps = list(measurement.steps())
    for done, (text, side, step) in enumerate(steps):
        if progress is not None:
            progress(text, done, len(steps))
        estimates.setdefault(side, {}).update(step())
    if progress is not None:
        progress("Done", len(steps), len(steps))
    rows = {metric.name: MetricRow.of(metric, estimates) for metric in METRICS}
    return Evaluation(rows, verdict(rows, split), split, measurement.predictions, real.spec, seed)


def _limited(split: EvaluationSplit, generator: np.random.Generator) -> EvaluationSplit:
    """Keep at most `MAX_FLOWS` flows of each set."""
    notes = list(split.notes)
    limited = {}
    for name, text in (("train", "real"), ("held_out", "held-out real"), ("synthetic", "synthetic")):
        flows = getattr(split, name)
        if len(flows) > MAX_FLOWS:
            notes.append(f"{MAX_FLOWS:,} of {len(flows):,} {text} flows were used, chosen at random.")
            limited[name] = flows.take(np.sort(generator.permutation(len(flows))[:MAX_FLOWS]))
    return dataclasses.replace(split, **limited, notes=notes)


class _Measurement:
    """The measurements, in steps."""

    def __init__(
        self, split: EvaluationSplit, seed: int, generator: np.random.Generator, sides: tuple[str, ...]
    ) -> None:
        self.split, self.seed = split, seed
        self.predictions: dict[str, dict[str, np.ndarray]] = {}
        # as many of each, in the hold-out's mixture of classes: distances grow for fewer flows
        count = min(len(split.train), len(split.held_out), len(split.synthetic))
        train, synthetic = (
            match_mixture(flows, split.mixture, count, generator) for flows in (split.train, split.synthetic)
        )
        self.held_out = match_mixture(split.held_out, split.mixture, count, generator)
        every = {
            "synthetic": synthetic,
            "reference": train,
            "shuffled": shuffle_bins(train, generator),
            "copies": match_mixture(resample(split.train, generator), split.mixture, count, generator),
        }
        self.sides = {name: every[name] for name in sides}
        self.space = LogSpace.of(np.concatenate([split.train.series, split.held_out.series]))
        self.encoder = FixedEncoder(self.space(self.held_out.series))
        half = len(split.held_out) // 2
        order = generator.permutation(len(split.held_out))
        self.halves = (split.held_out.take(order[:half]), split.held_out.take(order[half:]))

    def steps(self) -> Iterator[tuple[str, str, Callable[[], Estimates]]]:
        """Yield the text of each step, its side, and the call that measures it."""
        if self.split.labelled:
            for name in CLASSIFIERS:
                for side in sorted(self.sides, key=lambda side: side != "reference"):
                    yield "Training classifiers", side, partial(self._usefulness, name, side)
        for side in self.sides:
            yield "Comparing with real flows", side, partial(self._realism, side)
            yield "Comparing distributions", side, partial(self._coverage, side)
            yield "Looking for copies", side, partial(self._privacy, side)

    def _usefulness(self, name: str, side: str) -> Estimates:
        """Train on one side alone, and on it and the real flows; the reference is trained on the real flows."""
        split, predict = self.split, CLASSIFIERS[name]
        truth, test = split.held_out.labels, split.held_out.series
        real = self._training_flows(split.train)
        flows = {
            "reference": lambda: real,
            "synthetic": lambda: self._training_flows(split.synthetic),
            "shuffled": lambda: shuffle_bins(real, np.random.default_rng(self.seed)),
            "copies": lambda: resample(real, np.random.default_rng(self.seed)),
        }[side]()
        predicted = predict(flows.series, flows.labels, test, seed=self.seed)
        known = self.predictions.setdefault(name, {})
        if side in ("reference", "synthetic"):
            known["real" if side == "reference" else side] = predicted
        estimates = {f"{name}_{score}": value for score, value in scores(truth, predicted, seed=self.seed).items()}
        estimates[f"{name}_ratio"] = accuracy_ratio(truth, predicted, known["real"], seed=self.seed)
        added = predicted
        if side != "reference":
            both = real + flows
            added = predict(both.series, both.labels, test, seed=self.seed)
        if side == "synthetic":
            known["both"] = added
        estimates[f"{name}_added_macro_f1"] = scores(truth, added, seed=self.seed)["macro_f1"]
        return estimates

    def _training_flows(self, flows: FlowSet) -> FlowSet:
        if len(flows) <= MAX_TRAINING_FLOWS:
            return flows
        return flows.take(np.sort(np.random.default_rng(self.seed).permutation(len(flows))[:MAX_TRAINING_FLOWS]))

    def _realism(self, side: str) -> Estimates:
        real, flows = self.held_out.series[:MAX_REAL_OR_FAKE], self.sides[side].series[:MAX_REAL_OR_FAKE]
        return {"real_or_fake_auc": real_or_fake_auc(real, flows, seed=self.seed)}

    def _coverage(self, side: str) -> Estimates:
        flows, held_out = self.sides[side], self.held_out
        points, others = self.space(flows.series), self.space(held_out.series)
        features, real = self.encoder(points), self.encoder(others)
        precise, recalled, density, covered = distances.coverage(real, features)
        return {
            "earth_mover": jackknife(lambda a, b: float(distances.earth_mover(a, b).mean()), points, others),
            "totals": jackknife(distances.totals_distance, flows.series, held_out.series),
            "autocorrelation": jackknife(distances.autocorrelation_distance, points, others),
            "runs": jackknife(distances.runs_distance, points, others),
            "frechet": jackknife(distances.frechet, features, real),
            "precision": wilson_mean(precise),
            "recall": wilson_mean(recalled),
            "density": Estimate.from_error(float(density.mean()), float(density.std() / len(density) ** 0.5), 0.0),
            "coverage": wilson_mean(covered),
        }

    def _privacy(self, side: str) -> Estimates:
        split, space, held_out = self.split, self.space, self.split.held_out
        if side == "reference":  # one half of the held-out flows against the other
            flows, held_out = self.halves
        elif side == "synthetic":
            flows = split.synthetic
        else:
            flows = self.sides[side].take(np.arange(len(self.sides[side]))[:MAX_BASELINE_NEIGHBOURS])
        # without a hold-out, a model may have learned from the held-out flows, too
        learned = split.train if split.holdout_given or side == "reference" else split.train + split.held_out
        estimates = {
            "exact_copies": wilson_mean(privacy.exact_copies(learned.series, flows.series)),
            "shifted_copies": wilson_mean(privacy.shifted_copies(learned.series, flows.series)),
        }
        points, train, unseen = space(flows.series), space(split.train.series), space(held_out.series)
        to_train, baseline = privacy.nearest(points, train), privacy.nearest(unseen, train)
        estimates["near_share"] = privacy.near_share(to_train.distance, baseline.distance)[0]
        if split.holdout_given or side != "synthetic":
            to_held_out = privacy.nearest(points, unseen)
            estimates["closest_record_share"] = privacy.closest_share_of(to_train, to_held_out)
            estimates["membership_auc"] = privacy.membership_auc(
                to_train.reverse_distance, to_held_out.reverse_distance
            )
        return estimates


def class_table(evaluation: Evaluation, classifier: str = "forest") -> list[dict[str, Any]]:
    """List for each class the numbers of flows, and F1 on the hold-out by training set."""
    from sklearn.metrics import f1_score

    split, predictions = evaluation.split, evaluation.predictions.get(classifier, {})
    rows = []
    for name in sorted(split.mixture):
        row: dict[str, Any] = {"class": name}
        row |= {side: int((getattr(split, side).labels == name).sum()) for side in ("train", "held_out", "synthetic")}
        for side, predicted in predictions.items():
            row[f"f1_{side}"] = float(f1_score(split.held_out.labels == name, predicted == name, zero_division=0))
        rows.append(row)
    return rows
