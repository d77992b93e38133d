"""The tables of `fewshot`, and what they say: better than jitter and mixup, or worse than real flows alone?"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence

from resultlines import Line

SIMPLE = ("jitter", "mixup")
TITLES = {"forest": "Random forest", "network": "Convolutional network"}
#: Of "netgen" and "both", the one whose lines say that `netgen augment` takes it when it is not told which.
CHOSEN = "chosen"
#: Way -> what its column is called.
WAYS = {
    "real": "real",
    "jitter": "+ jitter",
    "mixup": "+ mixup",
    "netgen": "+ drawn",
    "both": "+ both",
    CHOSEN: "+ netgen",
}
HEAD = ("set", "real traces a class", *WAYS.values(), "over the better", "over real")
TRAINED = ("netgen", "both")
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A set and number of traces, with one classifier.

    Parameters
    ----------
    lines : dict
        Way -> seed -> line.
    classifier, metric : str
        Which score.
    """

    lines: dict[str, dict[int, Line]]
    classifier: str
    metric: str

    def scores(self, way: str) -> dict[int, float]:
        """Seed -> score."""
        return {seed: line[self.classifier][self.metric] for seed, line in self._of(way).items()}

    def _of(self, way: str) -> dict[int, Line]:
        """Seed -> line."""
        if way != CHOSEN:
            return self.lines.get(way, {})
        told = [(seed, line) for each in TRAINED for seed, line in self.lines.get(each, {}).items()]
        return {seed: line for seed, line in told if line.get("chosen") == line["way"]}

    def mean(self, way: str) -> float | None:
        found = self.scores(way)
        return statistics.mean(found.values()) if found else None

    def best_simple(self) -> str | None:
        """Of jitter and mixup, the one with the better mean."""
        means = {way: mean for way in SIMPLE if (mean := self.mean(way)) is not None}
        return max(means, key=means.__getitem__) if means else None

    def gain(self, over: str | None) -> tuple[float, float] | None:
        """Mean of netgen's score less that of another way on the same draws, and how much of it may be noise.

        Noise is two standard errors of the differences over the seeds, or the standard error of a
        score on so many test flows, if that is more: with three seeds the former may be small by chance.
        """
        mine, other = self.scores(CHOSEN), self.scores(over) if over else {}
        seeds = sorted(mine.keys() & other.keys())
        if not seeds:
            return None
        differences = [mine[seed] - other[seed] for seed in seeds]
        error = statistics.stdev(differences) / math.sqrt(len(seeds)) if len(seeds) > 1 else 0.0
        score, tested = mine[seeds[0]], self._of(CHOSEN)[seeds[0]]["tested"]
        chance = math.sqrt(max(score * (1 - score), 0.01) / tested)
        return statistics.mean(differences), max(2 * error, chance)


def report(lines: Sequence[Line], sets: Sequence[str], *, asked: Sequence[int]) -> str:
    """All tables, the verdicts, and how it was done."""
    shown, notes = _one_training(lines)
    parts: list[str] = []
    for classifier, title in TITLES.items():
        for metric, word in METRICS.items():
            parts.append(f"{title}, {word}:\n\n" + _table(shown, sets, asked, classifier, metric))
    if trials := _trials(shown, sets):
        parts.append("Likelihood of few flows held back, to a forest taught by the others:\n\n" + trials)
    parts.append("Real + netgen, by mean accuracy:\n\n" + "\n".join(_verdicts(shown, sets)))
    parts.append("\n".join([*notes, *_how(shown)]))
    return "\n\n".join(parts)


def _one_training(lines: Sequence[Line]) -> tuple[list[Line], list[str]]:
    """Lines of netgen as it was trained last, and the others; what is left out is said."""
    trained = [line["training"] for line in lines if line["way"] == "netgen"]
    kept = [line for line in lines if line["way"] not in TRAINED or line["training"] == trained[-1]]
    settings = {(line["to"], line["repeats"]) for line in kept if line["way"] == "netgen"}
    if settings:
        to, repeats = next((line["to"], line["repeats"]) for line in reversed(kept) if line["way"] == "netgen")
        kept = [line for line in kept if line["repeats"] == repeats and line["to"] in (to, line["shots"])]
    left = len(lines) - len(kept)
    return kept, [f"{left} results of other trainings or settings of netgen are left out."] if left else []


def cases(lines: Sequence[Line], name: str, classifier: str, metric: str) -> dict[int, Case]:
    """Number of traces -> case, of a set."""
    found: dict[int, Case] = {}
    for line in lines:
        if line["set"] == name:
            case = found.setdefault(line["shots"], Case({}, classifier, metric))
            case.lines.setdefault(line["way"], {})[line["seed"]] = line
    return dict(sorted(found.items()))


