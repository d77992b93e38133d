"""What a model has learnt beside its weights, and where it stands in the model's file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.recurring import Recurring
from netgen.encoders.decoding.repeats import Repeats
from netgen.encoders.decoding.shares import Shares
from netgen.encoders.decoding.traits import Traits

Part = TypeVar("Part", Marginals | Shares, Repeats, Recurring, Traits)

#: What puts totals right, by what the names of its tensors begin with.
TOTALS: dict[str, type[Marginals] | type[Shares]] = {"marginals": Marginals, "shares": Shares}


class CalibrationState(NamedTuple):
    """What is measured of real flows; models of earlier versions have nothing but totals."""

    totals: Marginals | Shares
    repeats: Repeats
    recurring: Recurring
    traits: Traits

    def tensors(self) -> dict[str, Tensor]:
        """By the names that they have in a file; what is empty is left out."""
        kind = next(name for name, each in TOTALS.items() if isinstance(self.totals, each))
        parts: dict[str, Any] = {kind: self.totals}
        if len(self.repeats.drawn):
            parts["repeats"] = self.repeats
        if len(self.recurring.label):
            parts["recurring"] = self.recurring
        if len(self.traits.real):
            parts["traits"] = self.traits
        arrays = {f"{name}.{field}": each for name, part in parts.items() for field, each in vars(part).items()}
        return {name: torch.from_numpy(each) for name, each in arrays.items()}


def pop_state(tensors: dict[str, Tensor], conditions: int, bins: int) -> CalibrationState:
    """What stands in the tensors of a file of a model of so many conditions and bins; it is taken out of them.

    Raises
    ------
    ValueError
        If something is not there as this netgen writes it, or does not fit.
    """
    totals = _part(tensors, TOTALS, "what its flows add up to")
    if totals is None:
        raise ValueError("it does not say what its flows add up to")
    repeats = _part(tensors, {"repeats": Repeats}, "what its bins hold again and again")
    recurring = _part(tensors, {"recurring": Recurring}, "which of its flows recur")
    traits = _part(tensors, {"traits": Traits}, "what its flows are like")
    if repeats is not None:
        repeats.check(conditions, bins)
    if recurring is not None:
        recurring.check(conditions, bins)
    if traits is not None:
        traits.check(conditions)
    return CalibrationState(
        totals, repeats or Repeats.none(), recurring or Recurring.nothing(), traits or Traits.none()
    )


def _part(tensors: dict[str, Tensor], kinds: Mapping[str, type[Part]], said: str) -> Part | None:
    """What stands in tensors under one of these names; they are taken out. None: there is none."""
    for kind, made in kinds.items():
        there = sorted(name for name in tensors if name.startswith(f"{kind}."))
        names = [f"{kind}.{field.name}" for field in dataclasses.fields(made)]
        if there == sorted(names):
            return made(*(tensors.pop(name).numpy() for name in names))
        if there:
            raise ValueError(f"it does not say, as this netgen does, {said}")
    return None
