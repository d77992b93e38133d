"""Every figure of new flows beside its anchors: `evaluate`."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from netgen.capture.series.spec import SeriesSpec
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation import distances, privacy
from netgen.evaluation.estimate import Estimate, jackknife, mean
from netgen.evaluation.feature_spaces import FixedEncoder, LogSpace
from netgen.evaluation.metrics import METRICS, MetricRow
from netgen.evaluation.realism import real_or_fake_auc
from netgen.evaluation.split import EvaluationSplit, FlowSet, make_split, match_mixture, resample, shuffle
from netgen.evaluation.usefulness import CLASSIFIERS, macro_f1, ratios, scores
from netgen.evaluation.verdict import Verdict, verdict

#: Flows of a set that are used at most: all, to learn from, to be told apart from real ones.
MOST, LEARN, TELL = 10_000, 5_000, 2_000

#: Flows of an anchor whose nearest real ones are looked up.
ANCHOR = 2_000

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, repr=False)
class Evaluation:
    """What was found.

    Parameters
    ----------
    rows : dict of str to Row
        Each measure of the new flows, and of the anchors.
    verdict : Verdict
        What to do with them, and why.
    sets : Sets
        What was compared, as far as it was used.
    said : dict
        Classifier -> side ("real", "synth") -> what it said of the held-back flows, where there are classes.
    spec : SeriesSpec
        Of the series.
    seed : int
        Of all choices.
    """

    rows: dict[str, MetricRow]
    verdict: Verdict
    sets: EvaluationSplit
    said: dict[str, dict[str, np.ndarray]]
    spec: SeriesSpec
    seed: int

    def __repr__(self) -> str:
        return f"Evaluation({len(self.sets.synth)} synthetic flows, {len(self.rows)} metrics; {self.verdict.text})"

    def _repr_html_(self) -> str:
        rows = []
        for row in self.rows.values():
            if row.synth is not None:
                interval = f"{row.synth.low:.3f} to {row.synth.high:.3f}"
                rows.append(f"<tr><td>{row.measure.title}<td>{row.synth.value:.3f}<td>{interval}")
        head = "<tr><th>metric<th>value<th>95 %"
        return f"<p>{html.escape(self.verdict.text)}</p><table>{head}{''.join(rows)}</table>"

    def to_json(self) -> dict[str, Any]:
        """The verdict, the reasons, and every figure with its anchors, as JSON types."""
        sets = self.sets
        return {
            **self.verdict.to_json(),
            "figures": {name: row.to_json() for name, row in self.rows.items()},
            "flows": {"real": len(sets.train), "hold_out": len(sets.held), "synthetic": len(sets.synth)},
            "hold_out_given": sets.unseen,
            "classes": sorted(sets.mixture),
            "missing_classes": sets.missing,
            "series": self.spec.to_json(),
            "seed": self.seed,
        }


def evaluate(
    real: FlowTable,
    synth: FlowTable,
    *,
    holdout: FlowTable | None = None,
    seed: int = 0,
    anchors: bool = True,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure how useful, how real and how private new flows are.

    Parameters
    ----------
    real : FlowTable
        What the new flows were made from, or would be used in place of.
    synth : FlowTable
        The new flows; of equal series.
    holdout : FlowTable, optional
        Real flows that nothing was learnt from. Without it the real ones are divided, by capture
        where that can be, and whether they were copied can be told only in part.
    seed : int
        Of all random choices: the same tables and seed give the same figures.
    anchors : bool
        Whether to measure shuffled flows and a copycat, too, beside the floor. They take more than
        half of the time, and change no other figure.
    progress : callable, optional
        Told what is done, how many steps are done, and of how many.

    Returns
    -------
    Evaluation

    Raises
    ------
    SpecMismatch, TableError
        If the tables cannot be compared.
    """
    generator = np.random.default_rng(seed)
    sets = _bounded(make_split(real, synth, holdout, seed=seed), generator)
    run = _Run(sets, seed, generator)
    if not anchors:
        run.sides = {name: run.sides[name] for name in ("synth", "floor")}
    found: dict[str, dict[str, Estimate]] = {}
    steps = list(run.steps())
    for done, (text, side, step) in enumerate(steps):
        if progress is not None:
            progress(text, done, len(steps))
        found.setdefault(side, {}).update(step())
    if progress is not None:
        progress("Done", len(steps), len(steps))
    rows = {measure.name: MetricRow.of(measure, found) for measure in METRICS}
    return Evaluation(rows, verdict(rows, sets), sets, run.said, real.spec, seed)


