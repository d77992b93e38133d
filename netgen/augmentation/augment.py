"""Topping up rare classes: flows of a table, and synthetic ones where a class has few.

The model learns from the table's own real flows, unless one is given. A share of the new ones may be jittered real
flows (`netgen.augmentation.jitter`); a trial on the real flows decides it (`netgen.augmentation.jitter_selection`). Drawn flow i of a class is the
same for the same model and seed, and jittered flow i for the same real flows and seed; so a table that is topped up
twice, to 100 and then to 500, holds what one topped up to 500 at once does, and no flow comes twice.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from netgen.augmentation.jitter import SOURCE, SPREAD, is_jittered, jittered
from netgen.augmentation.jitter_selection import AUTO, Trial, tried
from netgen.capture.errors import InputError, ModelError, TableError
from netgen.capture.table.arrow_utils import to_arrow
from netgen.capture.table.flow_table import FlowTable, concat
from netgen.capture.table.schema import FLOW_COLUMNS
from netgen.diffusion.train import Progress
from netgen.model.model import Model
from netgen.model.registry import load
from netgen.model.sampling import check_sampling, choose_device
from netgen.training.train import train

#: Instead of a number: as many flows as the largest class has.
BALANCE = "balance"

#: Real flows of a class from which more can be learnt than to repeat one.
LEAST = 2

#: What of a training is kept in the table: all that decides it, nothing that differs from run to run.
KEPT = ("steps", "seed", "device", "threads", "precision", "flows")


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How flows are drawn; checked here, before a training that would be for nothing.

    Parameters
    ----------
    seed, device, guidance, steps
        As in `Model.sample`.
    threads : int, optional
        Its ``workers``.
    """

    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    guidance: float = 1.0
    steps: int | None = None

    def __post_init__(self) -> None:
        check_sampling(self.guidance, self.steps)
        choose_device(self.device)
        if self.threads is not None and self.threads < 1:
            raise InputError(f"{self.threads} threads cannot be used", "Take a positive number: --threads 1")

    def draw(self, model: Model, numbers: dict[str, int], progress: Callable[[int, int], None] | None) -> FlowTable:
        """So many flows of each class."""
        return model.sample(
            numbers, seed=self.seed, guidance=self.guidance, sampling_steps=self.steps, device=self.device,
            threads=self.threads, progress=progress,
        )  # fmt: skip


