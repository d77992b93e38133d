"""Real flows with each number a little changed: what is added beside drawn flows where a class has few.

A drawn flow shows a classifier what else a class might do; a jittered one shows it that the last digits of a
real flow mean nothing. Few flows need both (BENCHMARKS.md, "Few real flows"). A jittered flow lies near a real one: it
belongs beside it, never in its place.
"""

from __future__ import annotations

import numpy as np

from capture.feasible import PacketLimits, feasible, feasible_packets
from capture.firstpackets import as_bins
from capture.flows import FlowTable
from capture.series import BINS
from diffusion.sampler import sample_seed

#: Spread of the logarithm of what each number is multiplied with.
SPREAD = 0.1

#: What the rows name as their source.
SOURCE = "netgen:jitter"


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
    classes = real.classes
    number = np.searchsorted(np.array(classes), real.labels.astype(str))
    given = real.series()
    counted = given if real.spec.kind == BINS else as_bins(given)
    limits = PacketLimits.of(counted, number, len(classes))
    parts, rows, labels = [], [], []
    for name, wanted in numbers.items():
        label = classes.index(name)
        mine = np.flatnonzero(number == label)
        for index in wanted:
            generator = np.random.default_rng(sample_seed(seed, label, index))
            rows.append(mine[generator.integers(len(mine))])
            labels.append(label)
            parts.append(given[rows[-1]] * np.exp(generator.normal(0, SPREAD, given.shape[1:])))
    series = np.rint(np.stack(parts)).astype(np.int64)
    if real.spec.kind == BINS:
        # a bin that is busy stays so, however small its packet is
        low, high = (each[np.array(labels)][:, :, None] for each in (limits.smallest, limits.largest))
        series[:, 2:] = np.maximum(series[:, 2:], given[np.array(rows)][:, 2:] > 0)
        series[:, :2] = np.clip(series[:, :2], low * series[:, 2:], high * series[:, 2:])
    mend = feasible if real.spec.kind == BINS else feasible_packets
    series, _ = mend(series, np.array(labels), limits)
    protocol = real.table["protocol"].to_pylist()
    return FlowTable.build(
        series, real.spec, label=[classes[each] for each in labels], source=SOURCE, synthetic=True,
        protocol=[protocol[row] for row in rows],
    )  # fmt: skip


def divided(begin: int, end: int, share: float) -> tuple[range, range, np.ndarray]:
    """Which of the flows `begin` to `end` - 1 of a class are drawn, and which are jittered.

    Returns
    -------
    range, range
        Numbers among the drawn ones, and among the jittered ones.
    ndarray of bool, shape (end - begin,)
        Whether each is jittered: the shares are spread evenly, so that any first few hold both.
    """
    before = np.floor(np.arange(begin, end + 1) * share).astype(int)
    is_jittered = np.diff(before) > 0
    return range(begin - before[0], end - before[-1]), range(before[0], before[-1]), is_jittered
