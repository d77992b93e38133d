"""Few real traces per class: compare a model trained on just those with jitter and mixup.

    python benchmarks/fewshot.py --results fewshot.jsonl --minutes 3
    python benchmarks/fewshot.py --results fewshot.jsonl --minutes 3 --table

Each seed samples 5, 10 or 20 training traces of each class (all, if a class has fewer). Each method fills every class
up to the same number, from these traces only. A random forest and a small convolutional network learn from real and
added flows, and are tested on the test split of the set. Only the bin width is fitted to the complete training split.

"netgen" is what `netgen augment --jitter 0` adds, "both" what it adds with --jitter 0.5. Their lines say which of the
two `--jitter auto` chooses.

A job is a set, a number of traces, a seed and a method. When it is done, it is one line of the results file; the same
command skips finished jobs. Several processes may share a file, for other --seeds or --sets.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import usage
from fewshot_table import report
from ids import Balance, count_copies, jitter
from resultlines import Line, append, commit, read
from tracesets import SETS, load, missing_data

import netgen
from netgen import FlowTable, NetgenError
from netgen.augmentation.jitter_selection import JitterScores, cross_validate_jitter
from netgen.augmentation.plan import AugmentationPlan, plan_augmentation
from netgen.capture.series.feasible import PacketLimits, feasible
from netgen.evaluation.usefulness import CLASSIFIERS, macro_f1

SHOTS = (5, 10, 20)

#: Parameter of the Beta distribution of mixup weights (Zhang and others, arXiv 1710.09412).
MIXUP_ALPHA = 0.4


def sample_shots(table: FlowTable, shots: int, seed: int) -> FlowTable:
    """Sample flows of each class, or take all if it has fewer; more shots include those of fewer shots."""
    generator = np.random.default_rng(seed)
    labels = table.labels
    rows = [generator.permutation(np.flatnonzero(labels == name))[:shots] for name in table.classes]
    return table.take(np.sort(np.concatenate(rows)))


def limit_shots(table: FlowTable, shots: int) -> int:
    """Limit the shots to the flows of the largest class, as more give the same flows."""
    return min(shots, max(table.counts().values()))


# --- methods that add flows ---


def mixup(table: FlowTable, counts: dict[str, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Average two flows of a class in log(1 + x), with a weight that is mostly near 0 or 1."""
    added = []
    for name, count in counts.items():
        points = np.log1p(table[name].series())
        first = rng.integers(len(points), size=count)
        second = (first + rng.integers(1, max(len(points), 2), size=count)) % len(points)
        weight = rng.beta(MIXUP_ALPHA, MIXUP_ALPHA, (count, 1, 1))
        added.append(np.rint(np.expm1(points[first] * weight + points[second] * (1 - weight))).astype(np.int64))
    return np.concatenate(added), np.repeat(np.array(list(counts), dtype=object), list(counts.values()))


def fill_classes(method: Balance, table: FlowTable, target: int, seed: int) -> FlowTable:
    """Add flows by jitter or mixup, and repair them so that packets of the class can make them, as netgen does."""
    counts = {name: target - count for name, count in table.counts().items() if count < target}
    series, labels = method(table, counts, np.random.default_rng(seed))
    classes = np.array(table.classes)
    limits = PacketLimits.of(table.series(), np.searchsorted(classes, table.labels.astype(str)), len(classes))
    series, _ = feasible(series, np.searchsorted(classes, labels.astype(str)), limits)
    return FlowTable.build(series, table.spec, label=labels.tolist(), synthetic=True)


SIMPLE: dict[str, Balance] = {"jitter": jitter, "mixup": mixup}

#: Method -> value of --jitter.
TRAINED = {"netgen": 0.0, "both": 0.5}
METHODS = ("real", *SIMPLE, *TRAINED)


