"""Series for tests of decoders: random traffic, and what a model would sample of it."""

from typing import Any

import numpy as np


def traffic(generator: Any, flows: Any, bins: Any = 32, sizes: Any = (52, 158, 1400), most: Any = 40) -> Any:
    """Build series whose packets have a few sizes, and whose flows begin in bin 0."""
    totals_by_flow = generator.poisson(0.5, (len(sizes), flows, 2, bins)) * (generator.random((flows, 2, bins)) < 0.4)
    totals_by_flow[0, :, 0, 0] += 1
    totals_by_flow[-1, :, :, 1] += generator.integers(0, most, (flows, 1))
    volume = (totals_by_flow * np.array(sizes)[:, None, None, None]).sum(0)
    return np.concatenate([volume, totals_by_flow.sum(0)], axis=1)


def blurred(generator: Any, series: Any, scale: Any, spread: Any = 0.01) -> Any:
    """Return what a model would sample: the scaled series with a little noise."""
    return scale.scale(series) + generator.normal(0, spread, series.shape)
