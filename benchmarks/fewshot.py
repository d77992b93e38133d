"""Few real traces a class: does a model that learnt from just those help a classifier more than jitter and mixup?

    python benchmarks/fewshot.py --results fewshot.jsonl --minutes 3
    python benchmarks/fewshot.py --results fewshot.jsonl --minutes 3 --table

A draw takes 5, 10 or 20 training traces of each class (all, where a class has fewer). Each way tops
every class up to the same number, from nothing but these. A random forest and a small convolutional
network learn from real and added flows, and are tested on the set's own test split. The bins alone
are fitted to the whole training split, for all ways alike.

"netgen" is what `netgen augment --jitter 0` adds, "both" what it adds with --jitter 0.5: half of it jittered real
flows. Which of them it takes when it is not told, by a trial on the few flows, is said in their lines.

A job is a set, a number of traces, a seed and a way. It is a line of the results file when it is done;
started again, what is done is left out. Several of these may share a file, for other --seeds or --sets.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import usage
from fewshot_table import report
from ids import copies, jittered
from resultlines import Line, append, commit, read
from tracesets import SETS, load, there

import netgen
from netgen import FlowTable, NetgenError
from netgen.augmentation.jitter_selection import JitterScores, cross_validate_jitter
from netgen.augmentation.plan import AugmentationPlan, plan_augmentation
from netgen.capture.series.feasible import PacketLimits, feasible
from netgen.evaluation.usefulness import CLASSIFIERS, macro_f1

SHOTS = (5, 10, 20)

#: Of the Beta distribution that mixup takes shares from (Zhang and others, arXiv 1710.09412).
MIXED = 0.4


def few(table: FlowTable, shots: int, seed: int) -> FlowTable:
    """So many flows of each class, or all there are; with more shots, those and others."""
    generator = np.random.default_rng(seed)
    labels = table.labels
    rows = [generator.permutation(np.flatnonzero(labels == name))[:shots] for name in table.classes]
    return table.take(np.sort(np.concatenate(rows)))


def shots_of(table: FlowTable, shots: int) -> int:
    """At most as many as the largest class has: asking for more draws the same flows."""
    return min(shots, max(table.counts().values()))


# --- ways to add flows ---


def mixed(table: FlowTable, wanted: dict[str, int], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points between two flows of a class in log(1 + x), a share of each that lies near 0 or 1 more often than not."""
    parts = []
    for name, number in wanted.items():
        points = np.log1p(table.take(table.labels == name).series())
        first = generator.integers(len(points), size=number)
        other = (first + generator.integers(1, max(len(points), 2), size=number)) % len(points)
        share = generator.beta(MIXED, MIXED, (number, 1, 1))
        parts.append(np.rint(np.expm1(points[first] * share + points[other] * (1 - share))).astype(np.int64))
    return np.concatenate(parts), np.repeat(np.array(list(wanted), dtype=object), list(wanted.values()))


def simple(how: Callable[..., tuple[np.ndarray, np.ndarray]], table: FlowTable, to: int, seed: int) -> FlowTable:
    """Flows added by jitter or mixup, made series that packets of the class can make, as netgen's are."""
    wanted = {name: to - number for name, number in table.counts().items() if number < to}
    series, labels = how(table, wanted, np.random.default_rng(seed))
    classes = np.array(table.classes)
    number = np.searchsorted(classes, table.labels.astype(str))
    limits = PacketLimits.of(table.series(), number, len(classes))
    series, _ = feasible(series, np.searchsorted(classes, labels.astype(str)), limits)
    return FlowTable.build(series, table.spec, label=labels.tolist(), synthetic=True)


SIMPLE = {"jitter": jittered, "mixup": mixed}

#: What share of the new flows are jittered, as by --jitter.
TRAINED = {"netgen": 0.0, "both": 0.5}
WAYS = ("real", *SIMPLE, *TRAINED)


@dataclasses.dataclass(frozen=True)
class Job:
    """What the figures of a line depend on; of a way that learns nothing, not on how netgen is trained.

    Parameters
    ----------
    set, shots, seed, way
        Which flows are drawn, and what is added.
    to, repeats : int
        Flows of each class in the end; classifiers of each kind, whose scores are averaged.
    training : str
        Options of `netgen.augment`, and the commit of netgen.
    """

    set: str
    shots: int
    seed: int
    way: str
    to: int
    repeats: int
    training: str

    def done(self, lines: list[Line]) -> bool:
        return any(all(line.get(key) == value for key, value in dataclasses.asdict(self).items()) for line in lines)


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """A seed at a time, so that a table can be had early; numbers of traces that draw the same flows once."""
    trained = training_of(arguments)
    for seed in arguments.seeds:
        for name in arguments.sets:
            for shots in sorted({shots_of(load(name)[0], each) for each in arguments.shots}):
                for way in arguments.ways:
                    to = shots if way == "real" else arguments.to
                    options = trained if way in TRAINED else ""
                    yield Job(name, shots, seed, way, to, arguments.repeats, options)


def training_of(arguments: argparse.Namespace) -> str:
    """How netgen is trained, in words that stand in each of its lines."""
    options = {**options_of(arguments), "threads": arguments.threads, "device": arguments.device}
    return json.dumps({**options, "sampling_steps": arguments.sampling_steps, "commit": commit()})