@dataclasses.dataclass(frozen=True)
class Job:
    """All that the metrics of a line depend on.

    Parameters
    ----------
    set, shots, seed, method
        Which flows are sampled, and which are added.
    target, repeats : int
        Flows of each class afterwards; classifiers of each kind, whose scores are averaged.
    training : str
        Options of the training, and the commit of netgen; empty for a method that trains nothing.
    """

    set: str
    shots: int
    seed: int
    method: str
    target: int
    repeats: int
    training: str

    def done(self, lines: list[Line]) -> bool:
        return any(all(line.get(key) == value for key, value in dataclasses.asdict(self).items()) for line in lines)


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """Yield the jobs, one seed after the other, so that a table can be printed early."""
    training = describe_training(arguments)
    for seed in arguments.seeds:
        for name in arguments.sets:
            for shots in sorted({limit_shots(load(name)[0], number) for number in arguments.shots}):
                for method in arguments.methods:
                    target = shots if method == "real" else arguments.target
                    options = training if method in TRAINED else ""
                    yield Job(name, shots, seed, method, target, arguments.repeats, options)


def describe_training(arguments: argparse.Namespace) -> str:
    """Return the options of the training and of sampling as JSON."""
    options = {**training_options(arguments), "threads": arguments.threads, "device": arguments.device}
    return json.dumps({**options, "sampling_steps": arguments.sampling_steps, "commit": commit()})


