"""The metrics of an evaluation: names, which direction is better, and how to read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from netgen.evaluation.estimate import Estimate

#: The synthetic flows, and the baselines beside them.
SIDES = ("synthetic", "reference", "shuffled", "copies")

Better = Literal["high", "low", "half"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric."""

    name: str  # its key in the JSON
    group: str  # usefulness, realism, coverage or privacy
    title: str  # its title in the report
    better: Better  # which direction is better; "half": the nearer to 0.5
    text: str  # how to read it, in a sentence


def _classifier_metrics() -> list[Metric]:
    metrics = []
    for name, classifier in (("forest", "random forest"), ("network", "small convolutional network")):
        title = name.capitalize()
        text = f"A {classifier} is trained on these flows and tested on the hold-out"
        metrics += [
            Metric(f"{name}_accuracy", "usefulness", f"{title}: accuracy", "high", f"{text}."),
            Metric(
                f"{name}_ratio", "usefulness", f"{title}: accuracy over real", "high",
                f"{text}; its accuracy over that of one trained on as many real flows. 1: as useful as real flows.",
            ),
            Metric(
                f"{name}_macro_f1", "usefulness", f"{title}: macro F1", "high",
                f"{text}; F1 averaged over the classes, so rare ones count as much as common ones.",
            ),
            Metric(
                f"{name}_added_macro_f1", "usefulness", f"{title}: macro F1, with real", "high",
                f"A {classifier} is trained on all real flows and these together. Reference: on the real flows alone.",
            ),
        ]  # fmt: skip
    return metrics


METRICS = (
    *_classifier_metrics(),
    Metric("real_or_fake_auc", "realism", "Real-or-fake AUC", "half",
           "How well a random forest tells these flows from held-out real ones. 0.5: not at all, 1: always."),
    Metric("earth_mover", "realism", "Earth mover's distance", "low",
           "How much has to be moved, and how far, to turn the values of each bin into those of the hold-out: "
           "a fraction of the largest value, on a logarithmic scale."),
    Metric("totals", "realism", "Distance of totals", "low",
           "Earth mover's distance of the flows' total bytes and packets, in natural logarithms: "
           "0.1 is a tenth more or less."),
    Metric("autocorrelation", "realism", "Autocorrelation distance", "low",
           "Difference of the mean autocorrelations at lags of 1 to 32 bins: the rhythm of the flows."),
    Metric("runs", "realism", "Run-length distance", "low",
           "Earth mover's distance of the lengths of bursts and of idle runs, in octaves."),
    Metric("frechet", "realism", "Frechet distance", "low",
           "Distance of the features of a fixed encoder of random convolutions, assumed normally distributed. "
           "It is larger for fewer flows: compare it with the reference, which has as many."),
    Metric("precision", "coverage", "Precision", "high",
           "Share of these flows that lie where real ones lie."),
    Metric("recall", "coverage", "Recall", "high",
           "Share of real flows that lie where these flows lie."),
    Metric("density", "coverage", "Density", "high",
           "In how many real neighbourhoods a flow lies, divided by 5: 1 where both are alike."),
    Metric("coverage", "coverage", "Coverage", "high",
           "Share of real flows with one of these in their neighbourhood: what is missing is not covered."),
    Metric("exact_copies", "privacy", "Exact copies", "low",
           "Share of flows that equal a real flow. Real flows repeat, too: see the reference."),
    Metric("shifted_copies", "privacy", "Shifted copies", "low",
           "Share of flows that are a real flow moved by 1 to 3 bins, of those with at least 3 active bins."),
    Metric("near_share", "privacy", "Suspiciously near", "low",
           "Share of flows that are nearer to a training flow than 99 % of held-out real flows are."),
    Metric("closest_record_share", "privacy", "Closest-record share", "half",
           "Share of flows that are nearer to a training flow than to a held-out one, of as many. "
           "0.5 is ideal, 1 is a copy."),
    Metric("membership_auc", "privacy", "Membership inference AUC", "half",
           "How well an attacker who has these flows can tell whether a real flow was in the training set. "
           "0.5: not at all."),
)  # fmt: skip

GROUPS = {
    "usefulness": "Does a classifier learn as well from them?",
    "realism": "Do they look like real traffic?",
    "coverage": "Do they cover real traffic, and nothing else?",
    "privacy": "Are they copies?",
}


@dataclasses.dataclass(frozen=True)
class MetricRow:
    """A metric of the synthetic flows and of each baseline; None where it is undefined or unknown."""

    metric: Metric
    synthetic: Estimate | None
    reference: Estimate | None
    shuffled: Estimate | None
    copies: Estimate | None

    @classmethod
    def of(cls, metric: Metric, estimates: Mapping[str, Mapping[str, Estimate]]) -> MetricRow:
        """Collect the estimates of a metric, given as side -> name -> estimate."""
        return cls(metric, *(estimates.get(side, {}).get(metric.name) for side in SIDES))

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON types."""
        sides = {side: getattr(self, side) for side in SIDES}
        estimates = {
            side: None if estimate is None else dataclasses.asdict(estimate) for side, estimate in sides.items()
        }
        metadata = {"title": self.metric.title, "better": self.metric.better, "group": self.metric.group}
        return {**(estimates.pop("synthetic") or {"value": None, "low": None, "high": None}), **estimates, **metadata}
