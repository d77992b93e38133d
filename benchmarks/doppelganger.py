"""netgen beside DoppelGANger by netgen's own evaluation: one data set, one thread, as long a training.

    python benchmarks/doppelganger.py --python VENV/bin/python

The environment holds gretel-synthetics 0.22.20 (installed with --no-deps) with torch, pandas, scipy
and category_encoders; its licence allows benchmarks only. Both learn from the training split of
video_platform; the test split is held back.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import netgen
from capture.flows import FlowTable

DATA = Path(os.environ.get("NETGEN_SHARED_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
SHOWN = (
    "forest_ratio",
    "network_ratio",
    "told_apart",
    "earth_mover",
    "frechet",
    "coverage",
    "closest_share",
    "membership",
)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="of the environment with gretel-synthetics")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=3, help="of netgen's training")
    arguments = parser.parse_args()
    traces = DATA / "series" / "video_platform.parquet"
    real = netgen.import_traces(traces, sizes="frame", split="train")
    held = netgen.import_traces(traces, sizes="frame", split="test", like=real)
    classes = np.array(real.classes)
    series = real.series()
    top = np.log1p(series.max((0, 2))).astype(float)[:, None]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, points=np.log1p(series) / top, labels=np.searchsorted(classes, real.labels.astype(str)))
        script = Path(__file__).parent / "peer_scripts" / "doppelganger.py"
        command = [arguments.python, str(script), str(source), str(target), str(arguments.epochs)]
        # at the same time, each on a core of its own
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as peer:
            model = netgen.train(real, minutes=arguments.minutes, threads=1, precision="float32", validation=0)
            said, _ = peer.communicate()
        drawn = np.load(target)
        fakes = np.maximum(np.round(np.expm1(np.clip(drawn["points"], 0, 1) * top)), 0).astype(np.int64)
    peer_flows = FlowTable.build(fakes, real.spec, label=classes[drawn["labels"]].tolist(), synthetic=True)
    ours = model.sample(real.counts(), seed=0)
    print(f"DoppelGANger: {arguments.epochs} epochs in {said.strip()} s; netgen: {model.training['steps']} steps in "
          f"{model.training['minutes'] * 60:.0f} s; one thread each\n")  # fmt: skip
    found = {name: netgen.evaluate(real, flows, holdout=held) for name, flows in (("dg", peer_flows), ("ng", ours))}
    print("| figure | netgen | DoppelGANger | floor | copycat |\n|---|---|---|---|---|")
    for name in SHOWN:
        row, other = found["ng"].rows[name], found["dg"].rows[name]
        cells = (row.synth, other.synth, row.floor, row.copycat)
        print(f"| {name} | {' | '.join(f'{each.value:.3f}' if each else '-' for each in cells)} |")
    for title, name in (("netgen", "ng"), ("DoppelGANger", "dg")):
        print(f"\n{title}: {found[name].verdict.text}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
