"""The sets of flows that are compared: what was learnt from, what was held back, the new ones, and anchors.

Anchors say what a figure means: real flows (the floor), real flows with their bins shuffled (the
marginals are right, nothing else is), and a copycat that hands out training flows as its own.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture.errors import TableError
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.privacy import exact_copies

#: Flows that a set needs at least.
LEAST = 10

#: A share of flows that is no evidence.
FEW = 0.05

#: Flows without a label stand for one class.
NO_LABEL = ""


@dataclasses.dataclass(frozen=True)
class FlowSet:
    """Series and labels of a set.

    Parameters
    ----------
    series : ndarray of int64, shape (flows, channels, bins)
    labels : ndarray of str, shape (flows,)
    sources : ndarray of str, shape (flows,)
        Captures that they come from.
    """

    series: np.ndarray
    labels: np.ndarray
    sources: np.ndarray

    def __len__(self) -> int:
        return len(self.series)

    def take(self, rows: np.ndarray) -> FlowSet:
        """Some of the flows."""
        return FlowSet(self.series[rows], self.labels[rows], self.sources[rows])

    def __add__(self, other: FlowSet) -> FlowSet:
        pairs = [(getattr(self, each.name), getattr(other, each.name)) for each in dataclasses.fields(self)]
        return FlowSet(*(np.concatenate(pair) for pair in pairs))


@dataclasses.dataclass(frozen=True)
class EvaluationSplit:
    """What is compared.

    Parameters
    ----------
    train, held, synth : Flows
        Real flows that may have been learnt from, others that stand for all real ones, the new ones.
    labelled : bool
        Whether there are classes to tell apart.
    unseen : bool
        Whether `held` was given as a hold-out, which nothing was learnt from.
    notes : list of str
        What a reader must know of how they came about.
    """

    train: FlowSet
    held: FlowSet
    synth: FlowSet
    labelled: bool
    unseen: bool
    notes: list[str]

    @property
    def mixture(self) -> dict[str, float]:
        """The share of each class among the real flows that were held back."""
        names, count = np.unique(self.held.labels, return_counts=True)
        return dict(zip(names.tolist(), (count / count.sum()).tolist(), strict=True))

    @property
    def missing(self) -> list[str]:
        """Classes of the real flows that the new ones lack."""
        return sorted(set(self.mixture) - set(self.synth.labels.tolist()))


def make_split(real: FlowTable, synth: FlowTable, holdout: FlowTable | None, *, seed: int = 0) -> EvaluationSplit:
    """Check tables against each other, and divide the real flows where no hold-out was given.

    Raises
    ------
    SpecMismatch, TableError
        If series differ, a table has too few flows, or real and new flows share no class.
    """
    notes: list[str] = []
    for other, name in ((synth, "the synthetic table"), (holdout, "the hold-out")):
        if other is not None:
            real.spec.require_equal(other.spec, "the real table", name, hint="Cut all like one of them: --like FILE")
    labelled = len(real.classes) > 1 and bool(synth.classes)
    tables = {"real": real, "synthetic": synth, "hold-out": holdout}
    found = {name: _flows(table, labelled, name, notes) for name, table in tables.items() if table is not None}
    train, new = found["real"], found["synthetic"]
    if not labelled:
        notes.append("Without two classes in the real table and labels in both, usefulness cannot be measured.")
    held = found.get("hold-out")
    if held is not None and (no_use := _no_holdout(train, held, new)):
        notes.append(f"{no_use}, so it was not used as one.")
        held = None
    unseen = held is not None
    if held is None:
        kept, back, how = split_by_capture(train, 0.5, seed)
        notes.append(how)
        train, held = train.take(kept), train.take(back)
    for name, each in (("real", train), ("held-back real", held), ("synthetic", new)):
        if len(each) < LEAST:
            raise TableError(f"{len(each)} {name} flows are too few to evaluate", f"Give {LEAST} or more of each")
    sets = EvaluationSplit(train, held, new, labelled, unseen, notes)
    if labelled and len(sets.missing) == len(sets.mixture):
        raise TableError(
            "the synthetic flows have none of the real flows' classes: "
            f"{', '.join(sorted(set(new.labels.tolist()))[:5])} against {', '.join(list(sets.mixture)[:5])}",
            "Label both alike; netgen import --relabel OLD=NEW renames a class",
        )
    strange = sorted(set(new.labels.tolist()) - set(train.labels.tolist()) - set(held.labels.tolist()))
    if strange:
        notes.append(f"The real table lacks {', '.join(strange[:5])}: those synthetic flows were left out.")
        known = np.isin(new.labels, np.union1d(train.labels, held.labels))
        sets = dataclasses.replace(sets, synth=new.take(np.flatnonzero(known)))
    return sets


def _no_holdout(train: FlowSet, held: FlowSet, new: FlowSet) -> str:
    """Why a hold-out is none; nothing if it is one. Flows that recur, on all sides, say neither."""
    if len(held) < LEAST:  # an error of its own
        return ""
    own, others = (each.series[~exact_copies(train.series, each.series)] for each in (held, new))
    if len(own) < LEAST:
        return "Nearly all flows of the hold-out are training flows, too"
    many = len(others) >= max(LEAST, FEW * len(new.series))
    if (many and exact_copies(held.series, others).mean() > 0.5) or exact_copies(new.series, own).mean() > 0.5:
        return "Synthetic flows are those of the hold-out itself"
    return ""


def _flows(table: FlowTable, labelled: bool, name: str, notes: list[str]) -> FlowSet:
    kept = table.labelled() if labelled else table
    if len(kept) < len(table):
        notes.append(f"{len(table) - len(kept)} of {len(table)} {name} flows have no label and were left out.")
    sources = np.array([each or "" for each in kept.table["source"].to_pylist()], str)
    labels = kept.labels.astype(str) if labelled else np.full(len(kept), NO_LABEL)
    return FlowSet(kept.series(), labels, sources)


def split_by_capture(flows: FlowSet, share: float, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Hold back a share of each class's flows: whole captures where it has several.

    Returns
    -------
    ndarray, ndarray, str
        Rows that are kept, rows that are held back, and how that was done.
    """
    generator = np.random.default_rng(seed)
    classes, label = np.unique(flows.labels, return_inverse=True)
    captures, source = np.unique(flows.sources, return_inverse=True)
    counts = np.zeros((len(captures), len(classes)), np.int64)
    np.add.at(counts, (source, label), 1)
    whole = (counts > 0).sum(0) > 1  # classes that stand in several captures
    wanted = np.where(whole, share * counts.sum(0), 0)
    back = np.zeros(len(captures), bool)
    for capture in generator.permutation(len(captures)).tolist():
        # a capture is held back where that brings its classes nearer to what is wanted
        more = np.where(whole, counts[capture], 0)
        if np.abs(wanted - more).sum() < np.abs(wanted).sum():
            back[capture] = True
            wanted = wanted - more
    held = back[source] & whole[label]
    sides = [np.bincount(label[side], minlength=len(classes)) for side in (held, ~held)]
    torn = np.flatnonzero((sides[0] == 0) | (sides[1] == 0))
    for each in torn.tolist():
        rows = generator.permutation(np.flatnonzero(label == each))
        held[rows] = np.arange(len(rows)) < round(share * len(rows))
    how = "No hold-out was given: the real flows were divided in two, by capture."
    if len(torn):
        how += (
            f" The flows of {len(torn)} of {len(classes)} classes come from one source each, or few, so these were "
            "divided at random, which makes what is held back more like the rest than new captures would be."
        )
    return np.flatnonzero(~held), np.flatnonzero(held), how


def match_mixture(flows: FlowSet, mixture: dict[str, float], number: int, generator: np.random.Generator) -> FlowSet:
    """At most so many flows, with the classes in a given mixture as far as there are enough of each."""
    rows = []
    for name, share in mixture.items():
        mine = generator.permutation(np.flatnonzero(flows.labels == name))
        rows.append(mine[: max(1, round(share * number))])
    return flows.take(generator.permutation(np.concatenate(rows)))


def shuffle(flows: FlowSet, generator: np.random.Generator) -> FlowSet:
    """Each flow with its bins in another order, the same for all channels."""
    order = np.argsort(generator.random((len(flows), flows.series.shape[-1])), axis=1)
    return dataclasses.replace(flows, series=np.take_along_axis(flows.series, order[:, None, :], axis=2))


def resample(flows: FlowSet, generator: np.random.Generator) -> FlowSet:
    """As many flows, drawn from these with repetition, class by class."""
    rows = np.empty(len(flows), np.int64)
    for name in np.unique(flows.labels):
        mine = np.flatnonzero(flows.labels == name)
        rows[mine] = generator.choice(mine, len(mine))
    return flows.take(rows)
