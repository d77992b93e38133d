"""How useful, real and private netgen's flows are, beside its peers': six sets, all methods, all seeds.

    python benchmarks/fidelity.py --results fidelity.jsonl --dgan-python VENV/bin/python
    python benchmarks/fidelity.py --results fidelity.jsonl --table

A job is a set, a method and a seed; its figures are a line of the results file as soon as it is done.
Started again, what is done is left out, so it can be interrupted at any time. Several of these may
share a results file. A job's key holds the budget and netgen's commit, so nothing old is taken for new.

VENV has gretel-synthetics 0.22.20 (installed with --no-deps) with torch, pandas, scipy and
category_encoders; its licence allows benchmarks only.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tracesets
import usage
from fidelity_table import OF_BEFORE, report
from generators import METHODS, UNTRAINED, Budget, Drawn, method
from resultlines import append, commit, read
from tracesets import OF_CAPTURES, OF_PACKETS, SETS, UNSEEN, load

import netgen
from netgen import FlowTable, NetgenError
from netgen.evaluation import distances
from netgen.evaluation.evaluate import Evaluation, evaluate
from netgen.evaluation.feature_spaces import LogSpace
from netgen.evaluation.split import FlowSet, match_mixture
from netgen.evaluation.usefulness import CLASSIFIERS, accuracy_ratio, scores

#: Draws of flows that an earth mover's distance is the mean of.
DRAWS = 8


# --- jobs ---


@dataclasses.dataclass(frozen=True)
class Job:
    """One cell of the table and what its figures depend on."""

    set: str
    method: str
    seed: int
    minutes: float
    threads: int
    flows: int
    times: int
    device: str
    commit: str

    @classmethod
    def of(cls, name: str, how: str, seed: int, arguments: argparse.Namespace, commit: str) -> Job:
        """What learns nothing has no budget, so it is done once for all budgets."""
        budget = (0.0, 0, "cpu") if how in UNTRAINED else (arguments.minutes, arguments.threads, arguments.device)
        minutes, threads, device = budget
        times = 1 if how == "real" else arguments.times
        return cls(name, how, seed, minutes, threads, arguments.flows, times, device, commit)

    def key(self) -> tuple[Any, ...]:
        return dataclasses.astuple(self)


def key_of(line: dict[str, Any], *, any_commit: bool = False) -> tuple[Any, ...]:
    """The key of a line of results."""
    line = {**OF_BEFORE, **line}
    key = tuple(line[field.name] for field in dataclasses.fields(Job))
    return key[:-1] if any_commit else key


def is_done(job: Job, lines: list[dict[str, Any]], *, reuse_peers: bool = False) -> bool:
    """Whether the results hold it; with `reuse_peers`, of a peer those of any commit count."""
    if reuse_peers and not job.method.startswith("netgen"):
        return any(key_of(line, any_commit=True) == job.key()[:-1] for line in lines)
    return any(key_of(line) == job.key() for line in lines)


def numbers(train: FlowTable, most: int) -> dict[str, int]:
    """As many flows of each class as there are to learn from; above `most` in all, fewer in proportion."""
    counts = train.counts()
    share = min(1.0, most / sum(counts.values()))
    return {name: max(1, int(number * share)) for name, number in counts.items()}


def run(job: Job, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, draw, evaluate; a line of results."""
    train, test = load(job.set)
    torch.set_num_threads(max(job.threads, 1))
    begun, cpu = time.monotonic(), cpu_seconds()
    budget = Budget(job.minutes, job.threads, job.device, arguments.dgan_python)
    once = numbers(train, job.flows)
    wanted = {name: number * job.times for name, number in once.items()}
    drawn = method(job.method)(train, wanted, job.seed, budget)
    first = drawn.flows if job.times == 1 else drawn.flows.take(first_of_each(drawn.flows, once))
    if arguments.keep and job.method != "real":
        arguments.keep.mkdir(parents=True, exist_ok=True)
        name = f"{job.set}-{job.method.replace(':', '-')}-{job.seed}"
        netgen.write(drawn.flows, arguments.keep / f"{name}.parquet", force=True)
    made = time.monotonic()
    found = evaluate(train, first, holdout=test, seed=job.seed, baselines=False)
    many = learnt_from(drawn.flows, found) if job.times > 1 else {}
    now = time.monotonic()
    took = {"made": made - begun, "evaluated": now - made, "cpu": cpu_seconds() - cpu}
    return {
        **dataclasses.asdict(job),
        **figures(job.method, drawn, found, many),
        "seconds": {name: round(value, 1) for name, value in took.items()},
        "machine": usage.machine() if job.device == "cpu" else torch.cuda.get_device_name(),
        "command": shlex.join(["python", *sys.argv]),
    }


def first_of_each(flows: FlowTable, wanted: dict[str, int]) -> np.ndarray:
    """Rows of the first so many flows of each class."""
    labels = flows.labels
    rows = [np.flatnonzero(labels == name)[:number] for name, number in wanted.items()]
    return np.sort(np.concatenate(rows))


def learnt_from(flows: FlowTable, found: Evaluation) -> dict[str, float]:
    """Accuracy of classifiers trained on all flows drawn, and that over what real flows teach them."""
    held, more = found.split.held_out, {}
    for name, classify in CLASSIFIERS.items():
        said = classify(flows.series(), flows.labels.astype(str), held.series, seed=found.seed)
        by_real = found.predictions[name]["real"]
        more[f"{name}_many_accuracy"] = scores(held.labels, said, seed=found.seed)["accuracy"].value
        more[f"{name}_many_ratio"] = accuracy_ratio(held.labels, said, by_real, seed=found.seed).value
    return more


