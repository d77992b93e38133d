"""From metrics to a verdict that you can act on, by the thresholds below.

``docs/evaluation.md`` explains them; a test compares the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from netgen.evaluation.estimate import Estimate
from netgen.evaluation.metrics import MetricRow
from netgen.evaluation.split import EvaluationSplit

#: Accuracy over real, averaged over both classifiers: from REPLACE on, synthetic flows can take the place of real ones;
#: from AUGMENT on, they can be added to real ones.
REPLACE = 0.95
AUGMENT = 0.75

MAX_LOSS = 0.02  # macro F1 that adding synthetic flows to real ones may cost

#: Real-or-fake AUC above the reference: up to PASS the flows pass for real, from OBVIOUS on nobody would take them so.
PASS = 0.05
OBVIOUS = 0.35

COPIES = 0.01  # share of exact or shifted copies above the reference
NEAR = 0.02  # share of suspiciously near flows above the reference
CLOSEST_RECORD = 0.55  # closest-record share, lower end of the interval
MEMBERSHIP = 0.55  # membership AUC, lower end of the interval

THRESHOLDS = {
    "REPLACE": REPLACE,
    "AUGMENT": AUGMENT,
    "MAX_LOSS": MAX_LOSS,
    "PASS": PASS,
    "OBVIOUS": OBVIOUS,
    "COPIES": COPIES,
    "NEAR": NEAR,
    "CLOSEST_RECORD": CLOSEST_RECORD,
    "MEMBERSHIP": MEMBERSHIP,
}

_USE = {
    "replace": "good for training in place of real flows",
    "augment": "good for augmenting real flows",
    "no": "not useful for training",
    "unknown": "usefulness not measured",
}
_SHARE = {
    "yes": "no sign of copying was found",
    "no": "do not share",
    "unknown": "a hold-out is needed to tell whether they can be shared",
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What to do with the synthetic flows."""

    use: str  # "replace", "augment", "no" or "unknown": whether to train on them in place of real flows or beside them
    share: str  # "yes", "no" or "unknown": whether they are free of copies, as far as these tests can tell
    text: str  # both in a sentence, with the first reason not to share
    reasons: list[str]  # arguments for and against, with numbers

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON types."""
        return {"verdict": dataclasses.asdict(self), "reasons": self.reasons}


def verdict(rows: Mapping[str, MetricRow], split: EvaluationSplit) -> Verdict:
    """Judge the metrics, which are given by name."""
    use, why_use = _use(rows, split)
    leaks = _leaks(rows)
    share = "no" if leaks else "yes" if split.holdout_given else "unknown"
    text = f"{_USE[use]}; {_SHARE[share]}" + (f": {leaks[0]}" if leaks else "")
    reasons = [*leaks, *why_use, *_realism(rows), *split.notes]
    if share == "unknown":
        reasons.append(
            "No hold-out was given, so closest-record share and membership inference could not be measured. "
            "Hold real flows out before training, and name them with --holdout."
        )
    return Verdict(use, share, text, reasons)


def _use(rows: Mapping[str, MetricRow], split: EvaluationSplit) -> tuple[str, list[str]]:
    estimates = [rows[f"{name}_ratio"].synthetic for name in ("forest", "network")]
    ratios = [estimate.value for estimate in estimates if estimate is not None]
    if not ratios:
        return "unknown", []
    ratio = sum(ratios) / len(ratios)
    reasons = [f"Trained on them, classifiers reach {ratio:.0%} of the accuracy that real flows give."]
    gains, helpful = [], False
    for name, title in (("forest", "random forest"), ("network", "convolutional network")):
        row = rows[f"{name}_added_macro_f1"]
        if row.synthetic is None or row.reference is None:
            continue
        before, after = row.reference.value, row.synthetic.value
        reasons.append(f"Added to real flows, they change the macro F1 of a {title} from {before:.3f} to {after:.3f}.")
        gains.append(after - before)
        helpful |= row.synthetic.low > before
    if split.missing:
        reasons.append(f"They lack the class{'es' if len(split.missing) > 1 else ''} {', '.join(split.missing)}.")
    harmful = any(gain < -MAX_LOSS for gain in gains)
    if ratio >= REPLACE and not harmful and not split.missing:
        return "replace", reasons
    # a verdict to add flows, while both classifiers lose with them, would contradict the metrics
    worthwhile = not gains or any(gain >= 0 for gain in gains)
    if (ratio >= AUGMENT or helpful) and not harmful and worthwhile:
        return "augment", reasons
    return "no", reasons


def _realism(rows: Mapping[str, MetricRow]) -> list[str]:
    row = rows["real_or_fake_auc"]
    if row.synthetic is None or row.reference is None:
        return []
    above = row.synthetic.value - max(row.reference.value, 0.5)
    result = (
        "pass for real" if above <= PASS else "are obviously synthetic" if above >= OBVIOUS else "can be recognised"
    )
    return [
        f"They {result}: a classifier tells them from real flows with an AUC of {row.synthetic.value:.3f}, "
        f"and real flows from each other with {row.reference.value:.3f}."
    ]


def _leaks(rows: Mapping[str, MetricRow]) -> list[str]:
    """List the signs that training flows were copied, the plainest first."""
    leaks = []
    for name, margin, text in (
        ("exact_copies", COPIES, "equal a real flow"),
        ("shifted_copies", COPIES, "are real flows shifted by a few bins"),
        ("near_share", NEAR, "are nearer to a training flow than 99 % of held-out real flows"),
    ):
        new, reference = _pair(rows[name])
        if new is not None and new.low > reference + margin / 2 and new.value > reference + margin:
            leaks.append(f"{new.value:.1%} of the flows {text} (held-out real flows: {reference:.1%})")
    new, _ = _pair(rows["closest_record_share"])
    if new is not None and new.low > CLOSEST_RECORD:
        leaks.append(
            f"{new.value:.1%} of the flows are nearer to a training flow than to a held-out one (50 % is ideal)"
        )
    new, _ = _pair(rows["membership_auc"])
    if new is not None and new.low > MEMBERSHIP:
        leaks.append(f"an attacker can tell training flows from others with an AUC of {new.value:.3f}")
    return leaks


def _pair(row: MetricRow) -> tuple[Estimate | None, float]:
    return row.synthetic, 0.0 if row.reference is None else row.reference.value
