"""Measure how useful, realistic and private flows of netgen and of its peers are: six sets, all methods, all seeds.

    python benchmarks/fidelity.py --results fidelity.jsonl --dgan-python VENV/bin/python
    python benchmarks/fidelity.py --results fidelity.jsonl --table

A job is a set, a method and a seed. When it is done, its metrics are one line of the results file. You can interrupt
the benchmark at any time: the same command skips finished jobs. Several processes may share a results file. A job's key
holds the budget and netgen's commit, so old results are not taken for new ones.

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
from fidelity_table import report
from generators import METHODS, UNTRAINED, Budget, Generated, generator_named
from resultlines import append, commit, read
from tracesets import CAPTURE_SETS, PACKET_SETS, SETS, UNSEEN_SETS, load

import netgen
from netgen import FlowTable, NetgenError
from netgen.evaluation import distances
from netgen.evaluation.evaluate import Evaluation, evaluate
from netgen.evaluation.feature_spaces import LogSpace
from netgen.evaluation.split import FlowSet, match_mixture
from netgen.evaluation.usefulness import CLASSIFIERS, accuracy_ratio, scores

#: Samples of flows that an earth mover's distance is averaged over.
N_SAMPLES = 8


# --- jobs ---


@dataclasses.dataclass(frozen=True)
class Job:
    """A cell of the table and all that its metrics depend on."""

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
    def of(cls, name: str, method: str, seed: int, arguments: argparse.Namespace, commit: str) -> Job:
        """Build a job; an untrained method has no budget, so it is run once for all budgets."""
        budget = (0.0, 0, "cpu") if method in UNTRAINED else (arguments.minutes, arguments.threads, arguments.device)
        minutes, threads, device = budget
        times = 1 if method == "real" else arguments.times
        return cls(name, method, seed, minutes, threads, arguments.flows, times, device, commit)

    def key(self) -> tuple[Any, ...]:
        return dataclasses.astuple(self)


def key_of(line: dict[str, Any], *, any_commit: bool = False) -> tuple[Any, ...]:
    """Return the key of a line of results."""
    key = tuple(line[field.name] for field in dataclasses.fields(Job))
    return key[:-1] if any_commit else key


def is_done(job: Job, lines: list[dict[str, Any]], *, reuse_peers: bool = False) -> bool:
    """Return whether the results hold a job; with `reuse_peers`, those of a peer from any commit count."""
    if reuse_peers and not job.method.startswith("netgen"):
        return any(key_of(line, any_commit=True) == job.key()[:-1] for line in lines)
    return any(key_of(line) == job.key() for line in lines)


def flow_counts(train: FlowTable, max_flows: int) -> dict[str, int]:
    """Return the training flows of each class, reduced in proportion to at most `max_flows`."""
    counts = train.counts()
    fraction = min(1.0, max_flows / sum(counts.values()))
    return {name: max(1, int(count * fraction)) for name, count in counts.items()}


def run(job: Job, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, sample, evaluate; return a line of results."""
    train, test = load(job.set)
    torch.set_num_threads(max(job.threads, 1))
    start, cpu = time.monotonic(), cpu_seconds()
    budget = Budget(job.minutes, job.threads, job.device, arguments.dgan_python)
    counts = flow_counts(train, job.flows)
    generated = generator_named(job.method)(
        train, {name: count * job.times for name, count in counts.items()}, job.seed, budget
    )
    flows = generated.flows
    first = flows if job.times == 1 else flows.take(first_rows(flows, counts))
    if arguments.keep and job.method != "real":
        arguments.keep.mkdir(parents=True, exist_ok=True)
        name = f"{job.set}-{job.method.replace(':', '-')}-{job.seed}"
        netgen.write(flows, arguments.keep / f"{name}.parquet", force=True)
    sampled = time.monotonic()
    evaluation = evaluate(train, first, holdout=test, seed=job.seed, baselines=False)
    many = usefulness_of_many(flows, evaluation) if job.times > 1 else {}
    seconds = {"sampling": sampled - start, "evaluation": time.monotonic() - sampled, "cpu": cpu_seconds() - cpu}
    return {
        **dataclasses.asdict(job),
        **metrics(job.method, generated, evaluation, many),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "machine": usage.machine() if job.device == "cpu" else torch.cuda.get_device_name(),
        "command": shlex.join(["python", *sys.argv]),
    }


def first_rows(flows: FlowTable, counts: dict[str, int]) -> np.ndarray:
    """Return the rows of the first flows of each class."""
    rows = [np.flatnonzero(flows.labels == name)[:count] for name, count in counts.items()]
    return np.sort(np.concatenate(rows))


def usefulness_of_many(flows: FlowTable, evaluation: Evaluation) -> dict[str, float]:
    """Score classifiers trained on all sampled flows, and divide their accuracy by that with real flows."""
    held_out, seed, values = evaluation.split.held_out, evaluation.seed, {}
    for name, classify in CLASSIFIERS.items():
        predicted = classify(flows.series(), flows.labels.astype(str), held_out.series, seed=seed)
        by_real = evaluation.predictions[name]["real"]
        values[f"{name}_many_accuracy"] = scores(held_out.labels, predicted, seed=seed)["accuracy"].value
        values[f"{name}_many_ratio"] = accuracy_ratio(held_out.labels, predicted, by_real, seed=seed).value
    return values


