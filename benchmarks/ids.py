"""Train an IDS on imbalanced data: does a model of the few attack flows help more than repeating them?

    python benchmarks/ids.py --minutes 6 --seeds 0 1 2 --threads 1

A seed draws from certta_flows a training set in which the attacks are rare: all flows of the three
benign classes, a few of each of the six attacks. Whatever balances it again sees this set only. A
random forest learns from each balanced set, and is tested on the data's own test split, which
nothing else has seen. Nothing was chosen by a score on that split: budget, number of flows and
settings were fixed before the first run.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score, recall_score
from tracesets import load, there

import netgen
from netgen import FlowTable
from netgen.augmentation.jitter_selection import cross_validate_jitter
from netgen.evaluation.feature_spaces import cumulative

#: All other classes are benign.
ATTACKS = (
    "CICDOH20-DNS2TCP",
    "CICDOH20-DNSCat2",
    "CICDOH20-Iodine",
    "TIISSRC23-BruteForce_http",
    "TIISSRC23-BruteForce_telnet",
    "TIISSRC23-Mirai",
)

Flows = tuple[np.ndarray, np.ndarray]  # series (flows, channels, bins) and labels (flows,)
Balance = Callable[[FlowTable, dict[str, int], np.random.Generator], Flows]


def imbalanced(table: FlowTable, keep: int, generator: np.random.Generator) -> FlowTable:
    """All benign flows, and `keep` flows of each attack."""
    rows = [
        generator.permutation(np.flatnonzero(table.labels == name))[: keep if name in ATTACKS else None]
        for name in table.classes
    ]
    return table.take(np.sort(np.concatenate(rows)))


def missing(table: FlowTable) -> dict[str, int]:
    """Class -> flows that it has less than the largest."""
    counts = table.counts()
    return {name: max(counts.values()) - number for name, number in counts.items() if number < max(counts.values())}


# --- ways to make up for what is missing; each returns the added flows ---


def repeated(table: FlowTable, wanted: dict[str, int], generator: np.random.Generator) -> Flows:
    """Real flows again (random oversampling)."""
    rows = [generator.choice(np.flatnonzero(table.labels == name), number) for name, number in wanted.items()]
    return table.take(np.concatenate(rows)).to_numpy()


def jittered(table: FlowTable, wanted: dict[str, int], generator: np.random.Generator) -> Flows:
    """Real flows again, every number of them times exp(N(0, 0.1))."""
    series, labels = repeated(table, wanted, generator)
    return np.rint(series * np.exp(generator.normal(0, 0.1, series.shape))).astype(np.int64), labels


def interpolated(table: FlowTable, wanted: dict[str, int], generator: np.random.Generator) -> Flows:
    """Points between a real flow and one of its 5 nearest of the class (SMOTE; Chawla and others, 2002)."""
    parts, names = [], []
    for name, number in wanted.items():
        series = table.take(table.labels == name).series()
        flat = np.log1p(series.reshape(len(series), -1))
        nearest = np.linalg.norm(flat[:, None] - flat, axis=-1).argsort(axis=1)[:, 1:6]
        first = generator.integers(len(series), size=number)
        second = nearest[first, generator.integers(nearest.shape[1], size=number)]
        share = generator.random((number, 1, 1))
        parts.append(np.rint(series[first] * (1 - share) + series[second] * share).astype(np.int64))
        names += [name] * number
    return np.concatenate(parts), np.array(names, dtype=object)


def drawn(arguments: argparse.Namespace, seed: int, model: Path, jitter: float = 0.0) -> Balance:
    """Flows of a netgen model that learnt from the imbalanced table, kept at `model`, and a share of jittered ones."""

    def balance(table: FlowTable, wanted: dict[str, int], generator: np.random.Generator) -> Flows:
        begun = time.perf_counter()
        # eight flows of an attack are all there is
        training = {
            "minutes": arguments.minutes,
            "training_steps": arguments.steps,
            "validation": 0,
            "save_model": model,
        }
        new = netgen.augment(
            table,
            seed=seed,
            threads=arguments.threads,
            sampling_steps=arguments.sampling_steps,
            jitter=jitter,
            only_synthetic=True,
            **({"model": model} if model.is_file() else training),
        )
        trained = netgen.load(model).training
        print(
            f"seed {seed}: {trained['steps']} steps of training ({trained['precision']}), {len(new)} flows added, "
            f"{jitter:.0%} jittered, {time.perf_counter() - begun:.0f} s, {copies(table, new)} of them exact copies",
            flush=True,
        )
        return new.to_numpy()

    return balance


def copies(real: FlowTable, new: FlowTable) -> int:
    known = {each.tobytes() for each in np.ascontiguousarray(real.series())}
    return sum(each.tobytes() in known for each in np.ascontiguousarray(new.series()))


# --- the classifier ---


def scores(train: Flows, test: Flows, *, forests: int, trees: int, weight: str | None = None) -> dict[str, float]:
    """Means over some forests: macro F1, attacks detected, false alarms, and the recall of each class."""
    truth = test[1].astype(str)
    classes = np.unique(truth)
    found = []
    for seed in range(forests):
        forest = RandomForestClassifier(trees, random_state=seed, class_weight=weight, n_jobs=1)
        said = forest.fit(cumulative(train[0]), train[1].astype(str)).predict(cumulative(test[0]))
        alarm, attack = np.isin(said, ATTACKS), np.isin(truth, ATTACKS)
        recalls = recall_score(truth, said, labels=classes, average=None, zero_division=0)
        found.append(
            {
                "macro F1": f1_score(truth, said, labels=classes, average="macro", zero_division=0),
                "attacks detected": alarm[attack].mean(),
                "false alarms": alarm[~attack].mean(),
                **dict(zip(classes, recalls, strict=True)),
            }
        )
    return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


def joined(first: Flows, second: Flows) -> Flows:
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])


def one_seed(seed: int, full: FlowTable, test: FlowTable, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Way -> scores, with one draw of the rare flows."""
    real = imbalanced(full, arguments.keep, np.random.default_rng(seed))
    wanted = missing(real)
    trial = cross_validate_jitter(real, seed)
    print(f"seed {seed}: {real.counts()}; augment would choose {trial.fraction:.0%} jittered: {trial}", flush=True)
    trees = {"forests": arguments.forests, "trees": arguments.trees}
    held = test.to_numpy()
    found = {
        "real alone": scores(real.to_numpy(), held, **trees),
        "real, classes weighted": scores(real.to_numpy(), held, weight="balanced", **trees),
    }
    ways: dict[str, Balance] = {"repeated": repeated, "jittered": jittered, "interpolated (SMOTE)": interpolated}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "ids.safetensors")
        ways |= {
            "drawn by netgen": drawn(arguments, seed, model),
            "drawn by netgen, half jittered": drawn(arguments, seed, model, jitter=0.5),
        }
        for name, balance in ways.items():
            added = balance(real, wanted, np.random.default_rng(seed))
            found[f"real + {name}"] = scores(joined(real.to_numpy(), added), held, **trees)
    found["all real flows, none left out"] = scores(full.to_numpy(), held, **trees)
    for name, row in found.items():
        print(f"  {name}: macro F1 {row['macro F1']:.3f}", flush=True)
    return found