def augment(
    flows: FlowTable | Sequence[FlowTable],
    to: int | str = BALANCE,
    *,
    model: Model | str | os.PathLike[str] | None = None,
    seed: int = 0,
    drawing: Drawing | None = None,
    jitter: float | str = AUTO,
    only_synthetic: bool = False,
    skip_missing: bool = False,
    save_model: str | os.PathLike[str] | None = None,
    force: bool = False,
    training_progress: Callable[[Progress], None] | None = None,
    trial_progress: Callable[[int, int], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **training: Any,
) -> FlowTable:
    """Add synthetic flows to the classes that have few.

    Parameters
    ----------
    flows : FlowTable or sequence of FlowTable
        Of equal series. All rows are kept as they are; those without a label too.
    to : int or "balance"
        Flows that each class has in the end, if it has not more already; ``"balance"``: as many as
        the largest. Synthetic flows that the table has already are counted, but not learnt from.
    model : Model, path or name, optional
        Draws the flows. Otherwise one is trained on the real flows of the table.
    seed : int
        Of training and drawing. The same flows come again with the same model, or with the same
        ``steps``, ``threads`` and ``precision`` of training: one by the clock does not stop at the same step.
    drawing : Drawing, optional
        Seed, device, threads, guidance and sampling steps, instead of `seed` alone.
    jitter : float or "auto"
        Share of the new flows that are not drawn, but real flows of the class with each number a little changed, which
        lie near real ones. ``"auto"``: half, if a trial on the real flows finds that a classifier learns more with
        such (`netgen.augmentation.jitter_selection`), and none otherwise, nor with `only_synthetic`.
    only_synthetic : bool
        Return the new flows alone.
    skip_missing : bool
        Leave a class as it is which the model does not have, or which has fewer than `LEAST` real
        flows to learn from; otherwise that is an error.
    save_model : path, optional
        Keeps the model that was trained; replaced if there is one and `force` is true.
    training_progress, trial_progress, progress : callable, optional
        Told of the training, as in `netgen.train`, of the trial's (turns done, turns in all), and of (flows drawn,
        flows to draw).
    **training
        ``minutes``, ``steps``, ``precision``, ``validation`` and all else that `netgen.train` takes.

    Returns
    -------
    FlowTable
        The rows of `flows` in their order, then the new ones, class by class, ``synthetic`` true.
        ``about`` says what was done.

    Raises
    ------
    TableError, ModelError, SpecMismatch, InputError
        Before anything is trained, if a class cannot be topped up, or `model` does not fit.
    """
    how = drawing or Drawing(seed=seed)
    _check(model, save_model, training)
    share = _share(jitter)
    given = load(model) if isinstance(model, str | os.PathLike) else model
    plan = planned(flows, to, model=given, skip_missing=skip_missing)
    if not plan.numbers:
        return plan.unchanged(only_synthetic=only_synthetic)
    if given is None:
        both = {"seed": how.seed, "device": how.device, "threads": how.threads}
        given = plan.learn(**{**both, **training}, out=save_model, force=force, progress=training_progress)
    trial = None
    if share is None:
        # whoever takes the synthetic flows alone may pass them on, and jittered ones lie near real ones
        trial = None if only_synthetic else plan.tried(how.seed, trial_progress)
        share = 0.0 if trial is None else trial.share
    return plan.fill(given, how, jitter=share, trial=trial, only_synthetic=only_synthetic, progress=progress)


def _share(jitter: float | str) -> float | None:
    """A share of flows; None: a trial decides."""
    if jitter == AUTO:
        return None
    try:
        share = float(jitter)
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share < 1:
        raise InputError(
            f"a share of {jitter} of the new flows cannot be jittered", f"Take 0 to 0.9, or {AUTO}: --jitter 0.5"
        )
    return share


def _check(model: Any, save_model: str | os.PathLike[str] | None, training: dict[str, Any]) -> None:
    """Refuse what does not go together."""
    words = [*training, *["save-model"] * (save_model is not None)]
    if model is not None and words:
        raise InputError(f"a model that is given is trained already: --{words[0]} cannot be heeded", "Leave it out")
    if save_model is not None and Path(save_model).suffix != ".safetensors":
        raise InputError(f"a model cannot be written to {save_model}", "Name it --save-model NAME.safetensors")
    if training.get("resume") and save_model is None:
        raise InputError("only a training that keeps its model can be resumed", "Name it: --save-model FILE")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is to be done to a table: nothing of it is done yet.

    Parameters
    ----------
    flows : FlowTable
    to : int or "balance"
    before : dict
        Class -> flows that it has.
    numbers : dict
        Class -> flows that it lacks, and gets.
    left : dict
        Class that lacks flows, and is left as it is -> why.
    """

    flows: FlowTable
    to: int | str
    before: dict[str, int]
    numbers: dict[str, int]
    left: dict[str, str]

    def tried(self, seed: int, progress: Callable[[int, int], None] | None = None) -> Trial | None:
        """Whether jittered flows help, by the labelled real flows; nothing if none of those could be jittered."""
        real = self._labelled()
        return None if set(real.classes).isdisjoint(self.numbers) else tried(real, seed, progress)

    def _labelled(self) -> FlowTable:
        """Real flows of known class."""
        return self.flows.take(_real(self.flows) & self.flows.table["label"].is_valid().to_numpy())

    def learn(self, **training: Any) -> Model:
        """Train on the real flows of all classes but those that are left; takes what `netgen.train` does."""
        learnt = set(self.before) - set(self.left)
        rows = _real(self.flows) & np.array([label in learnt for label in self.flows.labels])
        name = training.pop("name", None) or (None if training.get("out") else "augment")
        return train(self.flows.take(rows), name=name, **training)

    def unchanged(self, *, only_synthetic: bool = False) -> FlowTable:
        """The table where no class lacks flows, with a note that this was seen to.

        Raises
        ------
        InputError
            With `only_synthetic`, as there are none.
        """
        if only_synthetic:
            most = "the largest" if self.to == BALANCE else self.to
            raise InputError(
                f"no class has fewer flows than {most}: there is no synthetic flow to write",
                "Ask for more: --target NUMBER",
            )
        return dataclasses.replace(self.flows, metadata={**self._about(), "tables": [self.flows.metadata]})

    def fill(
        self,
        model: Model,
        drawing: Drawing,
        *,
        jitter: float = 0.0,
        trial: Trial | None = None,
        only_synthetic: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> FlowTable:
        """Draw what is lacking, and jitter; see `augment`. `trial` is what the share was chosen by."""
        real = self._labelled()
        lacks = self._lacks(jitter, set(real.classes))
        drawn = drawing.draw(model, {name: max(each.drawn.stop, 1) for name, each in lacks.items()}, progress)
        near = {name: each.near for name, each in lacks.items() if each.near}
        both = [drawn, jittered(real, near, drawing.seed)] if near else [drawn]
        new = pa.concat_tables([each.table for each in both]).take(pa.array(_places(lacks, drawn.labels)))
        begin = max(self.flows.table["flow"].to_pylist()) + 1
        new = new.combine_chunks().set_column(0, FLOW_COLUMNS.field("flow"), to_arrow(begin + np.arange(len(new))))
        facts = ("model", "weights_sha256", "seed", "guidance", "sampling_steps", "changed")
        close: dict[str, Any] = {"share": jitter, "spread": SPREAD, "flows": {name: len(near[name]) for name in near}}
        close |= {} if trial is None else {"trial": trial.to_json()}
        return FlowTable(
            new if only_synthetic else pa.concat_tables([self.flows.table, new]).combine_chunks(),
            self.flows.spec,
            {
                **self._about(),
                "only_synthetic": only_synthetic,
                "jittered": close,
                **{key: drawn.metadata[key] for key in facts},
                "training": {key: model.training[key] for key in KEPT if key in model.training},
                "tables": [self.flows.metadata, drawn.metadata],
            },
        )

    def _lacks(self, jitter: float, known: set[str]) -> dict[str, _Lack]:
        """What each class gets: the model's first flows, and the first jittered ones, may be here already.

        Only classes of `known` have real flows to be jittered.
        """
        near = _jittered(self.flows)
        drawn_before, near_before = (self.flows.take(each).counts() for each in (~_real(self.flows) & ~near, near))
        found = {}
        for name, number in self.numbers.items():
            own, like = drawn_before.get(name, 0), near_before.get(name, 0)
            marks = is_jittered(own + like, number, jitter if name in known else 0.0)
            more = int(marks.sum())
            found[name] = _Lack(marks, range(own, own + number - more), range(like, like + more))
        return found

    def _about(self) -> dict[str, Any]:
        return {
            "made_by": "augment",
            "to": self.to,
            "before": self.before,
            "numbers": self.numbers,
            "left": self.left,
        }


@dataclasses.dataclass(frozen=True)
class _Lack:
    """What a class gets: which of its new flows are jittered, and which drawn and jittered flows of it they are."""

    jittered: np.ndarray
    drawn: range
    near: range


def _places(lacks: dict[str, _Lack], labels: np.ndarray) -> np.ndarray:
    """Where the new flows stand in a table of the drawn ones, whose labels these are, and then the jittered ones."""
    rows, first = [], len(labels)
    for name, lack in lacks.items():
        row = np.empty(len(lack.jittered), np.int64)
        row[~lack.jittered] = np.flatnonzero(labels == name)[lack.drawn.start : lack.drawn.stop]
        row[lack.jittered] = first + np.arange(len(lack.near))
        first += len(lack.near)
        rows.append(row)
    return np.concatenate(rows)


def planned(
    flows: FlowTable | Sequence[FlowTable],
    to: int | str = BALANCE,
    *,
    model: Model | None = None,
    skip_missing: bool = False,
) -> Augmentation:
    """Count what each class lacks, and check that it can be had; parameters and errors as in `augment`."""
    tables = [flows] if isinstance(flows, FlowTable) else list(flows)
    table = tables[0] if len(tables) == 1 else concat(tables)
    number = _number(to)
    before = table.labelled().counts()
    if model is not None:
        table.spec.require_equal(
            model.spec, "the table", f"model {model.name}",
            hint="Cut the flows as the model has them (netgen extract --spec-from MODEL), or train on this table: "
            "leave --model out",
        )  # fmt: skip
    most = number if number is not None else max(before.values())
    short = {name: most - there for name, there in before.items() if there < most}
    left = _unlearnable(table, short) if model is None else _unknown(model, short)
    if left and (not skip_missing or len(left) == len(short)):
        raise _cannot(left, model, everything=len(left) == len(short))
    wanted = {name: lacking for name, lacking in short.items() if name not in left}
    return Augmentation(table, BALANCE if number is None else number, before, wanted, left)


def _number(to: int | str) -> int | None:
    """Flows a class; None: as many as the largest."""
    if to == BALANCE:
        return None
    if isinstance(to, str) and to.isdecimal() and to.isascii():
        to = int(to)
    if not isinstance(to, int | np.integer) or isinstance(to, bool) or to < 1:
        raise InputError(
            f"classes cannot be topped up to {to!r} flows", f"Take a positive number, or {BALANCE}: --target 500"
        )
    return int(to)


def _real(table: FlowTable) -> np.ndarray:
    return ~np.array(table.table["synthetic"].to_pylist(), bool)


def _jittered(table: FlowTable) -> np.ndarray:
    return ~_real(table) & np.array([each == SOURCE for each in table.table["source"].to_pylist()], bool)


def _unlearnable(table: FlowTable, short: dict[str, int]) -> dict[str, str]:
    counts = table.take(_real(table)).counts()
    found = {name: counts.get(name, 0) for name in short}
    return {name: f"{there or 'no'} real flow to learn from" for name, there in found.items() if there < LEAST}


def _unknown(model: Model, short: dict[str, int]) -> dict[str, str]:
    return {name: f"model {model.name} does not have it" for name in short if name not in model.classes}


def _cannot(left: dict[str, str], model: Model | None, *, everything: bool) -> InputError:
    names = ", ".join(left)
    skip = "" if everything else "Leave what cannot be topped up as it is with --skip-missing, or "
    if model is not None:
        hint = f"{skip}train on this table: leave --model out"
        return ModelError(f"model {model.name} has no class {names}; it has {', '.join(model.classes)}", _upper(hint))
    hint = f"{skip}get {LEAST} real flows or more of each, or take a --model that has them"
    return TableError(f"too few real flows to learn from in class {names}: a model needs {LEAST}", _upper(hint))


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
