"""Sizes of models, by name."""

from __future__ import annotations

import dataclasses

from netgen.capture.errors import InputError


@dataclasses.dataclass(frozen=True)
class Preset:
    """A size of network and of batch; BENCHMARKS.md says what was measured of each.

    Parameters
    ----------
    width, depth, heads : int
        Of the transformer.
    batch : int
        Images a step.
    rate : float
        Peak learning rate.
    """

    width: int
    depth: int
    heads: int
    batch: int
    rate: float


PRESETS = {
    "tiny": Preset(width=64, depth=3, heads=4, batch=32, rate=3e-3),  # a minute or two of a CPU
    "small": Preset(width=128, depth=4, heads=4, batch=32, rate=2e-3),  # ten minutes of a CPU
    "base": Preset(width=256, depth=8, heads=8, batch=128, rate=1e-3),  # an accelerator
}

DEFAULT = "small"

#: As many minutes of a CPU make a better model of plain series than of images (BENCHMARKS.md, "Fidelity").
DEFAULT_ENCODER = "series"


def preset(name: str) -> Preset:
    """The preset of a name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in PRESETS:
        raise InputError(f"preset {name!r} is not known", f"Take one of: {', '.join(PRESETS)}")
    return PRESETS[name]