def report(runs: list[dict[str, dict[str, float]]], test: FlowTable) -> None:
    """Two tables: the ways, and the recall of each class."""

    def mean(way: str, what: str) -> float:
        return float(np.mean([run[way][what] for run in runs]))

    print("\n| forest trained on | macro F1 | in each run | attacks detected | false alarms |\n|---|---|---|---|---|")
    for way in runs[0]:
        each = ", ".join(f"{run[way]['macro F1']:.3f}" for run in runs)
        rest = f"{mean(way, 'attacks detected'):.3f} | {mean(way, 'false alarms'):.3f}"
        print(f"| {way} | {mean(way, 'macro F1'):.3f} | {each} | {rest} |")
    print("\n| recall of | test flows | " + " | ".join(runs[0]) + " |\n|---|---|" + "---|" * len(runs[0]))
    for name, number in test.counts().items():
        what = f"{name} (attack)" if name in ATTACKS else name
        print(f"| {what} | {number} | " + " | ".join(f"{mean(way, name):.2f}" for way in runs[0]) + " |")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6, help="of training a seed")
    parser.add_argument("--steps", type=int, help="stop the training after so many")
    parser.add_argument("--sampling-steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=int, default=8, help="flows of each attack")
    parser.add_argument("--forests", type=int, default=5, help="forests a way, whose scores are averaged")
    parser.add_argument("--trees", type=int, default=200)
    arguments = parser.parse_args()
    missing_data = there()
    if missing_data:
        print(missing_data, file=sys.stderr)
        return 1
    full, test = load("certta")
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{full.spec}; {len(full)} flows to train on, {len(test)} to test on", flush=True)
    report([one_seed(seed, full, test, arguments) for seed in arguments.seeds], test)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
