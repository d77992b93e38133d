"""Measure what codebooks and totals add to the decoding of samples.

    python benchmarks/decoding.py --sets tor-10 certta --steps 3000 --threads 1
    python benchmarks/decoding.py --sets alexa --model alexa.safetensors

One model per set is trained, or loaded, and sampled; the same samples are then decoded in several ways, and a
random forest trained on each is tested on the test split of the set: means over several seeds.
"""

from __future__ import annotations

import argparse
import shlex
import sys

import numpy as np
import tracesets
import usage
from comparison import real_or_fake
from tracesets import CAPTURE_SETS, SETS, load

import netgen
from netgen.capture.series.feasible import feasible
from netgen.capture.table.flow_table import FlowTable
from netgen.encoders.decoding.decoder import Decoder
from netgen.encoders.decoding.packet_scaler import PacketDecoder
from netgen.model.model import Model
from netgen.model.sampling import concat_batches
from netgen.model.strata import assign_strata, sample_strata
from netgen.training.calibration import candidates, drawn_once


def decoders(model: Model, real: FlowTable, threads: int) -> dict[str, Decoder | PacketDecoder]:
    """Return the decoders to compare, by description."""
    numbers = assign_strata(real, model.strata)
    sampled = drawn_once(model, real.series(), numbers, device="cpu", threads=threads)
    *with_codebooks, single, shared, plain = candidates(model, *sampled, real.series(), numbers)
    ways = {
        "nearest packets": plain,
        "and totals, each by itself": single,
        "or those of real flows, shared out": shared,
        "bins that are repeated": with_codebooks[2],
        "and totals, each by itself, too": with_codebooks[0],
        "or those of real flows, shared out, too": with_codebooks[1],
        "what netgen chose of these": model,
    }
    return {way: candidate.decoder for way, candidate in ways.items()}


def trained(real: FlowTable, arguments: argparse.Namespace) -> Model:
    """Train on all training flows."""
    return netgen.train(
        real,
        training_steps=arguments.steps,
        threads=arguments.threads,
        precision="float32",
        seed=arguments.seed,
        validation=0,
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=[*SETS, *CAPTURE_SETS], default=["tor-10", "certta"])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--model", help="trained on the training split of the one set before, instead of a new one")
    arguments = parser.parse_args()
    if missing := tracesets.missing_data():
        print(missing, file=sys.stderr)
        return 1
    print(f"{usage.machine()}, python {shlex.join(sys.argv)}\n")
    print("| set | decoded | accuracy | real-or-fake AUC | changed afterwards |\n|---|---|---|---|---|")
    for name in arguments.sets:
        real, held = load(name)
        floor = netgen.usefulness(real, held).accuracy
        print(f"| {name} | (real flows) | {floor:.3f} | {real_or_fake(real, held):.3f} | |", flush=True)
        model = Model.load(arguments.model) if arguments.model else trained(real, arguments)
        strata = [sample_strata(model.strata, label, min(n, 150), seed=0) for label, n in real.counts().items()]
        counts = {index: n for index, n in enumerate(np.bincount(np.concatenate(strata)).tolist()) if n}
        ways = decoders(model, real, arguments.threads)
        scores: dict[str, list[tuple[float, float, float]]] = {}
        for seed in range(1, arguments.draws + 1):
            batches = model.sample_scaled(
                counts, seed=seed, guidance=1.0, sampling_steps=model.noise.sampling_steps, device="cpu",
                threads=arguments.threads,
            )  # fmt: skip
            scaled, labels = concat_batches(batches)
            for way, decoder in ways.items():
                series, changed = feasible(decoder.decode(scaled, labels, seed=seed), labels, model.limits)
                names = [model.strata[stratum].label for stratum in labels]
                new = FlowTable.build(series, real.spec, label=names, synthetic=True)
                share_changed = max(changed.values(), default=0) / len(new)
                accuracy = netgen.usefulness(new, held).accuracy
                scores.setdefault(way, []).append((accuracy, real_or_fake(real, new), share_changed))
        for way, rows in scores.items():
            (accuracy, auc, share_changed), spread = np.mean(rows, axis=0), np.std(rows, axis=0)
            print(
                f"| {name} | {way} | {accuracy:.3f} ± {spread[0]:.3f} | {auc:.3f} ± {spread[1]:.3f} "
                f"| {share_changed:.1%} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
