"""Series of the first packets of TCP connections."""

import numpy as np


def tcp_packet_series(number: int, length: int = 16, seed: int = 0) -> np.ndarray:
    """Build TCP connections from handshake to closing, shape (flows, 2, length); some are longer than the series."""
    rng = np.random.default_rng(seed)
    series = np.zeros((number, 2, length), np.int64)
    for flow in range(number):
        middle = [int(rng.choice([52, -52, 600, -1500])) for _ in range(rng.integers(0, length - 6))]
        sizes = [60, -60, 52, 400, *middle, 52, -52, 52][:length]
        series[flow, 0, : len(sizes)] = sizes
        series[flow, 1, 1 : len(sizes)] = rng.integers(0, [50_000] * (len(sizes) - 1))
    return series
