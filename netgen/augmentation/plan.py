"""Plan an augmentation: which classes lack flows, how many, and which of the new flows are jittered."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from netgen.augmentation.jitter import SOURCE, is_jittered
from netgen.capture.errors import InputError, ModelError, TableError
from netgen.capture.table.flow_table import FlowTable, PathLike, concat, read_tables
from netgen.model.model import Model

#: Target: as many flows as the largest class has.
BALANCE = "balance"

#: Jitter: cross-validation decides.
AUTO = "auto"

#: Real flows of a class that a model can learn from.
MIN_REAL_FLOWS = 2


@dataclasses.dataclass(frozen=True)
class ClassDeficit:
    """New flows of a class.

    Parameters
    ----------
    is_jittered : ndarray of bool, shape (new flows,)
    sampled, jittered : range
        Numbers of the sampled and the jittered flows; the table may already have those before.
    """

    is_jittered: np.ndarray
    sampled: range
    jittered: range


@dataclasses.dataclass(frozen=True)
class AugmentationPlan:
    """Which flows a table lacks.

    Parameters
    ----------
    flows : FlowTable
    target : int or "balance"
    jitter : float or None
        Fraction of the new flows that is jittered; None: cross-validation decides.
    flows_before, added : dict
        Class -> number of flows that it has, and that it gets.
    skipped : dict
        Class that lacks flows but gets none -> reason.
    """

    flows: FlowTable
    target: int | str
    jitter: float | None
    flows_before: dict[str, int]
    added: dict[str, int]
    skipped: dict[str, str]

    def real(self) -> FlowTable:
        """Return the real flows with a label."""
        return self.flows.take(is_real(self.flows) & self.flows.table["label"].is_valid().to_numpy())

    def training_flows(self) -> FlowTable:
        """Return the real flows of all classes that are not skipped."""
        real = self.real()
        return real.take(~np.isin(real.labels.astype(str), list(self.skipped)))

    def deficits(self, fraction: float) -> dict[str, ClassDeficit]:
        """Divide the new flows of each class into sampled and jittered ones; a class without real flows gets no jitter.

        Numbers continue where earlier augmentations stopped, so that no flow comes twice.
        """
        jittered = np.array([source == SOURCE for source in self.flows.table["source"].to_pylist()])
        synthetic = ~is_real(self.flows)
        n_sampled, n_jittered = (self.flows.take(synthetic & rows).counts() for rows in (~jittered, jittered))
        with_real = self.real().classes
        deficits = {}
        for name, count in self.added.items():
            first, first_jittered = n_sampled.get(name, 0), n_jittered.get(name, 0)
            mask = is_jittered(first + first_jittered, count, fraction if name in with_real else 0.0)
            n = int(mask.sum())
            deficits[name] = ClassDeficit(
                mask, range(first, first + count - n), range(first_jittered, first_jittered + n)
            )
        return deficits

    def metadata(self) -> dict[str, Any]:
        """Return the plan as metadata of a table."""
        names = ("target", "flows_before", "added", "skipped")
        return {"made_by": "augment", **{name: getattr(self, name) for name in names}}


def plan_augmentation(
    flows: FlowTable | PathLike | Sequence[FlowTable | PathLike],
    target: int | str = BALANCE,
    *,
    model: Model | None = None,
    jitter: float | str = AUTO,
    skip_missing: bool = False,
) -> AugmentationPlan:
    """Count the flows that each class lacks, and check that they can be made; parameters and errors as in `augment`."""
    tables, fraction = read_tables(flows), parse_jitter(jitter)
    table = tables[0] if len(tables) == 1 else concat(tables)
    target = _parse_target(target)
    counts = table.labelled().counts()
    if model is not None:
        table.spec.require_equal(
            model.spec, "the table", f"model {model.name}",
            hint="Extract with the series of the model (netgen extract --spec-from MODEL), or leave out --model",
        )  # fmt: skip
    goal = target if isinstance(target, int) else max(counts.values())
    lacking = {name: goal - count for name, count in counts.items() if count < goal}
    if model is None:
        min_real = 1 if fraction == 1 else MIN_REAL_FLOWS
        real = table.take(is_real(table)).counts()
        skipped = {
            name: f"{real.get(name, 0)} real flows, {min_real} needed"
            for name in lacking
            if real.get(name, 0) < min_real
        }
    else:
        skipped = {name: f"model {model.name} does not have it" for name in lacking if name not in model.classes}
    if skipped and (not skip_missing or len(skipped) == len(lacking)):
        skip = "" if len(skipped) == len(lacking) else "Skip such classes with --skip-missing, or "
        if model is not None:
            known = ", ".join(model.classes)
            hint = f"{skip}leave out --model to train on this table"
            raise ModelError(f"model {model.name} has no class {', '.join(skipped)}; it has {known}", _sentence(hint))
        hint = f"{skip}add real flows, or give a --model that has them"
        raise TableError(
            f"too few real flows in class {', '.join(skipped)}: {min_real} or more are needed", _sentence(hint)
        )
    added = {name: count for name, count in lacking.items() if name not in skipped}
    return AugmentationPlan(table, target, fraction, counts, added, skipped)


def parse_jitter(jitter: float | str) -> float | None:
    """Return a fraction from 0 to 1, or None for "auto"."""
    if jitter == AUTO:
        return None
    try:
        fraction = float(jitter)
    except (TypeError, ValueError):
        fraction = -1.0
    if not 0 <= fraction <= 1:
        raise InputError(f"--jitter must be from 0 to 1, or {AUTO}, got {jitter!r}", "For example: --jitter 0.5")
    return fraction


def is_real(table: FlowTable) -> np.ndarray:
    """Mark the real flows of a table; bool, shape (flows,)."""
    return ~np.array(table.table["synthetic"].to_pylist(), bool)


def _parse_target(target: int | str) -> int | str:
    if target == BALANCE:
        return BALANCE
    if isinstance(target, str) and target.isdecimal() and target.isascii():
        target = int(target)
    if not isinstance(target, int | np.integer) or isinstance(target, bool) or target < 1:
        raise InputError(
            f"--target must be a number greater than 0, or {BALANCE}, got {target!r}", "For example: --target 500"
        )
    return int(target)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
