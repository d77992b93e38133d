"""The tables of `fidelity`: means and spreads over seeds, and what must hold beside what was found."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

Line = dict[str, Any]

#: What lines do not say that were written before it could be asked for.
OF_BEFORE: Line = {"times": 1}

#: The paper's recipe at full size: 1000 steps of 177 GFLOP.
PAPER_FLOPS = 177e12


def of(name: str) -> Callable[[Line], float | None]:
    return lambda line: line["metrics"].get(name)


def over_real(name: str) -> Callable[[Line], float | None]:
    def ratio(line: Line) -> float | None:
        value, floor = line["metrics"].get(name), line["reference"].get(name)
        return value / floor if value is not None and floor else None

    return ratio


def above_real(name: str) -> Callable[[Line], float | None]:
    def gap(line: Line) -> float | None:
        value, floor = line["metrics"].get(name), line["reference"].get(name)
        return None if value is None or floor is None else value - floor

    return gap


def mover(channel: str) -> Callable[[Line], float | None]:
    def ratio(line: Line) -> float | None:
        value, floor = line["earth_movers"].get(channel), line["floor_earth_movers"].get(channel)
        return value / floor if value is not None and floor else None

    return ratio


def movers(line: Line) -> float | None:
    """The mean over the channels, over that of real flows."""
    value, floor = line["earth_movers"].values(), line["floor_earth_movers"].values()
    return sum(value) / sum(floor) if sum(floor) else None


def cost(name: str, unit: float = 1.0) -> Callable[[Line], float | None]:
    return lambda line: line["cost"][name] / unit if name in line["cost"] else None


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: its head, what of a line stands in it, and how it is written."""

    head: str
    value: Callable[[Line], float | None]
    form: str = ".3f"


USEFUL = (
    Column("forest: accuracy", of("forest_accuracy")),
    Column("over real", of("forest_ratio")),
    Column("forest: macro F1", of("forest_macro_f1")),
    Column("over real", over_real("forest_macro_f1")),
    Column("CNN: accuracy", of("network_accuracy")),
    Column("over real", of("network_ratio")),
    Column("CNN: macro F1", of("network_macro_f1")),
    Column("over real", over_real("network_macro_f1")),
    Column("many flows: times", lambda line: line["times"] if "forest_many_ratio" in line["metrics"] else None, "g"),
    Column("forest over real", of("forest_many_ratio")),
    Column("CNN over real", of("network_many_ratio")),
)
REAL = (
    Column("real-or-fake AUC", of("real_or_fake_auc")),
    Column("above real", above_real("real_or_fake_auc")),
    Column("earth mover's over real", movers, ".2f"),
    *(
        Column(channel.replace("_", " "), mover(channel), ".2f")
        for channel in ("up_bytes", "down_bytes", "up_packets", "down_packets")
    ),
    Column("totals", of("totals")),
    Column("autocorrelation", of("autocorrelation")),
    Column("run lengths", of("runs")),
    Column("Frechet", of("frechet"), ".2f"),
    Column("over real", over_real("frechet"), ".2f"),
)
PRIVATE = (
    Column("precision", of("precision")),
    Column("recall", of("recall")),
    Column("density", of("density")),
    Column("coverage", of("coverage")),
    Column("closest-record share", of("closest_record_share")),
    Column("membership AUC", of("membership_auc")),
    Column("exact copies", of("exact_copies")),
    Column("above real", above_real("exact_copies")),
)
COST = (
    Column("budget, minutes", lambda line: line["minutes"], "g"),
    Column("trained, minutes", cost("train_minutes"), ".1f"),
    Column("steps", cost("steps"), ",.0f"),
    Column("million parameters", cost("parameters", 1e6), ".3g"),
    Column("GFLOP a sample", cost("flops", 1e9), ".4g"),
    Column("flows a second", cost("flows_per_second"), ",.0f"),
)
TABLES = {
    "Usefulness: trained on these flows, tested on real ones": USEFUL,
    "Realism: distance to the test flows": REAL,
    "Coverage and privacy": PRIVATE,
    "Cost": COST,
}