def _table(lines: Sequence[Line], sets: Sequence[str], asked: Sequence[int], classifier: str, metric: str) -> str:
    rows = [HEAD, ("---",) * len(HEAD)]
    for name in sets:
        for shots, case in cases(lines, name, classifier, metric).items():
            ways = [_spread(case.scores(way)) for way in WAYS]
            rows.append((name, _shots(case, shots, asked), *ways, _gain(case, case.best_simple()), _gain(case, "real")))
    return _markdown(rows)


def _trials(lines: Sequence[Line], sets: Sequence[str]) -> str:
    """What the trials of jitter found, of all seeds of a set and number of traces; nothing if there was none."""
    found: dict[tuple[str, int], dict[int, Line]] = {}
    for line in lines:
        if "trial" in line:
            found.setdefault((line["set"], line["shots"]), {})[line["seed"]] = line
    rows = [("set", "real traces a class", "taught by repeated ones", "by jittered ones", "taken"), ("---",) * 5]
    for name, shots in sorted(found, key=lambda key: (sets.index(key[0]), key[1])):
        each = found[name, shots]
        again, near = ({seed: line["trial"][what] for seed, line in each.items()} for what in ("repeated", "jittered"))
        taken = ", ".join(WAYS[each[seed]["chosen"]].removeprefix("+ ") for seed in sorted(each))
        rows.append((name, str(shots), _spread(again), _spread(near), taken))
    return _markdown(rows) if found else ""


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _shots(case: Case, shots: int, asked: Sequence[int]) -> str:
    """How many were taken, and where a class has fewer."""
    line = next(iter(next(iter(case.lines.values())).values()))
    fewer = f"; {line['short']} of {line['classes']} classes have fewer, {line['fewest']} at least"
    same = [str(each) for each in asked if each > shots == line["most"]]
    text = f"{shots}{fewer if line['short'] else ''}"
    return f"{text}; all there are, for {' and '.join(same)} too" if same else text


def _spread(scores: dict[int, float]) -> str:
    if not scores:
        return "-"
    values = list(scores.values())
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def _gain(case: Case, over: str | None) -> str:
    found = case.gain(over)
    return "-" if found is None else f"{found[0]:+.3f} (noise {found[1]:.3f})"


def _verdicts(lines: Sequence[Line], sets: Sequence[str]) -> list[str]:
    """A line a set and classifier, and how many sets are won, by accuracy."""
    said = []
    for classifier, title in TITLES.items():
        won = sound = seen = 0
        for name in sets:
            found = cases(lines, name, classifier, "accuracy")
            better = {shots: case.gain(case.best_simple()) for shots, case in found.items()}
            lost = {shots: case.gain("real") for shots, case in found.items()}
            if not found or None in better.values() or None in lost.values():
                continue
            seen += 1
            ahead = [shots for shots, gain in better.items() if gain and gain[0] > 0]
            clear = [shots for shots, gain in better.items() if gain and gain[0] > gain[1]]
            below = [shots for shots, gain in lost.items() if gain and gain[0] < -gain[1]]
            won += len(ahead) == len(found)
            sound += not below
            said.append(
                f"* {name}, {title.lower()}: better than both jitter and mixup at {_list(ahead)} traces a class (by "
                f"more than noise: {_list(clear)}); worse than real alone by more than noise: {_list(below)}."
            )
        said.append(
            f"* **{title}: better than jitter and mixup at every number of traces on {won} of {seen} sets; never worse "
            f"than real alone by more than noise on {sound} of {seen}.**"
        )
    return said


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _how(lines: Sequence[Line]) -> list[str]:
    """Settings, machines, commands and times."""
    drawn = [line for line in lines if line["way"] == "netgen"]
    seeds = sorted({line["seed"] for line in lines})
    said = [
        f"Mean ± standard deviation over seeds {_list(seeds)}; {lines[-1]['repeats']} classifiers a score. Over the "
        "better: netgen's score less that of jitter or mixup, whichever has the better mean. Noise: two standard "
        "errors of the paired differences over the seeds, or one of a score on so many test flows, if that is more."
    ]
    if drawn:
        facts = json.loads(drawn[-1]["training"])
        steps = [line["training_steps"] for line in drawn]
        copied, added = sum(line["copies"] for line in drawn), sum(line["added"] for line in drawn)
        said.append(
            f"Topped up to {drawn[-1]['to']} flows a class. netgen: "
            + ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
            + f"; {min(steps)} to {max(steps)} steps of training; {copied} of {added} flows drawn are exact copies."
        )
    for what in ("machine", "accelerator", "command"):
        said += [f"{what.capitalize()}: `{each}`" for each in dict.fromkeys(line[what] for line in lines) if each]
    said.append(f"CPU time: {sum(line['cpu'] for line in lines) / 3600:.1f} hours.")
    return said