def figures(name: str, drawn: Drawn, found: Evaluation, many: dict[str, float]) -> dict[str, Any]:
    """Every figure and that of real flows; "real" itself stands where the floor does."""
    side = "reference" if name == "real" else "synthetic"
    rows = {measure: (getattr(row, side), row.reference) for measure, row in found.rows.items()}
    movers = earth_movers(found)
    return {
        "figures": {measure: each.value for measure, (each, _) in rows.items() if each is not None} | many,
        "reference": {measure: each.value for measure, (_, each) in rows.items() if each is not None},
        "earth_movers": movers[side],
        "floor_earth_movers": movers["reference"],
        "cost": {what: float(value) for what, value in drawn.cost.items()},
        "drawn": len(drawn.flows),
        "missing": found.split.missing,
        "said": drawn.said,
    }


def earth_movers(found: Evaluation) -> dict[str, dict[str, float]]:
    """Earth mover's distance to the test flows, channel by channel, of new and of training flows.

    As many of each, in the same mixture: the mean of several draws, since one alone is off by a tenth or two.
    """
    sets, generator = found.split, np.random.default_rng(found.seed)
    number = min(len(sets.train), len(sets.held_out), len(sets.synthetic))
    space = LogSpace.of(np.concatenate([sets.train.series, sets.held_out.series]))

    def some(flows: FlowSet) -> np.ndarray:
        return space(match_mixture(flows, sets.mixture, number, generator).series)

    sides = {"synthetic": sets.synthetic, "reference": sets.train}
    sums = {side: np.zeros(len(found.spec.channels)) for side in sides}
    for _ in range(DRAWS):
        held = some(sets.held_out)
        for side, flows in sides.items():
            sums[side] += distances.earth_mover(some(flows), held)
    return {side: dict(zip(found.spec.channels, (total / DRAWS).tolist(), strict=True)) for side, total in sums.items()}


def cpu_seconds() -> float:
    """Of this process and its children so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


# --- the command line ---


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, one a finished job")
    parser.add_argument("--table", action="store_true", help="print the tables of the results, and do nothing else")
    parser.add_argument("--sets", nargs="+", choices=[*SETS, *OF_CAPTURES, *UNSEEN, *OF_PACKETS], default=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help=f"{', '.join(METHODS)}, netgen:NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=10, help="of training, for each method that learns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--flows", type=int, default=3000, help="drawn of a set at most; else as many as train")
    parser.add_argument("--times", type=int, default=1, help="teach classifiers so many times as many flows, too")
    parser.add_argument("--dgan-python", help="Python of the environment that has gretel-synthetics")
    parser.add_argument("--keep", type=Path, help="folder for the drawn flows, SET-METHOD-SEED.parquet")
    parser.add_argument("--reuse-peers", action="store_true", help="results of peers count whatever netgen's commit")
    arguments = parser.parse_args()
    if arguments.table:
        lines = [line for line in read(arguments.results) if line["set"] in arguments.sets]
        if not lines:
            print(f"{arguments.results} holds no results: run without --table first", file=sys.stderr)
            return 1
        print(report(lines, [*SETS, *OF_CAPTURES, *UNSEEN, *OF_PACKETS]))
        return 0
    if said := tracesets.there():
        print(said, file=sys.stderr)
        return 1
    try:
        commit()
        for name in arguments.methods:
            method(name)
            if not name.startswith(("netgen", "real")) and not OF_PACKETS.keys().isdisjoint(arguments.sets):
                raise ValueError(f"{name} makes no series of packets: take --methods real netgen with those sets")
        if "doppelganger" in arguments.methods and arguments.dgan_python is None:
            raise ValueError("doppelganger needs --dgan-python VENV/bin/python; or leave it out of --methods")
        if arguments.times < 1:
            raise ValueError(f"--times {arguments.times} draws no flows: take 1, or more")
        if arguments.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("there is no CUDA device here that torch can use: --device cpu")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work(arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """A seed at a time, so that a table can be had early."""
    here = commit()
    for seed in arguments.seeds:
        for name in arguments.sets:
            for how in arguments.methods:
                yield Job.of(name, how, seed, arguments, here)


def work(arguments: argparse.Namespace) -> int:
    """Do what is not done; 1 if a job failed."""
    every, failed = list(jobs(arguments)), 0
    for number, job in enumerate(every, 1):
        if is_done(job, read(arguments.results), reuse_peers=arguments.reuse_peers):
            continue
        head = f"{time.strftime('%H:%M')} {number} of {len(every)}: {job.set}, {job.method}, seed {job.seed}"
        print(f"{head} ({job.minutes:g} minutes)", file=sys.stderr, flush=True)
        try:
            line = run(job, arguments)
        except NetgenError as error:
            if str(error).startswith("interrupted"):  # netgen's training catches the signal itself
                raise KeyboardInterrupt from error
            print(f"  failed: {error}", file=sys.stderr)
            failed += 1
        except Exception:  # hours of other jobs need not be lost
            traceback.print_exc()
            failed += 1
        else:
            append(arguments.results, line)
            ratio = line["metrics"]["forest_ratio"]
            print(f"  forest's accuracy over real: {ratio:.3f}; {line['seconds']} s", file=sys.stderr, flush=True)
    if failed:
        print(f"{failed} jobs failed, see above; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