@dataclasses.dataclass(frozen=True)
class Row:
    """All seeds of a set and a method, at one budget and commit."""

    set: str
    method: str
    lines: tuple[Line, ...]

    def values(self, value: Callable[[Line], float | None]) -> list[float]:
        """Of the seeds that have one."""
        found = (value(line) for line in self.lines)
        return [each for each in found if each is not None and not math.isnan(each)]

    def mean(self, value: Callable[[Line], float | None]) -> float | None:
        values = self.values(value)
        return statistics.fmean(values) if values else None

    def cell(self, column: Column) -> str:
        """Mean and standard deviation over the seeds; how many, where that is not all of the row."""
        values = self.values(column.value)
        if not values:
            return "-"
        text = format(statistics.fmean(values), column.form)
        if len(values) > 1 and column.form != "g":
            text += f" ± {format(statistics.stdev(values), column.form)}"
        return text if len(values) == len(self.lines) else f"{text} (n={len(values)})"


def rows(lines: Iterable[Line], order: list[str]) -> tuple[list[Row], int]:
    """A row for each set and method, of the budget and commit that were written last; how many lines are left out."""
    found: dict[tuple[str, str], dict[tuple[Any, ...], dict[int, Line]]] = {}
    number = 0
    for line in ({**OF_BEFORE, **each} for each in lines):
        number += 1
        groups = found.setdefault((line["set"], line["method"]), {})
        how = tuple(line[name] for name in ("minutes", "threads", "flows", "times", "device", "commit"))
        seeds = groups.pop(how, {})
        groups[how] = {**seeds, line["seed"]: line}  # the last written comes last
    made = []
    for (name, method), groups in found.items():
        last = list(groups.values())[-1]
        made.append(Row(name, method, tuple(last[seed] for seed in sorted(last))))
    places = {name: place for place, name in enumerate(order)}
    made.sort(key=lambda row: (places.get(row.set, len(places)), _place(row.method)))
    return made, number - sum(len(row.lines) for row in made)


def _place(method: str) -> tuple[int, str]:
    order = ("real", "bootstrap", "jitter", "vae", "doppelganger", "netdiffus")
    return (order.index(method) if method in order else len(order), method)


def table(made: list[Row], columns: tuple[Column, ...]) -> str:
    """Markdown."""
    heads = ["set", "method", "seeds", *(column.head for column in columns)]
    out = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in made:
        cells = [row.set, row.method, str(len(row.lines)), *(row.cell(column) for column in columns)]
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


# --- what must hold ---


@dataclasses.dataclass(frozen=True)
class Check:
    """What is needed of a row and what was found; `holds` is None where it cannot be told."""

    what: str
    needed: str
    found: str
    holds: bool | None


def _check(what: str, needed: str, value: float | None, holds: Callable[[float], bool], form: str = ".3f") -> Check:
    if value is None:
        return Check(what, needed, "-", None)
    return Check(what, needed, format(value, form), holds(value))


def _against(row: Row, other: Row | None, name: str, least: float, value: str, *, low: bool) -> Check:
    """A figure in units of a peer's on the same set, which must be at least so much, or at most."""
    title = {"forest_accuracy": "forest's accuracy", "frechet": "Frechet distance"}[value]
    needed = f"{'at most' if low else 'at least'} {least:.3f}" if least != 1 else "above 1"
    what = f"{title} over {name}'s"
    ours, theirs = row.mean(of(value)), other.mean(of(value)) if other else None
    if ours is None or not theirs:
        return Check(what, needed, "-", None)
    ratio = ours / theirs
    holds = ratio <= least if low else ratio > 1 if least == 1 else ratio >= least
    budgets = {each.lines[0]["minutes"] for each in (row, other) if each is not None}
    note = "" if len(budgets) == 1 else f" ({' and '.join(f'{each:g}' for each in sorted(budgets))} minutes)"
    return Check(what, needed, f"{ratio:.3f}{note}", holds)


