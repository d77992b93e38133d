"""Gramian angular fields by pyts, and what their encoders share."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from netgen.encoders.base import Encoder


def gramian_field(scaled: np.ndarray, method: Literal["summation", "difference"]) -> np.ndarray:
    """Return the Gramian angular fields of series in [-1, 1], with pyts: float64 (flows, channels, bins, bins).

    Importing pyts compiles 26 functions, 30 s of CPU, unless numba is switched off; the fields are the same. So pyts is
    imported only when a field is made, with numba off meanwhile.
    """
    import numba

    settings: Any = numba.config
    before, settings.DISABLE_JIT = settings.DISABLE_JIT, True
    try:
        from pyts.image import GramianAngularField
    finally:
        settings.DISABLE_JIT = before
    flows, channels, bins = scaled.shape
    if not flows:
        return np.zeros((0, channels, bins, bins))
    field = GramianAngularField(image_size=1.0, sample_range=None, method=method)
    return field.transform(scaled.reshape(flows * channels, bins)).reshape(flows, channels, bins, bins)


class GramianEncoder(Encoder):
    """Shape of a Gramian angular field."""

    def columns(self, bins: int) -> int:
        """Return as many columns as rows."""
        return bins

    def pixels_per_value(self, bins: int) -> int:
        """Return the pixels of a row and a column."""
        return 2 * bins
