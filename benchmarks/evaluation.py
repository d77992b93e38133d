"""Measure time and memory of `netgen evaluate` on many flows, and print its baselines.

    python benchmarks/evaluation.py

10,000 real flows of pages loaded over Tor are compared with 10,000 others, made without a model: real flows with each
bin multiplied by a random factor. The test split of the data is held out.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from pathlib import Path

import numpy as np

import netgen
from netgen.capture.table.flow_table import FlowTable

DATA = Path(os.environ.get("NETGEN_SHARED_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=10_000)
    number = parser.parse_args().flows
    traces = DATA / "series" / "tor_wikipedia.parquet"
    every = netgen.import_traces(traces, size_unit="payload", split="train")
    held = netgen.import_traces(traces, size_unit="payload", split="test", spec_from=every)
    order = np.random.default_rng(0).permutation(len(every))
    real = every.take(np.sort(order[:number]))
    rows = np.sort(np.resize(order[::-1], number))
    factor = np.random.default_rng(1).lognormal(0, 0.1, (number, 1, every.spec.length))
    series = np.round(every.series()[rows] * factor).astype(np.int64)
    new = FlowTable.build(series, every.spec, label=every.labels[rows].tolist(), synthetic=True)
    built = peak_mb()
    start = time.perf_counter()
    evaluation = netgen.evaluate(real, new, holdout=held)
    seconds = time.perf_counter() - start
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    data = f"{len(real):,} x {len(new):,} flows of 4 x {real.spec.length}, {len(held):,} held out"
    memory = f"peak memory {peak_mb():.0f} MB ({built:.0f} MB before, for making the tables)"
    print(f"{data}: {seconds:.0f} s, {memory}\n")
    print("| metric | jittered | reference | shuffled | copies |\n|---|---|---|---|---|")
    for name, row in evaluation.rows.items():
        cells = (
            f"{side.value:.3f}" if side else "-" for side in (row.synthetic, row.reference, row.shuffled, row.copies)
        )
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\nverdict: {evaluation.verdict.text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
