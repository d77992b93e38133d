"""What it brings that drawn flows have bins and totals as real ones have.

    python benchmarks/decoding.py --sets tor-10 certta --steps 3000 --threads 1
    python benchmarks/decoding.py --sets alexa --model alexa.safetensors

One model a set is trained, or read, and drawn from; the same drawn numbers are then decoded in several ways, and a
random forest that learns from each is tested on the set's test split: means of several draws.
"""

from __future__ import annotations

import argparse
import shlex
import sys

import numpy as np
import torch
import tracesets
import usage
from tracesets import OF_CAPTURES, SETS, load

import netgen
from netgen.capture.series.feasible import feasible
from netgen.capture.table.flow_table import FlowTable
from netgen.encoders.decoding.decoder import Decoder
from netgen.encoders.decoding.packet_scaler import PacketDecoder
from netgen.evaluation.realism import real_or_fake
from netgen.model.model import Model
from netgen.model.sampling import concat_batches, sample_scaled
from netgen.model.strata import assign_strata, sample_strata
from netgen.training.calibration import candidates, drawn_once


def decoders(model: Model, real: FlowTable, threads: int) -> dict[str, Decoder | PacketDecoder]:
    """Way -> what decodes so."""
    numbers = assign_strata(real, model.strata)
    drawn = drawn_once(model, real.series(), numbers, device="cpu", threads=threads)
    *again, each, shared, plain = candidates(model, *drawn, real.series(), numbers)
    ways = {
        "nearest packets": plain,
        "and totals, each by itself": each,
        "or those of real flows, shared out": shared,
        "bins that are repeated": again[2],
        "and totals, each by itself, too": again[0],
        "or those of real flows, shared out, too": again[1],
        "what netgen chose of these": model,
    }
    return {way: found.decoder for way, found in ways.items()}


def trained(real: FlowTable, arguments: argparse.Namespace) -> Model:
    """A model of all training flows."""
    return netgen.train(
        real,
        training_steps=arguments.steps,
        threads=arguments.threads,
        precision="float32",
        seed=arguments.seed,
        validation=0,
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=[*SETS, *OF_CAPTURES], default=["tor-10", "certta"])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--model", help="trained on the training split of the one set before, instead of a new one")
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
        model = Model.load(arguments.model) if arguments.model else trained(real, arguments)
        told = [sample_strata(model.strata, label, min(n, 150), seed=0) for label, n in real.counts().items()]
        numbers = {number: n for number, n in enumerate(np.bincount(np.concatenate(told)).tolist()) if n}
        ways = decoders(model, real, arguments.threads)
        found: dict[str, list[tuple[float, float, float]]] = {}
        for seed in range(1, arguments.draws + 1):
            blocks = sample_scaled(
                model, numbers, seed=seed, guidance=1.0, steps=model.noise.steps, device=torch.device("cpu"),
                workers=arguments.threads,
            )  # fmt: skip
            scaled, labels = concat_batches(blocks)
            for way, decoder in ways.items():
                series, changed = feasible(decoder.decode(scaled, labels, seed=seed), labels, model.limits)
                names = [model.strata[each].label for each in labels]
                new = FlowTable.build(series, real.spec, label=names, synthetic=True)
                told, done = real_or_fake(real, new), max(changed.values(), default=0) / len(new)
                found.setdefault(way, []).append((netgen.usefulness(new, held).accuracy, told, done))
        for way, figures in found.items():
            (right, told, done), spread = np.mean(figures, axis=0), np.std(figures, axis=0)
            print(
                f"| {name} | {way} | {right:.3f} ± {spread[0]:.3f} | {told:.3f} ± {spread[1]:.3f} | {done:.1%} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
