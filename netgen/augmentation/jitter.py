"""Real flows with each number a little changed: what can be added beside drawn flows where a class has few.

A drawn flow shows a classifier what else a class might do; a jittered one that the last digits of a real flow mean
nothing. That helps a random forest, and misleads a classifier where digits do mean something, as where all packets
are cells of one size (BENCHMARKS.md, "Few real flows"). A jittered flow lies near a real one: it belongs
beside it, never in its place.
"""

from __future__ import annotations

import numpy as np

from netgen.capture.series.counters import as_bins
from netgen.capture.series.feasible import FEASIBLE, PacketLimits
from netgen.capture.series.spec import BINS
from netgen.capture.table.flow_table import FlowTable
from netgen.diffusion.sampler import sample_seed

#: Spread of the logarithm of what each number is multiplied with.
SPREAD = 0.1

#: What the rows name as their source; no model is called so, since those of a model begin with ``netgen:``.
SOURCE = "jitter"

#: A jittered packet may be as large as the class's real ones, those that a network card had merged as well.
_ANY = 1 << 40


def jittered(real: FlowTable, numbers: dict[str, range], seed: int) -> FlowTable:
    """Flows of a class, each a real one of the class with every number times exp(N(0, SPREAD^2)).

    Parameters
    ----------
    real : FlowTable
        Labelled flows.
    numbers : dict
        Class -> which jittered flows. Flow i of a class depends on the real flows, the seed, the class and i alone.
    seed : int

    Returns
    -------
    FlowTable
        Class by class; series that packets of the class can make, ``synthetic``, with no address.
    """
    return changed(real, *picked(real, numbers, seed))


def changed(real: FlowTable, rows: np.ndarray, generators: list[np.random.Generator]) -> FlowTable:
    """These rows of the real flows, jittered, each by its own generator; see `jittered`."""
    classes = real.classes
    number = np.searchsorted(np.array(classes), real.labels.astype(str))
    given = real.series()
    limits = PacketLimits.of(as_bins(given, real.spec), number, len(classes), most=_ANY)
    labels = number[rows]
    noise = (generator.normal(0, SPREAD, given.shape[1:]) for generator in generators)
    series = np.stack([given[row] * np.exp(each) for row, each in zip(rows, noise, strict=True)])
    series = np.rint(series).astype(np.int64)
    if real.spec.view == BINS:
        # a bin that is busy stays so, however small its packet is
        low, high = (each[labels][:, :, None] for each in (limits.smallest, limits.largest))
        series[:, 2:] = np.maximum(series[:, 2:], given[rows][:, 2:] > 0)
        series[:, :2] = np.clip(series[:, :2], low * series[:, 2:], high * series[:, 2:])
    else:
        # a longer silence than any real one might end the flow
        longest = np.array([given[number == label, 1].max() for label in range(len(classes))])
        series[:, 1] = np.minimum(series[:, 1], longest[labels][:, None])
    series, _ = FEASIBLE[real.spec.view](series, labels, limits)
    protocol = real.table["protocol"].to_pylist()
    return FlowTable.build(
        series, real.spec, label=[classes[each] for each in labels], source=SOURCE, synthetic=True,
        protocol=[protocol[row] for row in rows],
    )  # fmt: skip


def picked(real: FlowTable, numbers: dict[str, range], seed: int) -> tuple[np.ndarray, list[np.random.Generator]]:
    """Of which real flow each jittered one is made: rows, and the generator that the rest of each comes from."""
    classes, labels, rows, generators = real.classes, real.labels, [], []
    for name, wanted in numbers.items():
        label, mine = classes.index(name), np.flatnonzero(labels == name)
        for index in wanted:
            generators.append(np.random.default_rng(sample_seed(seed, label, index)))
            rows.append(mine[generators[-1].integers(len(mine))])
    return np.array(rows, int), generators


def is_jittered(before: int, number: int, share: float) -> np.ndarray:
    """Which of the next `number` new flows of a class are jittered, bool (number,), where there are `before` already.

    Shares are spread evenly, so that any first few hold both; the very first is drawn.
    """
    whole = np.floor(np.arange(before, before + number + 1) * share)
    found: np.ndarray = np.diff(whole) > 0
    return found