def _bounded(sets: EvaluationSplit, generator: np.random.Generator) -> EvaluationSplit:
    """At most `MOST` flows of each set."""
    notes = list(sets.notes)
    cut = {}
    for name, text in (("train", "real"), ("held", "held-back real"), ("synth", "synthetic")):
        flows = getattr(sets, name)
        if len(flows) > MOST:
            notes.append(f"{MOST:,} of {len(flows):,} {text} flows were used, chosen at random.")
            cut[name] = flows.take(np.sort(generator.permutation(len(flows))[:MOST]))
    return dataclasses.replace(sets, **cut, notes=notes)


class _Run:
    """The measurements, in steps."""

    def __init__(self, sets: EvaluationSplit, seed: int, generator: np.random.Generator) -> None:
        self.sets, self.seed = sets, seed
        self.said: dict[str, dict[str, np.ndarray]] = {}
        # as many of each, in the hold-out's mixture of classes: distances grow as flows get fewer
        number = min(len(sets.train), len(sets.held), len(sets.synth))
        train, synth = (match_mixture(flows, sets.mixture, number, generator) for flows in (sets.train, sets.synth))
        self.held = match_mixture(sets.held, sets.mixture, number, generator)
        self.sides = {
            "synth": synth,
            "floor": train,
            "shuffled": shuffle(train, generator),
            "copycat": match_mixture(resample(sets.train, generator), sets.mixture, number, generator),
        }
        self.space = LogSpace.of(np.concatenate([sets.train.series, sets.held.series]))
        self.encoder = FixedEncoder(self.space(self.held.series))
        half = len(sets.held) // 2
        order = generator.permutation(len(sets.held))
        self.halves = (sets.held.take(order[:half]), sets.held.take(order[half:]))

    def steps(self) -> Iterator[tuple[str, str, Callable[[], dict[str, Estimate]]]]:
        """What is done, for which side, and how."""
        if self.sets.labelled:
            for name in CLASSIFIERS:
                for side in ("floor", *(each for each in self.sides if each != "floor")):
                    yield "Training classifiers", side, lambda n=name, s=side: self._useful(n, s)  # type: ignore[misc]
        for side in self.sides:
            yield "Telling apart", side, lambda s=side: self._realism(s)  # type: ignore[misc]
            yield "Comparing distributions", side, lambda s=side: self._coverage(s)  # type: ignore[misc]
            yield "Looking for copies", side, lambda s=side: self._privacy(s)  # type: ignore[misc]

    # -- usefulness -------------------------------------------------------------------------

    def _useful(self, name: str, side: str) -> dict[str, Estimate]:
        """Trained on these flows, and on these and the real ones; the floor is trained on the real ones."""
        sets, learn = self.sets, CLASSIFIERS[name]
        truth = sets.held.labels
        real = self._some(sets.train)
        other = {
            "floor": real,
            "synth": self._some(sets.synth),
            "shuffled": shuffle(real, np.random.default_rng(self.seed)),
            "copycat": resample(real, np.random.default_rng(self.seed)),
        }[side]
        said = learn(other.series, other.labels, sets.held.series, seed=self.seed)
        known = self.said.setdefault(name, {})
        if side in ("floor", "synth"):
            known["real" if side == "floor" else side] = said
        found = {f"{name}_{what}": figure for what, figure in scores(truth, said, seed=self.seed).items()}
        found[f"{name}_ratio"] = ratios(truth, said, known["real"], seed=self.seed)["accuracy"]
        added = said
        if side != "floor":
            both = real + other
            added = learn(both.series, both.labels, sets.held.series, seed=self.seed)
        if side == "synth":
            known["both"] = added
        found[f"{name}_added_macro_f1"] = scores(truth, added, seed=self.seed)["macro_f1"]
        return found

    def _some(self, flows: FlowSet) -> FlowSet:
        if len(flows) <= LEARN:
            return flows
        return flows.take(np.sort(np.random.default_rng(self.seed).permutation(len(flows))[:LEARN]))

    # -- realism and coverage ---------------------------------------------------------------

    def _realism(self, side: str) -> dict[str, Estimate]:
        flows = self.sides[side]
        return {"told_apart": real_or_fake_auc(self.held.series[:TELL], flows.series[:TELL], seed=self.seed)}

    def _coverage(self, side: str) -> dict[str, Estimate]:
        flows, held = self.sides[side], self.held
        points, others = self.space(flows.series), self.space(held.series)
        features, real = self.encoder(points), self.encoder(others)
        precise, recalled, density, covered = distances.coverage(real, features)
        reach = Estimate.about(float(density.mean()), float(density.std() / len(density) ** 0.5), 0.0)
        return {
            "earth_mover": jackknife(lambda a, b: float(distances.earth_mover(a, b).mean()), points, others),
            "totals": jackknife(distances.totals_distance, flows.series, held.series),
            "autocorrelation": jackknife(distances.autocorrelation_distance, points, others),
            "runs": jackknife(distances.runs_distance, points, others),
            "frechet": jackknife(distances.frechet, features, real),
            "precision": mean(precise),
            "recall": mean(recalled),
            "density": reach,
            "coverage": mean(covered),
        }

    # -- privacy ----------------------------------------------------------------------------

    def _privacy(self, side: str) -> dict[str, Estimate]:
        sets, space = self.sets, self.space
        held = sets.held
        if side == "floor":  # real flows that nothing was learnt from, against the other half of them
            flows, held = self.halves
        else:
            flows = sets.synth if side == "synth" else self.sides[side].take(np.arange(len(self.sides[side]))[:ANCHOR])
        # without a hold-out, what is held back may have been learnt from and copied, too
        learnt = sets.train if sets.unseen or side == "floor" else sets.train + sets.held
        found = {
            "exact_copies": mean(privacy.exact_copies(learnt.series, flows.series)),
            "shifted_copies": mean(privacy.shifted_copies(learnt.series, flows.series)),
        }
        points, train, unseen = space(flows.series), space(sets.train.series), space(held.series)
        new, old = privacy.nearest(points, train), privacy.nearest(unseen, train)
        found["near_share"] = privacy.near_share(new.forth, old.forth)[0]
        if sets.unseen or side != "synth":
            other = privacy.nearest(points, unseen)
            found["closest_share"] = privacy.closer(new, other)
            found["membership"] = privacy.membership(new.back, other.back)
        return found


def class_table(evaluation: Evaluation, classifier: str = "forest") -> list[dict[str, Any]]:
    """Class by class: how many flows, F1 of the hold-out trained on real and on new flows."""
    sets, said = evaluation.sets, evaluation.said.get(classifier, {})
    rows = []
    for name in sorted(sets.mixture):
        row: dict[str, Any] = {"class": name}
        row |= {side: int((getattr(sets, side).labels == name).sum()) for side in ("train", "held", "synth")}
        for side, guess in said.items():
            row[f"f1_{side}"] = _f1_of(sets.held.labels == name, guess == name)
        rows.append(row)
    return rows


def _f1_of(truth: np.ndarray, said: np.ndarray) -> float:
    total = int(truth.sum() + said.sum())
    return 2 * int((truth & said).sum()) / total if total else 0.0


__all__ = ["Evaluation", "class_table", "evaluate", "macro_f1"]
