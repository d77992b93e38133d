"""Jitter: copies of real flows with each number changed by about a tenth.

Sampled flows show a classifier what else a class might do. Jittered ones show it that the last digits of a flow mean
nothing, which misleads it where digits do matter, as where all packets are cells of one size (BENCHMARKS.md, "Few real
flows"). A jittered flow lies near a real one: add it to real flows, do not replace them by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from netgen.capture.series.counters import as_bins
from netgen.capture.series.feasible import FEASIBLE, PacketLimits
from netgen.capture.series.spec import BINS
from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion.sampler import sample_seed

#: Standard deviation of the logarithm of the factors.
SPREAD = 0.1

#: Column `source` of jittered flows. The source of a model's flows begins with ``netgen:``.
SOURCE = "jitter"

#: Bytes of the largest packet, if a class has no larger one: network cards merge packets to more than the MTU.
MAX_MERGED_PACKET = 1 << 40


def jitter_flows(real: FlowTable, numbers: Mapping[str, range], seed: int) -> FlowTable:
    """Multiply every number of real flows by exp(N(0, SPREAD^2)).

    Parameters
    ----------
    real : FlowTable
        Labelled flows.
    numbers : mapping
        Class -> numbers of its jittered flows. Flow i of a class depends on real flows, seed, class and i only.
    seed : int

    Returns
    -------
    FlowTable
        Class by class; series that packets of the class can make, ``synthetic``, without addresses.
    """
    return apply_jitter(real, *choose_flows(real, numbers, seed))


def apply_jitter(real: FlowTable, rows: np.ndarray, generators: Sequence[np.random.Generator]) -> FlowTable:
    """Jitter these rows of the real flows, each with its own generator; see `jitter_flows`."""
    classes = real.classes
    class_indices = np.searchsorted(np.array(classes), real.labels.astype(str))
    original = real.series()
    limits = PacketLimits.of(as_bins(original, real.spec), class_indices, len(classes), most=MAX_MERGED_PACKET)
    labels = class_indices[rows]
    noise = (generator.normal(0, SPREAD, original.shape[1:]) for generator in generators)
    series = np.stack([original[row] * np.exp(log_factor) for row, log_factor in zip(rows, noise, strict=True)])
    series = np.rint(series).astype(np.int64)
    if real.spec.view == BINS:
        # a bin with packets keeps at least one
        low, high = (limit[labels][:, :, None] for limit in (limits.smallest, limits.largest))
        series[:, 2:] = np.maximum(series[:, 2:], original[rows][:, 2:] > 0)
        series[:, :2] = np.clip(series[:, :2], low * series[:, 2:], high * series[:, 2:])
    else:
        # a gap longer than any real one might end the flow
        longest = np.array([original[class_indices == label, 1].max() for label in range(len(classes))])
        series[:, 1] = np.minimum(series[:, 1], longest[labels][:, None])
    series, _ = FEASIBLE[real.spec.view](series, labels, limits)
    protocol = real.table["protocol"].to_pylist()
    return FlowTable.build(
        series, real.spec, label=[classes[label] for label in labels], source=SOURCE, synthetic=True,
        protocol=[protocol[row] for row in rows],
    )  # fmt: skip


def choose_flows(
    real: FlowTable, numbers: Mapping[str, range], seed: int
) -> tuple[np.ndarray, list[np.random.Generator]]:
    """Choose a real flow for each jittered one; return their rows, and the generators for the noise."""
    rows, generators = [], []
    for name, indices in numbers.items():
        label, candidates = real.classes.index(name), np.flatnonzero(real.labels == name)
        for index in indices:
            generators.append(np.random.default_rng(sample_seed(seed, label, index)))
            rows.append(candidates[generators[-1].integers(len(candidates))])
    return np.array(rows, int), generators


def is_jittered(first: int, count: int, fraction: float) -> np.ndarray:
    """Mark which of the new flows `first` to ``first + count - 1`` of a class are jittered, bool (count,).

    They are spread evenly, so that the first few hold both kinds; flow 0 is sampled unless the fraction is 1.
    """
    return np.diff(np.floor(np.arange(first, first + count + 1) * fraction)) > 0