def options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Options of the training, those of --training last."""
    options: dict[str, Any] = {"minutes": arguments.minutes, "training_steps": arguments.steps, "validation": 0}
    for pair in arguments.training:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--training {pair!r} is not NAME=VALUE")
        options[name] = json.loads(value) if value[:1].isdigit() else value
    return {name: value for name, value in options.items() if value is not None}


_LEARNT: dict[tuple[Any, ...], tuple[netgen.Model, JitterScores, float]] = {}


def learnt(job: Job, arguments: argparse.Namespace, plan: AugmentationPlan) -> tuple[netgen.Model, JitterScores, float]:
    """The model of the few flows, the trial of jitter, and CPU time of both; kept, since two ways share them."""
    key = (job.set, job.shots, job.seed, job.training)
    if key not in _LEARNT:
        _LEARNT.clear()
        both = {"seed": job.seed, "device": arguments.device, "threads": arguments.threads}
        begun = cpu_seconds()
        model = netgen.train(plan.training_flows(), name="augment", progress=False, **both, **options_of(arguments))
        trial = cross_validate_jitter(plan.flows, job.seed)
        _LEARNT[key] = model, trial, cpu_seconds() - begun
    return _LEARNT[key]


def run(job: Job, arguments: argparse.Namespace) -> Line:
    """Draw the few, add to them, train and test the classifiers: a line of results."""
    train, test = load(job.set)
    real = few(train, job.shots, job.seed)
    cpu, begun = cpu_seconds(), time.perf_counter()
    added, said = None, {}
    if job.way in TRAINED:
        plan, before = plan_augmentation(real, job.to), cpu_seconds()
        model, trial, taken = learnt(job, arguments, plan)
        cpu += cpu_seconds() - before - taken  # as if it had been trained for this job
        added = netgen.augment(
            real, job.to, model=model, seed=job.seed, device=arguments.device, threads=arguments.threads,
            sampling_steps=arguments.sampling_steps, jitter=TRAINED[job.way], only_synthetic=True, progress=False,
        )  # fmt: skip
        said = {"training_steps": model.training["steps"], "copies": copies(real, added)}
        said |= {"chosen": next(way for way in TRAINED if TRAINED[way] == trial.fraction), "trial": trial.to_json()}
    elif job.way != "real":
        added = simple(SIMPLE[job.way], real, job.to, job.seed)
    made = cpu_seconds() - cpu
    series, labels = real.series(), real.labels.astype(str)
    if added is not None:
        series = np.concatenate([series, added.series()])
        labels = np.concatenate([labels, added.labels.astype(str)])
    truth, tested = test.labels.astype(str), test.series()
    scores: Line = {}
    for name, classify in CLASSIFIERS.items():
        seeds = range(100 * job.seed, 100 * job.seed + job.repeats)
        answers = [classify(series, labels, tested, seed=each) for each in seeds]
        scores[name] = {
            "accuracy": float(np.mean([(each == truth).mean() for each in answers])),
            "macro_f1": float(np.mean([macro_f1(truth, each) for each in answers])),
        }
    counts = list(real.counts().values())
    return {
        **dataclasses.asdict(job),
        **scores,
        **said,
        "classes": len(counts),
        "fewest": min(counts),
        "most": max(train.counts().values()),
        "short": sum(each < job.shots for each in counts),
        "real": len(real),
        "added": 0 if added is None else len(added),
        "tested": len(test),
        "bin_ns": train.spec.bin_ns,
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_making": round(made, 1),
        "cpu": round(cpu_seconds() - cpu, 1),
        "machine": usage.machine().partition(", load")[0],
        "accelerator": torch.cuda.get_device_name() if arguments.device == "cuda" else None,
        "command": shlex.join(["python", *sys.argv]),
    }


def cpu_seconds() -> float:
    """That this process has taken."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def work(arguments: argparse.Namespace) -> int:
    """Do what is not done; 1 if a job failed."""
    every, failed = list(jobs(arguments)), 0
    for number, job in enumerate(every, 1):
        if job.done(read(arguments.results)):
            continue
        name = f"{number} of {len(every)}: {job.set}, {job.shots} a class, seed {job.seed}, {job.way}"
        try:
            line = run(job, arguments)
        except NetgenError as error:
            if "interrupted" in str(error):  # the training catches Ctrl-C itself
                raise KeyboardInterrupt from error
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            failed += 1
            continue
        append(arguments.results, line)
        said = ", ".join(f"{each} {line[each]['accuracy']:.3f}" for each in CLASSIFIERS)
        print(f"{name}: accuracy of {said}; {line['cpu']} s of CPU time", file=sys.stderr, flush=True)
    if failed:
        print(f"{failed} jobs failed, see above; the same command tries them again", file=sys.stderr)
    return int(failed > 0)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="file of finished jobs, JSON lines")
    parser.add_argument("--table", action="store_true", help="print the tables of what is done, and do nothing else")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--shots", nargs="+", type=int, default=list(SHOTS), help="real traces a class")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--to", type=int, default=100, help="flows a class, real and added")
    parser.add_argument("--minutes", type=float, default=3, help="of netgen's training, each time")
    parser.add_argument("--steps", type=int, help="stop the training after so many")
    parser.add_argument("--training", nargs="*", default=[], metavar="NAME=VALUE", help="more options of netgen.train")
    parser.add_argument("--sampling-steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--repeats", type=int, default=3, help="classifiers of each kind, whose scores are averaged")
    arguments = parser.parse_args()
    if arguments.table:
        lines = [line for line in read(arguments.results) if line["set"] in arguments.sets]
        print(report(lines, list(SETS), asked=sorted(arguments.shots)) if lines else "no results yet")
        return 0
    missing = there()
    if missing:
        print(missing, file=sys.stderr)
        return 1
    if arguments.to <= max(arguments.shots):
        parser.error(f"--to {arguments.to} adds nothing to {max(arguments.shots)} traces")
    torch.set_num_threads(arguments.threads)
    try:
        return work(arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