def metrics(method: str, generated: Generated, evaluation: Evaluation, many: dict[str, float]) -> dict[str, Any]:
    """Return every metric beside its reference; for the method "real" both are the reference."""
    side = "reference" if method == "real" else "synthetic"
    values = {name: (getattr(row, side), row.reference) for name, row in evaluation.rows.items()}
    distances_of = earth_mover_distances(evaluation)
    return {
        "metrics": {name: value.value for name, (value, _) in values.items() if value is not None} | many,
        "reference": {name: value.value for name, (_, value) in values.items() if value is not None},
        "earth_mover": distances_of[side],
        "reference_earth_mover": distances_of["reference"],
        "cost": {name: float(value) for name, value in generated.cost.items()},
        "n_flows": len(generated.flows),
        "missing_classes": evaluation.split.missing,
        "note": generated.note,
    }


def earth_mover_distances(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Measure the earth mover's distance to the test flows, channel by channel, of synthetic and of training flows.

    Sets have equal size and class mixture. The mean of several samples is taken, since one is off by 10 to 20 %.
    """
    sets, generator, channels = evaluation.split, np.random.default_rng(evaluation.seed), evaluation.spec.channels
    number = min(len(sets.train), len(sets.held_out), len(sets.synthetic))
    space = LogSpace.of(np.concatenate([sets.train.series, sets.held_out.series]))

    def sample(flows: FlowSet) -> np.ndarray:
        return space(match_mixture(flows, sets.mixture, number, generator).series)

    sides = {"synthetic": sets.synthetic, "reference": sets.train}
    sums = {side: np.zeros(len(channels)) for side in sides}
    for _ in range(N_SAMPLES):
        held_out = sample(sets.held_out)
        for side, flows in sides.items():
            sums[side] += distances.earth_mover(sample(flows), held_out)
    return {side: dict(zip(channels, (total / N_SAMPLES).tolist(), strict=True)) for side, total in sums.items()}


def cpu_seconds() -> float:
    """Return the CPU time of this process and its children so far."""
    usages = [resource.getrusage(processes) for processes in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


# --- the command line ---


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, one a finished job")
    parser.add_argument("--table", action="store_true", help="print the tables of the results, and do nothing else")
    parser.add_argument(
        "--sets", nargs="+", choices=[*SETS, *CAPTURE_SETS, *UNSEEN_SETS, *PACKET_SETS], default=list(SETS)
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help=f"{', '.join(METHODS)}, netgen:NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=10, help="of training, for each method that learns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--flows", type=int, default=3000, help="most flows to sample of a set; otherwise as many as it trains on"
    )
    parser.add_argument("--times", type=int, default=1, help="also train classifiers on this multiple of the flows")
    parser.add_argument("--dgan-python", help="Python of the environment that has gretel-synthetics")
    parser.add_argument("--keep", type=Path, help="folder for the sampled flows, SET-METHOD-SEED.parquet")
    parser.add_argument("--reuse-peers", action="store_true", help="accept results of peers from any commit of netgen")
    arguments = parser.parse_args()
    if arguments.table:
        lines = [line for line in read(arguments.results) if line["set"] in arguments.sets]
        if not lines:
            print(f"{arguments.results} holds no results: run without --table first", file=sys.stderr)
            return 1
        print(report(lines, [*SETS, *CAPTURE_SETS, *UNSEEN_SETS, *PACKET_SETS]))
        return 0
    try:
        check_arguments(arguments)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run_jobs(arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise a ValueError if the jobs cannot be run."""
    if problem := tracesets.missing_data():
        raise ValueError(problem)
    for name in arguments.methods:
        generator_named(name)
        if not name.startswith(("netgen", "real")) and not PACKET_SETS.keys().isdisjoint(arguments.sets):
            raise ValueError(f"{name} generates no series of packets: use --methods real netgen with those sets")
    if "doppelganger" in arguments.methods and arguments.dgan_python is None:
        raise ValueError("doppelganger needs --dgan-python VENV/bin/python; or leave it out of --methods")
    if arguments.times < 1:
        raise ValueError(f"--times must be at least 1, got {arguments.times}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device; use --device cpu")


def jobs(arguments: argparse.Namespace) -> Iterator[Job]:
    """Yield the jobs, one seed after the other, so that a table can be printed early."""
    current = commit()
    for seed in arguments.seeds:
        for name in arguments.sets:
            for method in arguments.methods:
                yield Job.of(name, method, seed, arguments, current)


def run_jobs(arguments: argparse.Namespace) -> int:
    """Run the jobs that are not done; return 1 if one failed."""
    all_jobs, failed = list(jobs(arguments)), 0
    for number, job in enumerate(all_jobs, 1):
        if is_done(job, read(arguments.results), reuse_peers=arguments.reuse_peers):
            continue
        head = f"{time.strftime('%H:%M')} {number} of {len(all_jobs)}: {job.set}, {job.method}, seed {job.seed}"
        print(f"{head} ({job.minutes:g} minutes)", file=sys.stderr, flush=True)
        try:
            line = run(job, arguments)
        except NetgenError as error:
            if str(error).startswith("interrupted"):  # training catches the signal itself
                raise KeyboardInterrupt from error
            print(f"  failed: {error}", file=sys.stderr)
            failed += 1
        except Exception:  # go on with the other jobs
            traceback.print_exc()
            failed += 1
        else:
            append(arguments.results, line)
            ratio = line["metrics"]["forest_ratio"]
            print(f"  forest's accuracy over real: {ratio:.3f}; {line['seconds']} s", file=sys.stderr, flush=True)
    if failed:
        print(f"{failed} jobs failed, see above; the same command runs them again", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
