"""Tables of `fewshot`, and verdicts: is netgen better than jitter and mixup, or worse than real flows alone."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence

from resultlines import Line

SIMPLE = ("jitter", "mixup")
TITLES = {"forest": "Random forest", "network": "Convolutional network"}
#: The one of "netgen" and "both" that `netgen augment --jitter auto` chooses.
CHOSEN = "chosen"
#: Method -> title of its column.
METHODS = {
    "real": "real",
    "jitter": "+ jitter",
    "mixup": "+ mixup",
    "netgen": "+ sampled",
    "both": "+ both",
    CHOSEN: "+ netgen",
}
HEAD = ("set", "real traces per class", *METHODS.values(), "over the better", "over real")
TRAINED = ("netgen", "both")
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1"}


@dataclasses.dataclass(frozen=True)
class Case:
    """A set and number of traces, with one classifier.

    Parameters
    ----------
    lines : dict
        Method -> seed -> line.
    classifier, metric : str
    """

    lines: dict[str, dict[int, Line]]
    classifier: str
    metric: str

    def scores(self, method: str) -> dict[int, float]:
        """Return the score of each seed."""
        return {seed: line[self.classifier][self.metric] for seed, line in self._lines_of(method).items()}

    def _lines_of(self, method: str) -> dict[int, Line]:
        """Return the line of each seed."""
        if method != CHOSEN:
            return self.lines.get(method, {})
        trained = [(seed, line) for name in TRAINED for seed, line in self.lines.get(name, {}).items()]
        return {seed: line for seed, line in trained if line.get("chosen") == line["method"]}

    def mean(self, method: str) -> float | None:
        scores = self.scores(method)
        return statistics.mean(scores.values()) if scores else None

    def best_simple(self) -> str | None:
        """Return jitter or mixup, whichever has the better mean."""
        means = {method: mean for method in SIMPLE if (mean := self.mean(method)) is not None}
        return max(means, key=means.__getitem__) if means else None

    def gain(self, over: str | None) -> tuple[float, float] | None:
        """Return the mean difference of netgen's score and another method's on the same flows, and its noise.

        Noise is two standard errors of the differences over the seeds, or the standard error of a score on the test
        flows if that is more, as with three seeds the former may be small by chance.
        """
        scores, other = self.scores(CHOSEN), self.scores(over) if over else {}
        seeds = sorted(scores.keys() & other.keys())
        if not seeds:
            return None
        differences = [scores[seed] - other[seed] for seed in seeds]
        error = statistics.stdev(differences) / math.sqrt(len(seeds)) if len(seeds) > 1 else 0.0
        score, n_test = scores[seeds[0]], self._lines_of(CHOSEN)[seeds[0]]["test_flows"]
        chance = math.sqrt(max(score * (1 - score), 0.01) / n_test)
        return statistics.mean(differences), max(2 * error, chance)


def report(lines: Sequence[Line], sets: Sequence[str], *, requested: Sequence[int]) -> str:
    """Return all tables, the verdicts and the settings."""
    shown, notes = _one_training(lines)
    sections: list[str] = []
    for classifier, title in TITLES.items():
        for metric, word in METRICS.items():
            sections.append(f"{title}, {word}:\n\n" + _table(shown, sets, requested, classifier, metric))
    if jitter_table := _jitter_table(shown, sets):
        sections.append("Probability of the true class of held-out flows, by cross-validation:\n\n" + jitter_table)
    sections.append("Real + netgen, by mean accuracy:\n\n" + "\n".join(_verdicts(shown, sets)))
    sections.append("\n".join([*notes, *_settings(shown)]))
    return "\n\n".join(sections)


def _one_training(lines: Sequence[Line]) -> tuple[list[Line], list[str]]:
    """Return the lines of netgen's last training and of the other methods, and a note on the lines left out."""
    trained = [line["training"] for line in lines if line["method"] == "netgen"]
    kept = [line for line in lines if line["method"] not in TRAINED or line["training"] == trained[-1]]
    settings = {(line["target"], line["repeats"]) for line in kept if line["method"] == "netgen"}
    if settings:
        target, repeats = next(
            (line["target"], line["repeats"]) for line in reversed(kept) if line["method"] == "netgen"
        )
        kept = [line for line in kept if line["repeats"] == repeats and line["target"] in (target, line["shots"])]
    left = len(lines) - len(kept)
    return kept, [f"{left} results of other trainings or settings of netgen are left out."] if left else []


def cases(lines: Sequence[Line], name: str, classifier: str, metric: str) -> dict[int, Case]:
    """Return the case of each number of traces, for one set."""
    by_shots: dict[int, Case] = {}
    for line in lines:
        if line["set"] == name:
            case = by_shots.setdefault(line["shots"], Case({}, classifier, metric))
            case.lines.setdefault(line["method"], {})[line["seed"]] = line
    return dict(sorted(by_shots.items()))


