"""The sets of flows that are compared: training, held-out and synthetic flows, and baselines.

Baselines give a metric its meaning: real flows (the reference), real flows with their bins shuffled (all values are
right, their order is not), and copies of training flows.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture.errors import TableError
from netgen.capture.table.flow_table import FlowTable
from netgen.evaluation.privacy import exact_copies

MIN_FLOWS = 10  # flows that each set needs
NEGLIGIBLE = 0.05  # a share of flows that is too small to be evidence
NO_LABEL = ""  # the class of flows without a label


@dataclasses.dataclass(frozen=True)
class FlowSet:
    """Series and labels of a set of flows."""

    series: np.ndarray  # int64 (flows, channels, bins)
    labels: np.ndarray  # str (flows,)
    sources: np.ndarray  # str (flows,): the captures they come from

    def __len__(self) -> int:
        return len(self.series)

    def take(self, rows: np.ndarray) -> FlowSet:
        """Select flows by row."""
        return FlowSet(self.series[rows], self.labels[rows], self.sources[rows])

    def __add__(self, other: FlowSet) -> FlowSet:
        pairs = [(getattr(self, field.name), getattr(other, field.name)) for field in dataclasses.fields(self)]
        return FlowSet(*(np.concatenate(pair) for pair in pairs))


@dataclasses.dataclass(frozen=True)
class EvaluationSplit:
    """What is compared."""

    train: FlowSet  # real flows that a model may have learned from
    held_out: FlowSet  # other real flows
    synthetic: FlowSet
    labelled: bool  # whether there are classes to tell apart
    holdout_given: bool  # whether `held_out` was given as a hold-out, so that no model has learned from it
    notes: list[str]  # what a reader must know about the sets

    @property
    def mixture(self) -> dict[str, float]:
        """Share of each class among the held-out flows."""
        names, count = np.unique(self.held_out.labels, return_counts=True)
        return dict(zip(names.tolist(), (count / count.sum()).tolist(), strict=True))

    @property
    def missing(self) -> list[str]:
        """Classes of the real flows that the synthetic ones lack."""
        return sorted(set(self.mixture) - set(self.synthetic.labels.tolist()))


def make_split(real: FlowTable, synthetic: FlowTable, holdout: FlowTable | None, *, seed: int = 0) -> EvaluationSplit:
    """Check the tables against each other, and split the real flows if no hold-out was given.

    Raises SpecMismatchError or TableError if series differ, a table has too few flows, or real and synthetic flows
    share no class.
    """
    notes: list[str] = []
    hint = "Extract all of them with the same series: --spec-from FILE"
    for other, name in ((synthetic, "the synthetic table"), (holdout, "the hold-out")):
        if other is not None:
            real.spec.require_equal(other.spec, "the real table", name, hint=hint)
    labelled = len(real.classes) > 1 and bool(synthetic.classes)
    train, new = _flow_set(real, labelled, "real", notes), _flow_set(synthetic, labelled, "synthetic", notes)
    held_out = None if holdout is None else _flow_set(holdout, labelled, "hold-out", notes)
    if not labelled:
        notes.append("Usefulness cannot be measured without two classes in the real table, and labels in both.")
    if held_out is not None and (problem := _holdout_problem(train, held_out, new)):
        notes.append(f"{problem}, so the hold-out was not used.")
        held_out = None
    given = held_out is not None
    if held_out is None:
        train_rows, held_rows, note = split_by_capture(train, 0.5, seed)
        notes.append(note)
        train, held_out = train.take(train_rows), train.take(held_rows)
    for name, flows in (("real", train), ("held-out real", held_out), ("synthetic", new)):
        if len(flows) < MIN_FLOWS:
            raise TableError(f"{len(flows)} {name} flows are too few to evaluate", f"Give {MIN_FLOWS} or more of each")
    split = EvaluationSplit(train, held_out, new, labelled, given, notes)
    if labelled and len(split.missing) == len(split.mixture):
        raise TableError(
            "the synthetic flows have none of the real flows' classes: "
            f"{', '.join(sorted(set(new.labels.tolist()))[:5])} against {', '.join(list(split.mixture)[:5])}",
            "Use the same labels in both; netgen import --relabel OLD=NEW renames a class",
        )
    known = np.union1d(train.labels, held_out.labels)
    unknown = np.setdiff1d(new.labels, known).tolist()
    if unknown:
        notes.append(f"The real table lacks {', '.join(unknown[:5])}: those synthetic flows were left out.")
        split = dataclasses.replace(split, synthetic=new.take(np.flatnonzero(np.isin(new.labels, known))))
    return split


def _holdout_problem(train: FlowSet, held_out: FlowSet, new: FlowSet) -> str:
    """Say why a hold-out cannot be used; empty if it can. Flows that repeat on all sides are no evidence."""
    if len(held_out) < MIN_FLOWS:  # an error of its own
        return ""
    own, others = (flows.series[~exact_copies(train.series, flows.series)] for flows in (held_out, new))
    if len(own) < MIN_FLOWS:
        return "Nearly all flows of the hold-out are training flows"
    enough = len(others) >= max(MIN_FLOWS, NEGLIGIBLE * len(new.series))
    if enough and exact_copies(held_out.series, others).mean() > 0.5:
        return "Most synthetic flows are flows of the hold-out"
    return "The synthetic flows contain the hold-out" if exact_copies(new.series, own).mean() > 0.5 else ""


def _flow_set(table: FlowTable, labelled: bool, name: str, notes: list[str]) -> FlowSet:
    kept = table.labelled() if labelled else table
    if len(kept) < len(table):
        notes.append(f"{len(table) - len(kept)} of {len(table)} {name} flows have no label and were left out.")
    sources = np.array([source or "" for source in kept.table["source"].to_pylist()], str)
    labels = kept.labels.astype(str) if labelled else np.full(len(kept), NO_LABEL)
    return FlowSet(kept.series(), labels, sources)


def split_by_capture(flows: FlowSet, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Hold out a fraction of each class's flows: whole captures where a class has several.

    Returns training rows, held-out rows, and a note on how they were chosen.
    """
    generator = np.random.default_rng(seed)
    classes, label = np.unique(flows.labels, return_inverse=True)
    captures, source = np.unique(flows.sources, return_inverse=True)
    counts = np.zeros((len(captures), len(classes)), np.int64)
    np.add.at(counts, (source, label), 1)
    several = (counts > 0).sum(0) > 1  # classes with several captures
    wanted = np.where(several, fraction * counts.sum(0), 0)
    chosen = np.zeros(len(captures), bool)
    for capture in generator.permutation(len(captures)).tolist():
        # a capture is held out if that brings its classes nearer to the wanted counts
        gain = np.where(several, counts[capture], 0)
        if np.abs(wanted - gain).sum() < np.abs(wanted).sum():
            chosen[capture] = True
            wanted = wanted - gain
    held = chosen[source] & several[label]
    in_held, in_train = (np.bincount(label[side], minlength=len(classes)) for side in (held, ~held))
    at_random = np.flatnonzero((in_held == 0) | (in_train == 0)).tolist()
    for index in at_random:
        rows = generator.permutation(np.flatnonzero(label == index))
        held[rows] = np.arange(len(rows)) < round(fraction * len(rows))
    note = "No hold-out was given: the real flows were split in two, by capture."
    if at_random:
        note += (
            f" {len(at_random)} of {len(classes)} classes have too few sources for that, so their flows were split at "
            "random. Their held-out flows are more like the others than flows of new captures would be."
        )
    return np.flatnonzero(~held), np.flatnonzero(held), note


def match_mixture(flows: FlowSet, mixture: dict[str, float], count: int, generator: np.random.Generator) -> FlowSet:
    """Choose at most `count` flows, with the classes in a given mixture as far as there are enough of each."""
    rows = []
    for name, share in mixture.items():
        of_class = generator.permutation(np.flatnonzero(flows.labels == name))
        rows.append(of_class[: max(1, round(share * count))])
    return flows.take(generator.permutation(np.concatenate(rows)))


def shuffle_bins(flows: FlowSet, generator: np.random.Generator) -> FlowSet:
    """Shuffle the bins of each flow, the same way for all channels."""
    order = np.argsort(generator.random((len(flows), flows.series.shape[-1])), axis=1)
    return dataclasses.replace(flows, series=np.take_along_axis(flows.series, order[:, None, :], axis=2))


def resample(flows: FlowSet, generator: np.random.Generator) -> FlowSet:
    """Sample as many flows with replacement, class by class."""
    rows = np.empty(len(flows), np.int64)
    for name in np.unique(flows.labels):
        of_class = np.flatnonzero(flows.labels == name)
        rows[of_class] = generator.choice(of_class, len(of_class))
    return flows.take(rows)
