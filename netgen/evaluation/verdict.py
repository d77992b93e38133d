"""From figures to a verdict that a person can act on, by thresholds that are written down here.

``docs/evaluation.md`` explains them; a test holds the two equal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from netgen.evaluation.estimate import Estimate
from netgen.evaluation.metrics import MetricRow
from netgen.evaluation.split import EvaluationSplit

#: Accuracy trained on new flows, over that trained on real ones, of both classifiers on average:
#: from here on they can be trained on in place of real ones; from here on they are of use beside them.
REPLACE, AUGMENT = 0.95, 0.75

#: Macro F1 that training on both may lose against real flows alone.
HARM = 0.02

#: Real-or-fake AUC above that of real flows: up to here they pass for real; from here on they are told at once.
PASS, TOLD = 0.05, 0.35

#: Share of exact or shifted copies above that among unseen real flows.
COPIES = 0.01

#: Share of suspiciously near flows above that of unseen real flows.
NEAR = 0.02

#: Closest-record share and membership AUC, lower end of the interval.
CLOSEST = MEMBERSHIP = 0.55

THRESHOLDS = {
    "REPLACE": REPLACE,
    "AUGMENT": AUGMENT,
    "HARM": HARM,
    "PASS": PASS,
    "TOLD": TOLD,
    "COPIES": COPIES,
    "NEAR": NEAR,
    "CLOSEST": CLOSEST,
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
    "unknown": "whether they can be shared needs a hold-out to tell",
}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What to do with the new flows.

    Parameters
    ----------
    use : {"replace", "augment", "no", "unknown"}
        Whether to train on them: in place of real flows, beside them, or not at all.
    share : {"yes", "no", "unknown"}
        Whether they are free of copies, as far as that can be told.
    text : str
        Both in a sentence, with the first reason not to share.
    reasons : list of str
        What speaks for and against, with figures.
    """

    use: str
    share: str
    text: str
    reasons: list[str]

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {"verdict": dataclasses.asdict(self) | {"reasons": self.reasons}, "reasons": self.reasons}


def verdict(rows: Mapping[str, MetricRow], sets: EvaluationSplit) -> Verdict:
    """Judge the figures.

    Parameters
    ----------
    rows : mapping of str to Row
        By name of the measure.
    sets : Sets
        What was compared.
    """
    use, why_use = _use(rows, sets)
    leaks = _leaks(rows)
    share = "no" if leaks else "yes" if sets.unseen else "unknown"
    text = f"{_USE[use]}; {_SHARE[share]}" + (f": {leaks[0]}" if leaks else "")
    reasons = [*leaks, *why_use, *_realism(rows), *sets.notes]
    if share == "unknown":
        reasons.append(
            "No hold-out was given, so closest-record share and membership inference could not be measured. "
            "Hold real flows back before training, and name them with --holdout."
        )
    return Verdict(use, share, text, reasons)


def _use(rows: Mapping[str, MetricRow], sets: EvaluationSplit) -> tuple[str, list[str]]:
    found = [rows[f"{name}_ratio"].synth for name in ("forest", "network")]
    known = [each for each in found if each is not None]
    if not known:
        return "unknown", []
    ratio = sum(each.value for each in known) / len(known)
    reasons = [f"Trained on them, classifiers reach {ratio:.0%} of the accuracy that real flows bring."]
    harmful = helpful = False
    for name, title in (("forest", "random forest"), ("network", "convolutional network")):
        row = rows[f"{name}_added_macro_f1"]
        if row.synth is None or row.floor is None:
            continue
        gain = row.synth.value - row.floor.value
        reasons.append(
            f"Beside real flows, they bring a {title}'s macro F1 from {row.floor.value:.3f} to {row.synth.value:.3f}."
        )
        harmful |= gain < -HARM
        helpful |= row.synth.low > row.floor.value
    if sets.missing:
        several = len(sets.missing) > 1
        reasons.append(f"They lack the class{'es' if several else ''} {', '.join(sets.missing)}.")
    if ratio >= REPLACE and not harmful and not sets.missing:
        return "replace", reasons
    if (ratio >= AUGMENT or helpful) and not harmful:
        return "augment", reasons
    return "no", reasons


def _realism(rows: Mapping[str, MetricRow]) -> list[str]:
    row = rows["told_apart"]
    if row.synth is None or row.floor is None:
        return []
    above = row.synth.value - max(row.floor.value, 0.5)
    how = "pass for real" if above <= PASS else "are told from real ones at once" if above >= TOLD else "can be told"
    tail = " from real ones" if how == "can be told" else ""
    return [
        f"They {how}{tail}: a classifier tells them apart with an AUC of {row.synth.value:.3f}, "
        f"real ones from each other with {row.floor.value:.3f}."
    ]


def _leaks(rows: Mapping[str, MetricRow]) -> list[str]:
    """What says that training flows were copied, the plainest first."""
    found = []
    for name, text in (
        ("exact_copies", "are exact copies of a real flow"),
        ("shifted_copies", "are real flows moved by a bin or so"),
    ):
        new, floor = _pair(rows[name])
        if new is not None and new.low > floor + COPIES / 2 and new.value > floor + COPIES:
            found.append(f"{new.value:.1%} of rows {text} (among unseen real flows: {floor:.1%})")
    new, floor = _pair(rows["near_share"])
    if new is not None and new.low > floor + NEAR / 2 and new.value > floor + NEAR:
        found.append(
            f"{new.value:.1%} of rows lie nearer to a training row than 99 % of unseen real ones do "
            f"(among these: {floor:.1%})"
        )
    new, _ = _pair(rows["closest_share"])
    if new is not None and new.low > CLOSEST:
        found.append(f"{new.value:.1%} of rows lie nearer to a training row than to a held-back one (50 % is ideal)")
    new, _ = _pair(rows["membership"])
    if new is not None and new.low > MEMBERSHIP:
        found.append(f"an attacker tells with an AUC of {new.value:.3f} which real flows were learnt from")
    return found


def _pair(row: MetricRow) -> tuple[Estimate | None, float]:
    return row.synth, 0.0 if row.floor is None else row.floor.value