def checks(row: Row, others: dict[str, Row]) -> list[Check]:
    """The thresholds, of one method on one set; `others` are the rows of that set."""
    gan, paper = others.get("doppelganger"), others.get("netdiffus")
    minutes = 20 if row.set == "tor-20" else 10
    # a budget ends with the step under way, and start and checks are counted: a hundredth is no more than that
    return [
        _check("forest's accuracy over real", "at least 0.97", row.mean(of("forest_ratio")), lambda x: x >= 0.97),
        _check("CNN's accuracy over real", "at least 0.97", row.mean(of("network_ratio")), lambda x: x >= 0.97),
        _check("the forest's, of many flows", "at least 0.97", row.mean(of("forest_many_ratio")), lambda x: x >= 0.97),
        _check("the CNN's, of many flows", "at least 0.97", row.mean(of("network_many_ratio")), lambda x: x >= 0.97),
        _against(row, gan, "DoppelGANger", 1.181, "forest_accuracy", low=False),
        _against(row, paper, "netdiffus", 1, "forest_accuracy", low=False),
        _against(row, gan, "DoppelGANger", 1 / 3, "frechet", low=True),
        _against(row, paper, "netdiffus", 1 / 3, "frechet", low=True),
        _check(
            "real-or-fake AUC above real", "at most 0.03", row.mean(above_real("real_or_fake_auc")), lambda x: x <= 0.03
        ),
        _check("earth mover's over real", "at most 1.2", row.mean(movers), lambda x: x <= 1.2),
        _check(
            "closest-record share", "0.45 to 0.55", row.mean(of("closest_record_share")), lambda x: 0.45 <= x <= 0.55
        ),
        _check("membership AUC", "at most 0.55", row.mean(of("membership_auc")), lambda x: x <= 0.55),
        _check("exact copies above real", "at most 0", row.mean(above_real("exact_copies")), lambda x: x <= 0),
        _check(
            "training, minutes", f"at most {minutes}", row.mean(cost("train_minutes")),
            lambda x: x <= 1.01 * minutes, ".1f",
        ),
        _check("flows a second", "at least 200", row.mean(cost("flows_per_second")), lambda x: x >= 200, ",.0f"),
        _check(
            "177 TFLOP over FLOPs a sample", "at least 10,000",
            None if (flops := row.mean(cost("flops"))) is None else PAPER_FLOPS / flops,
            lambda x: x >= 10_000, ",.0f",
        ),
    ]  # fmt: skip


def verdicts(made: list[Row]) -> str:
    """The thresholds of every method of netgen."""
    out = ["| set | method | seeds | what | needed | found | holds |", "|" + "---|" * 7]
    for row in made:
        if not row.method.startswith("netgen"):
            continue
        for check in checks(row, {other.method: other for other in made if other.set == row.set}):
            holds = "not measured" if check.holds is None else "yes" if check.holds else "NO"
            cells = (row.set, row.method, str(len(row.lines)), check.what, check.needed, check.found, holds)
            out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out) if len(out) > 2 else "No job of netgen is done, so there is nothing to judge."


def report(lines: list[Line], order: list[str]) -> str:
    """All tables, machine and command."""
    made, left = rows(lines, order)
    shown = [line for row in made for line in row.lines]
    out = [f"Machine: {each}" for each in sorted({_machine(line) for line in shown})]
    out += [f"Command: `{each}`" for each in sorted({line["command"] for line in shown})]
    out += [f"Commit of netgen: {', '.join(sorted({line['commit'] for line in shown}))}."]
    if left:
        out.append(
            f"{left} lines of the results, of other budgets, settings or commits, or written again, are not shown."
        )
    for title, columns in TABLES.items():
        out += [f"### {title}", table(made, columns)]
    notes = [f"* {row.set}, {row.method}, seed {line['seed']}: {text}" for row in made for line in row.lines
             if (text := _note(line))]  # fmt: skip
    if notes:
        out += ["### Notes", "\n".join(notes)]
    out += ["### What must hold, mean of the seeds", verdicts(made)]
    return "\n\n".join(out)


def _machine(line: Line) -> str:
    """Without its load, which each job has its own of."""
    return line["machine"].split(", load before")[0] + f", {line['device']}"


def _note(line: Line) -> str:
    missing = line["missing"]
    lacks = f"lacks {len(missing)} classes: {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
    return "; ".join(each for each in (line["said"], lacks if missing else "") if each)
