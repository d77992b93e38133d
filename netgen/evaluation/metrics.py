"""What is measured: each figure's name, which way is better, and how to read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from netgen.evaluation.estimate import Estimate

#: The new flows, and what stands beside them.
SIDES = ("synth", "floor", "shuffled", "copycat")

Better = Literal["high", "low", "half"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """One figure.

    Parameters
    ----------
    name : str
        As in the JSON.
    group : str
        Usefulness, realism, coverage or privacy.
    title : str
        As in the report.
    better : {"high", "low", "half"}
        Which way is better; "half": the nearer to 0.5.
    text : str
        How to read it, in a sentence.
    """

    name: str
    group: str
    title: str
    better: Better
    text: str


def _classifier_measures() -> list[Metric]:
    found = []
    for name, long in (("forest", "random forest"), ("network", "small convolutional network")):
        title = name.capitalize()
        text = f"A {long} is trained on these flows and tested on the hold-out"
        found += [
            Metric(f"{name}_accuracy", "usefulness", f"{title}: accuracy", "high", f"{text}."),
            Metric(
                f"{name}_ratio", "usefulness", f"{title}: accuracy over real", "high",
                f"{text}; its accuracy over that of one trained on as many real flows. 1: as useful as real ones.",
            ),
            Metric(
                f"{name}_macro_f1", "usefulness", f"{title}: macro F1", "high",
                f"{text}; F1 averaged over the classes, rare ones counting as much as common ones.",
            ),
            Metric(
                f"{name}_added_macro_f1", "usefulness", f"{title}: macro F1, with real", "high",
                f"A {long} is trained on all real flows and these together. Floor: on the real ones alone.",
            ),
        ]  # fmt: skip
    return found


METRICS = (
    *_classifier_measures(),
    Metric("told_apart", "realism", "Real-or-fake AUC", "half",
            "How well a random forest tells these flows from held-back real ones. 0.5: not at all, 1: at once."),
    Metric("earth_mover", "realism", "Earth mover's distance", "low",
            "How much would have to be moved, and how far, to make the values of each bin those of the hold-out: "
            "a share of the largest value, on a logarithmic scale."),
    Metric("totals", "realism", "Distance of totals", "low",
            "Earth mover's distance of the flows' total bytes and packets, in natural logarithms: "
            "0.1 is a tenth more or less."),
    Metric("autocorrelation", "realism", "Autocorrelation distance", "low",
            "Difference of the mean autocorrelations at lags of 1 to 32 bins: the rhythm of the flows."),
    Metric("runs", "realism", "Run-length distance", "low",
            "Earth mover's distance of the lengths of bursts and of idle runs, in octaves."),
    Metric("frechet", "realism", "Frechet distance", "low",
            "Distance of the features of a fixed encoder of random convolutions, taken for normally distributed. "
            "It is larger where flows are few: compare it with the floor, of as many flows."),
    Metric("precision", "coverage", "Precision", "high",
            "Share of these flows that lie where real ones lie."),
    Metric("recall", "coverage", "Recall", "high",
            "Share of real flows that lie where these flows lie."),
    Metric("density", "coverage", "Density", "high",
            "In how many real neighbourhoods a flow lies, over 5: 1 where both are alike."),
    Metric("coverage", "coverage", "Coverage", "high",
            "Share of real flows that have one of these in their neighbourhood: what is missing is not covered."),
    Metric("exact_copies", "privacy", "Exact copies", "low",
            "Share of flows that have the very numbers of a real one. Real flows repeat, too: see the floor."),
    Metric("shifted_copies", "privacy", "Shifted copies", "low",
            "Share of flows that are a real one moved by 1 to 3 bins, of those with 3 busy bins or more."),
    Metric("near_share", "privacy", "Suspiciously near", "low",
            "Share of flows nearer to a training flow than 99 % of unseen real flows are."),
    Metric("closest_share", "privacy", "Closest-record share", "half",
            "Share of flows nearer to a training flow than to a held-back one, of as many. 0.5 is ideal, 1 a copy."),
    Metric("membership", "privacy", "Membership inference AUC", "half",
            "How well an attacker tells from these flows whether a real one was learnt from. 0.5: not at all."),
)  # fmt: skip

GROUPS = {
    "usefulness": "Does a classifier learn as well from them?",
    "realism": "Do they look like real traffic?",
    "coverage": "Do they cover what is real, and only that?",
    "privacy": "Are they copies?",
}


@dataclasses.dataclass(frozen=True)
class MetricRow:
    """A measure of the new flows and of each anchor; None where it has no meaning or could not be had."""

    measure: Metric
    synth: Estimate | None
    floor: Estimate | None
    shuffled: Estimate | None
    resample: Estimate | None

    @classmethod
    def of(cls, measure: Metric, found: Mapping[str, Mapping[str, Estimate]]) -> MetricRow:
        """The row of a measure, of what was found on each side."""
        return cls(measure, *(found.get(side, {}).get(measure.name) for side in SIDES))

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        sides = {side: getattr(self, side) for side in SIDES}
        figures = {side: None if figure is None else figure.to_json() for side, figure in sides.items()}
        about = {"title": self.measure.title, "better": self.measure.better, "group": self.measure.group}
        return {**(figures.pop("synth") or {"value": None, "low": None, "high": None}), **figures, **about}
