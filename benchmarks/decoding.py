"""What it brings that drawn flows have totals as real ones have.

    python benchmarks/decoding.py --sets tor-10 certta --steps 3000 --threads 1

One model a set is trained and drawn from once; the same drawn numbers are then decoded in several ways, and a
random forest that learns from each is tested on the set's test split.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys

import numpy as np
import torch
import tracesets
import usage
from tracesets import SETS, load

import netgen
from capture.feasible import feasible
from capture.flows import FlowTable
from encoders.marginals import Decoder, Marginals
from netgen.calibration import measured
from netgen.drawing import draw_scaled
from netgen.evaluation.realism import real_or_fake
from netgen.model import Model


def ways(model: Model, real: FlowTable, scaled: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Way -> series."""
    numbers = np.searchsorted(np.array(model.classes), real.labels.astype(str))
    (marginals, together), _, _ = measured(model, real.series(), numbers, device="cpu", workers=None, progress=None)
    kind = marginals.kind.copy()
    kind[:, 2:] = 0
    totals = dataclasses.replace(marginals, kind=kind)
    limits = model.decoder.limits
    return {
        "nearest packets": Decoder(model.scale, limits, Marginals.none(len(model.classes))).decode(scaled, labels),
        "and totals of packets": Decoder(model.scale, limits, totals).decode(scaled, labels),
        "and of bytes": Decoder(model.scale, limits, marginals).decode(scaled, labels),
        "or all four together": Decoder(model.scale, limits, together).decode(scaled, labels),
        "what netgen chose of these": model.decoder.decode(scaled, labels),
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=["tor-10", "certta"])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if said := tracesets.there():
        print(said, file=sys.stderr)
        return 1
    print(f"{usage.machine()}, python {shlex.join(sys.argv)}\n")
    print("| set | decoded | accuracy | real-or-fake AUC | changed afterwards |\n|---|---|---|---|---|")
    for name in arguments.sets:
        real, held = load(name)
        floor = netgen.usefulness(real, held).accuracy
        print(f"| {name} | (real flows) | {floor:.3f} | {real_or_fake(real, held):.3f} | |", flush=True)
        model = netgen.train(
            real, steps=arguments.steps, threads=arguments.threads, precision="float32", seed=arguments.seed,
            validation=0,
        )  # fmt: skip
        numbers = {model.classes.index(label): min(number, 150) for label, number in real.counts().items()}
        parts = list(
            draw_scaled(model, numbers, seed=1, guidance=1.0, steps=model.noise.steps, device=torch.device("cpu"))
        )
        labels = np.repeat([label for label, _, _ in parts], [len(scaled) for _, scaled, _ in parts])
        scaled = np.concatenate([each for _, each, _ in parts])
        for way, series in ways(model, real, scaled, labels).items():
            series, changed = feasible(series, labels, model.limits)
            new = FlowTable.build(series, real.spec, label=[model.classes[each] for each in labels], synthetic=True)
            found = netgen.usefulness(new, held).accuracy
            told, done = real_or_fake(real, new), max(changed.values(), default=0)
            print(f"| {name} | {way} | {found:.3f} | {told:.3f} | {done} of {len(new)} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
