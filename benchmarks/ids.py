"""Train an intrusion detection system on imbalanced data, balanced by a model or by simpler methods.

    python benchmarks/ids.py --minutes 6 --seeds 0 1 2 --threads 1

Each seed samples a training set from certta_flows in which attacks are rare: all flows of the three benign classes, and
a few of each of the six attacks. Every method sees this set only. A random forest learns from each balanced set, and is
tested on the test split of the data. No setting was chosen with that split: budget, number of flows and all other
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
from tracesets import load, missing_data

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


def make_imbalanced(table: FlowTable, keep: int, rng: np.random.Generator) -> FlowTable:
    """Keep all benign flows, and `keep` flows of each attack."""
    rows = [
        rng.permutation(np.flatnonzero(table.labels == name))[: keep if name in ATTACKS else None]
        for name in table.classes
    ]
    return table.take(np.sort(np.concatenate(rows)))


def class_deficits(table: FlowTable) -> dict[str, int]:
    """Count the flows that each class has less than the largest one."""
    counts = table.counts()
    return {name: max(counts.values()) - count for name, count in counts.items() if count < max(counts.values())}


# --- methods: each returns the flows that it adds ---


def repeat_flows(table: FlowTable, counts: dict[str, int], rng: np.random.Generator) -> Flows:
    """Repeat real flows (random oversampling)."""
    rows = [rng.choice(np.flatnonzero(table.labels == name), count) for name, count in counts.items()]
    return table.take(np.concatenate(rows)).to_numpy()


def jitter(table: FlowTable, counts: dict[str, int], rng: np.random.Generator) -> Flows:
    """Repeat real flows, and multiply each number by exp(N(0, 0.1))."""
    series, labels = repeat_flows(table, counts, rng)
    return np.rint(series * np.exp(rng.normal(0, 0.1, series.shape))).astype(np.int64), labels


def smote(table: FlowTable, counts: dict[str, int], rng: np.random.Generator) -> Flows:
    """Interpolate between a real flow and one of its 5 nearest of the class (Chawla and others, 2002)."""
    added, labels = [], []
    for name, count in counts.items():
        series = table[name].series()
        points = np.log1p(series.reshape(len(series), -1))
        nearest = np.linalg.norm(points[:, None] - points, axis=-1).argsort(axis=1)[:, 1:6]
        first = rng.integers(len(series), size=count)
        second = nearest[first, rng.integers(nearest.shape[1], size=count)]
        weight = rng.random((count, 1, 1))
        added.append(np.rint(series[first] * (1 - weight) + series[second] * weight).astype(np.int64))
        labels += [name] * count
    return np.concatenate(added), np.array(labels, dtype=object)


def augment_with_netgen(
    table: FlowTable, arguments: argparse.Namespace, seed: int, path: Path, fraction: float = 0.0
) -> Flows:
    """Sample flows from the model at `path`, which is trained on the table if absent; jitter a fraction of them."""
    start = time.perf_counter()
    # validation would hold out some of the eight flows of an attack
    training = {
        "minutes": arguments.minutes, "training_steps": arguments.steps, "validation": 0, "save_model": path,
    }  # fmt: skip
    flows = netgen.augment(
        table, seed=seed, threads=arguments.threads, sampling_steps=arguments.sampling_steps, jitter=fraction,
        only_synthetic=True, **({"model": path} if path.is_file() else training),
    )  # fmt: skip
    training = netgen.load(path).training
    print(
        f"seed {seed}: {training['steps']} training steps ({training['precision']}), {len(flows)} flows added, "
        f"{fraction:.0%} jittered, {time.perf_counter() - start:.0f} s, {count_copies(table, flows)} exact copies",
        flush=True,
    )
    return flows.to_numpy()


def count_copies(real: FlowTable, flows: FlowTable) -> int:
    """Count the flows whose series equals that of a real flow."""
    known = {series.tobytes() for series in np.ascontiguousarray(real.series())}
    return sum(series.tobytes() in known for series in np.ascontiguousarray(flows.series()))


# --- the classifier ---


def score(train: Flows, test: Flows, *, forests: int, trees: int, weight: str | None = None) -> dict[str, float]:
    """Average over forests: macro F1, attacks detected, false alarms, and the recall of each class."""
    truth = test[1].astype(str)
    classes = np.unique(truth)
    rows = []
    for seed in range(forests):
        forest = RandomForestClassifier(trees, random_state=seed, class_weight=weight, n_jobs=1)
        predicted = forest.fit(cumulative(train[0]), train[1].astype(str)).predict(cumulative(test[0]))
        alarm, attack = np.isin(predicted, ATTACKS), np.isin(truth, ATTACKS)
        recalls = recall_score(truth, predicted, labels=classes, average=None, zero_division=0)
        rows.append(
            {
                "macro F1": f1_score(truth, predicted, labels=classes, average="macro", zero_division=0),
                "attacks detected": alarm[attack].mean(),
                "false alarms": alarm[~attack].mean(),
                **dict(zip(classes, recalls, strict=True)),
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def run_seed(seed: int, full: FlowTable, test: FlowTable, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the scores of each method, with one sample of the rare flows."""
    real = make_imbalanced(full, arguments.keep, np.random.default_rng(seed))
    counts = class_deficits(real)
    scores = cross_validate_jitter(real, seed)
    print(f"seed {seed}: {real.counts()}; augment would jitter {scores.fraction:.0%}: {scores}", flush=True)
    forest = {"forests": arguments.forests, "trees": arguments.trees}
    held_out = test.to_numpy()
    rows = {
        "real alone": score(real.to_numpy(), held_out, **forest),
        "real, class weights": score(real.to_numpy(), held_out, weight="balanced", **forest),
    }
    methods: dict[str, Balance] = {"repetition": repeat_flows, "SMOTE": smote, "jitter": jitter}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ids.safetensors")
        added = {name: method(real, counts, np.random.default_rng(seed)) for name, method in methods.items()}
        added["netgen"] = augment_with_netgen(real, arguments, seed, path)
        added["netgen, half of it jitter"] = augment_with_netgen(real, arguments, seed, path, fraction=0.5)
    for name, flows in added.items():
        both = tuple(np.concatenate(arrays) for arrays in zip(real.to_numpy(), flows, strict=True))
        rows[f"real + {name}"] = score((both[0], both[1]), held_out, **forest)
    rows["all real flows"] = score(full.to_numpy(), held_out, **forest)
    for name, row in rows.items():
        print(f"  {name}: macro F1 {row['macro F1']:.3f}", flush=True)
    return rows


