"""Sizes of models, by name."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Preset:
    """A size of network and of batch; BENCHMARKS.md says what was measured of each."""

    width: int
    depth: int
    heads: int
    batch: int  # images per step
    lr: float  # peak learning rate


PRESETS = {
    "tiny": Preset(width=64, depth=3, heads=4, batch=32, lr=3e-3),  # a minute or two of a CPU
    "small": Preset(width=128, depth=4, heads=4, batch=32, lr=2e-3),  # ten minutes of a CPU
    "base": Preset(width=256, depth=8, heads=8, batch=128, lr=1e-3),  # an accelerator
}
