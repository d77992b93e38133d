"""What calibration learns beside the weights, as tensors of the model file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from netgen.encoders.decoding.marginals import Marginals
from netgen.encoders.decoding.recurring import Recurring
from netgen.encoders.decoding.repeats import Repeats
from netgen.encoders.decoding.shares import Shares
from netgen.encoders.decoding.traits import Traits

Field = TypeVar("Field", Marginals | Shares, Repeats, Recurring, Traits)

#: Prefix of tensor names -> type.
TOTALS: dict[str, type[Marginals] | type[Shares]] = {"marginals": Marginals, "shares": Shares}


class CalibrationState(NamedTuple):
    """Decoder settings measured on real flows."""

    totals: Marginals | Shares
    repeats: Repeats
    recurring: Recurring
    flow_features: Traits

    def tensors(self) -> dict[str, Tensor]:
        """Return tensors by their names in a file; empty fields are left out."""
        prefix = next(name for name, totals in TOTALS.items() if isinstance(self.totals, totals))
        fields: dict[str, Marginals | Shares | Repeats | Recurring | Traits] = {prefix: self.totals}
        if len(self.repeats.drawn):
            fields["repeats"] = self.repeats
        if len(self.recurring.label):
            fields["recurring"] = self.recurring
        if len(self.flow_features.real):
            fields["flow_features"] = self.flow_features
        return {
            f"{prefix}.{name}": torch.from_numpy(array)
            for prefix, field in fields.items()
            for name, array in vars(field).items()
        }


def pop_state(tensors: dict[str, Tensor], strata: int, bins: int) -> CalibrationState:
    """Remove the calibration tensors of a model file from `tensors`, and validate them.

    Raises ValueError if one is missing, unknown or of the wrong shape.
    """
    totals = _pop(tensors, TOTALS)
    if totals is None:
        raise ValueError(f"tensors of {' or '.join(TOTALS)} are missing")
    if repeats := _pop(tensors, {"repeats": Repeats}):
        repeats.check(strata, bins)
    if recurring := _pop(tensors, {"recurring": Recurring}):
        recurring.check(strata, bins)
    if features := _pop(tensors, {"flow_features": Traits}):
        features.check(strata)
    return CalibrationState(
        totals, repeats or Repeats.none(), recurring or Recurring.nothing(), features or Traits.none()
    )


def _pop(tensors: dict[str, Tensor], types: Mapping[str, type[Field]]) -> Field | None:
    """Remove the tensors under one of these prefixes and build their type; None if there are none."""
    for prefix, field_type in types.items():
        present = {name for name in tensors if name.startswith(f"{prefix}.")}
        names = [f"{prefix}.{field.name}" for field in dataclasses.fields(field_type)]
        if present == set(names):
            return field_type(*(tensors.pop(name).numpy() for name in names))
        if present:
            raise ValueError(f"its tensors of {prefix} are {', '.join(sorted(present))}, not {', '.join(names)}")
    return None