def report(runs: list[dict[str, dict[str, float]]], test: FlowTable) -> None:
    """Print two tables: the methods, and the recall of each class."""

    def mean(method: str, metric: str) -> float:
        return float(np.mean([run[method][metric] for run in runs]))

    print("\n| random forest trained on | macro F1 | in each run | attacks detected | false alarms |")
    print("|---|---|---|---|---|")
    for method in runs[0]:
        values = ", ".join(f"{run[method]['macro F1']:.3f}" for run in runs)
        detection = f"{mean(method, 'attacks detected'):.3f} | {mean(method, 'false alarms'):.3f}"
        print(f"| {method} | {mean(method, 'macro F1'):.3f} | {values} | {detection} |")
    print("\n| recall of | test flows | " + " | ".join(runs[0]) + " |\n|---|---|" + "---|" * len(runs[0]))
    for name, count in test.counts().items():
        title = f"{name} (attack)" if name in ATTACKS else name
        print(f"| {title} | {count} | " + " | ".join(f"{mean(method, name):.2f}" for method in runs[0]) + " |")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=6, help="training time of each seed")
    parser.add_argument("--steps", type=int, help="limit of training steps")
    parser.add_argument("--sampling-steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=int, default=8, help="flows of each attack")
    parser.add_argument("--forests", type=int, default=5, help="forests whose scores are averaged")
    parser.add_argument("--trees", type=int, default=200)
    arguments = parser.parse_args()
    if problem := missing_data():
        print(problem, file=sys.stderr)
        return 1
    full, test = load("certta")
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{full.spec}; {len(full)} flows to train on, {len(test)} to test on", flush=True)
    report([run_seed(seed, full, test, arguments) for seed in arguments.seeds], test)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
