"""Evaluate sampled flows as a table, and as extracted from their capture, to measure what repairs cost.

    python benchmarks/fidelity.py --results FILE --sets iot-flows --methods netgen --seeds 0 --keep FOLDER
    python benchmarks/recaptured.py FOLDER/iot-flows-netgen-0.parquet

Each table's flows are evaluated against the set's test captures, written to a capture, extracted from it, and
evaluated once more.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path

import tracesets
import usage
from fidelity import earth_mover_distances, first_rows, flow_counts
from tracesets import CAPTURE_SETS, load

import netgen
from netgen import FlowTable
from netgen.evaluation.evaluate import evaluate
from netgen.evaluation.metrics import MetricRow
from netgen.exporters.pcap.plan import plan

#: Metric -> its name in the table.
METRICS = {
    "forest_ratio": "forest over real",
    "network_ratio": "CNN over real",
    "real_or_fake_auc": "real-or-fake AUC",
    "coverage": "coverage",
    "exact_copies": "exact copies",
}


def recaptured(flows: FlowTable, spec_from: FlowTable) -> FlowTable:
    """Export flows as a capture, and extract them from it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.pcap")
        netgen.write(flows, path)
        return netgen.extract(path, labels=Path(folder, "x.labels.csv"), spec_from=spec_from).labelled()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path, help="sampled flows, as fidelity.py keeps them")
    parser.add_argument("--set", choices=list(CAPTURE_SETS), default="iot-flows")
    parser.add_argument("--flows", type=int, default=3000, help="maximum number of flows of a table")
    arguments = parser.parse_args()
    if problem := tracesets.missing_data():
        print(problem, file=sys.stderr)
        return 1
    train, test = load(arguments.set)
    print(f"{usage.machine()}, python {shlex.join(sys.argv)}\n")
    heads = ["sampled", "flows of", f"repaired (real {plan(train).repaired.mean():.3f})", *METRICS.values()]
    print(f"| {' | '.join(heads)} | earth mover's over real |")
    print("|" + "---|" * (len(heads) + 1), flush=True)
    for path in arguments.tables:
        table = FlowTable.read(path)
        sampled = table.take(first_rows(table, flow_counts(train, arguments.flows)))
        repaired = f"{plan(sampled).repaired.mean():.3f}"
        for source, flows in (("the table", sampled), ("their capture, extracted", recaptured(sampled, train))):
            evaluation = evaluate(train, flows, holdout=test, baselines=False)
            cells = [_cell(evaluation.rows[name]) for name in METRICS]
            distances = earth_mover_distances(evaluation)
            cells.append(f"{sum(distances['synthetic'].values()) / sum(distances['reference'].values()):.2f}")
            print(f"| {path.stem} | {source} | {repaired} | {' | '.join(cells)} |", flush=True)
    return 0


def _cell(row: MetricRow) -> str:
    """Format a metric, with its reference in brackets unless that is 1."""
    reference = "" if row.reference is None or row.reference.value == 1 else f" ({row.reference.value:.3f})"
    return "-" if row.synthetic is None else f"{row.synthetic.value:.3f}{reference}"


if __name__ == "__main__":
    sys.exit(main())