def _table(lines: Sequence[Line], sets: Sequence[str], requested: Sequence[int], classifier: str, metric: str) -> str:
    rows = [HEAD, ("---",) * len(HEAD)]
    for name in sets:
        for shots, case in cases(lines, name, classifier, metric).items():
            scores = [_spread(case.scores(method)) for method in METHODS]
            rows.append(
                (name, _shots(case, shots, requested), *scores, _gain(case, case.best_simple()), _gain(case, "real"))
            )
    return _markdown(rows)


def _jitter_table(lines: Sequence[Line], sets: Sequence[str]) -> str:
    """Tabulate the cross-validation of jitter for each set and number of traces; empty if there is none."""
    cells: dict[tuple[str, int], dict[int, Line]] = {}
    for line in lines:
        if "jitter_scores" in line:
            cells.setdefault((line["set"], line["shots"]), {})[line["seed"]] = line
    rows = [("set", "real traces per class", "with repeated flows", "with jittered flows", "chosen"), ("---",) * 5]
    for name, shots in sorted(cells, key=lambda key: (sets.index(key[0]), key[1])):
        seeds = cells[name, shots]
        repeated, jittered = (
            {seed: line["jitter_scores"][side] for seed, line in seeds.items()} for side in ("repeated", "jittered")
        )
        chosen = ", ".join(METHODS[seeds[seed]["chosen"]].removeprefix("+ ") for seed in sorted(seeds))
        rows.append((name, str(shots), _spread(repeated), _spread(jittered), chosen))
    return _markdown(rows) if cells else ""


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _shots(case: Case, shots: int, requested: Sequence[int]) -> str:
    """Describe the number of traces, and how many classes have fewer."""
    line = next(iter(next(iter(case.lines.values())).values()))
    fewer = f"; {line['classes_with_fewer']} of {line['classes']} classes have fewer, at least {line['smallest_class']}"
    same = [str(number) for number in requested if number > shots == line["largest_class"]]
    text = f"{shots}{fewer if line['classes_with_fewer'] else ''}"
    return f"{text} (all), also for {' and '.join(same)}" if same else text


def _spread(scores: dict[int, float]) -> str:
    if not scores:
        return "-"
    values = list(scores.values())
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def _gain(case: Case, over: str | None) -> str:
    gain = case.gain(over)
    return "-" if gain is None else f"{gain[0]:+.3f} (noise {gain[1]:.3f})"


def _verdicts(lines: Sequence[Line], sets: Sequence[str]) -> list[str]:
    """Compare accuracies: one line per set and classifier, and the number of sets won."""
    verdicts = []
    for classifier, title in TITLES.items():
        won = sound = seen = 0
        for name in sets:
            by_shots = cases(lines, name, classifier, "accuracy")
            better = {shots: case.gain(case.best_simple()) for shots, case in by_shots.items()}
            lost = {shots: case.gain("real") for shots, case in by_shots.items()}
            if not by_shots or None in better.values() or None in lost.values():
                continue
            seen += 1
            ahead = [shots for shots, gain in better.items() if gain and gain[0] > 0]
            clear = [shots for shots, gain in better.items() if gain and gain[0] > gain[1]]
            below = [shots for shots, gain in lost.items() if gain and gain[0] < -gain[1]]
            won += len(ahead) == len(by_shots)
            sound += not below
            verdicts.append(
                f"* {name}, {title.lower()}: better than both jitter and mixup at {_list(ahead)} traces per class (by "
                f"more than noise: {_list(clear)}); worse than real alone by more than noise: {_list(below)}."
            )
        verdicts.append(
            f"* **{title}: better than jitter and mixup at every number of traces on {won} of {seen} sets; never worse "
            f"than real alone by more than noise on {sound} of {seen}.**"
        )
    return verdicts


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _settings(lines: Sequence[Line]) -> list[str]:
    """Describe settings, machines, commands and times."""
    trained = [line for line in lines if line["method"] == "netgen"]
    seeds = sorted({line["seed"] for line in lines})
    text = [
        f"Mean ± standard deviation over seeds {_list(seeds)}; {lines[-1]['repeats']} classifiers per score. Over the "
        "better: netgen's score minus that of jitter or mixup, whichever has the better mean. Noise: two standard "
        "errors of the paired differences over the seeds, or one of a score on the test flows if that is more."
    ]
    if trained:
        options = json.loads(trained[-1]["training"])
        steps = [line["training_steps"] for line in trained]
        copied, added = sum(line["copies"] for line in trained), sum(line["added"] for line in trained)
        text.append(
            f"Filled up to {trained[-1]['target']} flows per class. netgen: "
            + ", ".join(f"{name} {value}" for name, value in options.items() if value is not None)
            + f"; {min(steps)} to {max(steps)} training steps; {copied} of {added} sampled flows are exact copies."
        )
    for key in ("machine", "accelerator", "command"):
        text += [f"{key.capitalize()}: `{value}`" for value in dict.fromkeys(line[key] for line in lines) if value]
    text.append(f"CPU time: {sum(line['cpu'] for line in lines) / 3600:.1f} hours.")
    return text
