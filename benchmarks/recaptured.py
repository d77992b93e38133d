"""Drawn flows as a table, and as they are when their capture is extracted again: what mending them costs.

    python benchmarks/recaptured.py --model iot-flows.safetensors
    python benchmarks/recaptured.py --minutes 10

Real flows of captures teach a model (``iot-flows`` of `tracesets`), or taught the one given. Some flows are
drawn, evaluated against the test captures, written to a capture, extracted from it, and evaluated once more.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

import tracesets
import usage
from fidelity import earth_movers, numbers
from tracesets import OF_CAPTURES, load

import netgen
from exporters.plan import plan
from netgen import FlowTable
from netgen.evaluation.evaluate import evaluate
from netgen.evaluation.measures import Row

#: Figure -> its name in the table.
FIGURES = {
    "forest_ratio": "forest over real",
    "network_ratio": "CNN over real",
    "told_apart": "real-or-fake AUC",
    "coverage": "coverage",
    "exact_copies": "exact copies",
}


def recaptured(flows: FlowTable, like: FlowTable) -> FlowTable:
    """Flows as they are extracted from a capture that is made of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.pcap")
        netgen.write(flows, path)
        return netgen.extract(path, labels=Path(folder, "x.labels.csv"), like=like).labelled()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=list(OF_CAPTURES), default="iot-flows")
    parser.add_argument("--model", action="append", help="trained on the set's training captures, instead of a new one")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--flows", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if said := tracesets.there():
        print(said, file=sys.stderr)
        return 1
    train, test = load(arguments.set)
    print(f"{usage.machine()}, python {shlex.join(sys.argv)}\n")
    print(f"| model | flows | mended | {' | '.join(FIGURES.values())} | earth mover's over real |")
    print("|" + "---|" * (len(FIGURES) + 4), flush=True)
    models = arguments.model or [
        netgen.train(train, minutes=arguments.minutes, threads=arguments.threads, seed=arguments.seed)
    ]
    for given in models:
        model = netgen.load(given) if isinstance(given, str) else given
        drawn = model.sample(numbers(train, arguments.flows), seed=arguments.seed, workers=arguments.threads)
        mended = f"{plan(drawn).changed.mean():.3f}"
        for what, flows in (("the table", drawn), ("extracted from their capture", recaptured(drawn, train))):
            found = evaluate(train, flows, holdout=test, seed=arguments.seed, anchors=False)
            cells = [_cell(found.rows[name]) for name in FIGURES]
            movers = earth_movers(found)
            cells.append(f"{sum(movers['synth'].values()) / sum(movers['floor'].values()):.2f}")
            print(f"| {model.name} | {what} | {mended} | {' | '.join(cells)} |", flush=True)
    return 0


def _cell(row: Row) -> str:
    """A figure, and in brackets what real flows have, unless that is 1."""
    floor = "" if row.floor is None or row.floor.value == 1 else f" ({row.floor.value:.3f})"
    return "-" if row.synth is None else f"{row.synth.value:.3f}{floor}"


if __name__ == "__main__":
    sys.exit(main())