def training_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Collect the options of the training, those of --training last."""
    options: dict[str, Any] = {"minutes": arguments.minutes, "training_steps": arguments.steps, "validation": 0}
    for pair in arguments.training:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--training must be NAME=VALUE, got {pair!r}")
        options[name] = json.loads(value) if value[:1].isdigit() else value
    return {name: value for name, value in options.items() if value is not None}


_TRAINED: dict[tuple[Any, ...], tuple[netgen.Model, JitterScores, float]] = {}


def train_model(
    job: Job, arguments: argparse.Namespace, plan: AugmentationPlan
) -> tuple[netgen.Model, JitterScores, float]:
    """Return the model, the jitter scores, and the CPU time of both; cached, as two methods share them."""
    key = (job.set, job.shots, job.seed, job.training)
    if key not in _TRAINED:
        _TRAINED.clear()
        options = {"seed": job.seed, "device": arguments.device, "threads": arguments.threads}
        start = cpu_seconds()
        model = netgen.train(
            plan.training_flows(), name="augment", progress=False, **options, **training_options(arguments)
        )
        scores = cross_validate_jitter(plan.flows, job.seed)
        _TRAINED[key] = model, scores, cpu_seconds() - start
    return _TRAINED[key]


def run(job: Job, arguments: argparse.Namespace) -> Line:
    """Sample the real flows, add flows, train and test the classifiers; return a line of results."""
    train, test = load(job.set)
    real = sample_shots(train, job.shots, job.seed)
    cpu, start = cpu_seconds(), time.perf_counter()
    added, outcome = None, {}
    if job.method in TRAINED:
        plan, before = plan_augmentation(real, job.target), cpu_seconds()
        model, jitter_scores, training_seconds = train_model(job, arguments, plan)
        cpu += cpu_seconds() - before - training_seconds  # as if it were trained for this job
        added = netgen.augment(
            real, job.target, model=model, seed=job.seed, device=arguments.device, threads=arguments.threads,
            sampling_steps=arguments.sampling_steps, jitter=TRAINED[job.method], only_synthetic=True, progress=False,
        )  # fmt: skip
        outcome = {"training_steps": model.training["steps"], "copies": count_copies(real, added)}
        outcome["chosen"] = next(method for method, fraction in TRAINED.items() if fraction == jitter_scores.fraction)
        outcome["jitter_scores"] = jitter_scores.to_json()
    elif job.method != "real":
        added = fill_classes(SIMPLE[job.method], real, job.target, job.seed)
    cpu_adding = cpu_seconds() - cpu
    series, labels = real.series(), real.labels.astype(str)
    if added is not None:
        series = np.concatenate([series, added.series()])
        labels = np.concatenate([labels, added.labels.astype(str)])
    truth = test.labels.astype(str)
    scores: Line = {}
    for name, classify in CLASSIFIERS.items():
        seeds = range(100 * job.seed, 100 * job.seed + job.repeats)
        predictions = [classify(series, labels, test.series(), seed=seed) for seed in seeds]
        scores[name] = {
            "accuracy": float(np.mean([(predicted == truth).mean() for predicted in predictions])),
            "macro_f1": float(np.mean([macro_f1(truth, predicted) for predicted in predictions])),
        }
    counts = list(real.counts().values())
    return {
        **dataclasses.asdict(job),
        **scores,
        **outcome,
        "classes": len(counts),
        "smallest_class": min(counts),
        "largest_class": max(train.counts().values()),
        "classes_with_fewer": sum(count < job.shots for count in counts),
        "real": len(real),
        "added": 0 if added is None else len(added),
        "test_flows": len(test),
        "bin_ns": train.spec.bin_ns,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_adding": round(cpu_adding, 1),
        "cpu": round(cpu_seconds() - cpu, 1),
        "machine": usage.machine().partition(", load")[0],
        "accelerator": torch.cuda.get_device_name() if arguments.device == "cuda" else None,
        "command": shlex.join(["python", *sys.argv]),
    }


def cpu_seconds() -> float:
    """Return the CPU time of this process so far."""
    usage_so_far = resource.getrusage(resource.RUSAGE_SELF)
    return usage_so_far.ru_utime + usage_so_far.ru_stime


def run_jobs(arguments: argparse.Namespace) -> int:
    """Run the jobs that are not done; return 1 if one failed."""
    all_jobs, failed = list(jobs(arguments)), 0
    for number, job in enumerate(all_jobs, 1):
        if job.done(read(arguments.results)):
            continue
        name = f"{number} of {len(all_jobs)}: {job.set}, {job.shots} a class, seed {job.seed}, {job.method}"
        try:
            line = run(job, arguments)
        except NetgenError as error:
            if "interrupted" in str(error):  # training catches Ctrl-C itself
                raise KeyboardInterrupt from error
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            failed += 1
            continue
        append(arguments.results, line)
        accuracies = ", ".join(f"{classifier} {line[classifier]['accuracy']:.3f}" for classifier in CLASSIFIERS)
        print(f"{name}: accuracy of {accuracies}; {line['cpu']} s of CPU time", file=sys.stderr, flush=True)
    if failed:
        print(f"{failed} jobs failed, see above; the same command runs them again", file=sys.stderr)
    return int(failed > 0)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="file of finished jobs, JSON lines")
    parser.add_argument("--table", action="store_true", help="print the tables of the results, and do nothing else")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--shots", nargs="+", type=int, default=list(SHOTS), help="real traces per class")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--target", type=int, default=100, help="flows of each class afterwards")
    parser.add_argument("--minutes", type=float, default=3, help="time of each training")
    parser.add_argument("--steps", type=int, help="limit of training steps")
    parser.add_argument("--training", nargs="*", default=[], metavar="NAME=VALUE", help="more options of netgen.train")
    parser.add_argument("--sampling-steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="classifiers of each kind, whose scores are averaged")
    arguments = parser.parse_args()
    if arguments.table:
        lines = [line for line in read(arguments.results) if line["set"] in arguments.sets]
        print(report(lines, list(SETS), requested=sorted(arguments.shots)) if lines else "no results yet")
        return 0
    if problem := missing_data():
        print(problem, file=sys.stderr)
        return 1
    if arguments.target <= max(arguments.shots):
        parser.error(f"--target {arguments.target} adds nothing to {max(arguments.shots)} traces")
    torch.set_num_threads(arguments.threads)
    try:
        return run_jobs(arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
