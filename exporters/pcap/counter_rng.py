"""Counter-based random numbers: those of a flow depend on the seed and the flow, not on other flows.

With a sequential generator, flow 17 would change whenever flow 16 does. Here a number is a hash of
(seed, flow, occurrence, stream, counter), by the finaliser of SplitMix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def random_bits(key: Words, stream: int, counter: NDArray[np.int64] | int = 0) -> Words:
    """Return 64 random bits for each key from `flow_keys`, shape (n,).

    Streams have different purposes and are independent; `counter` is the position within the stream.
    """
    step = np.atleast_1d(counter).astype(np.uint64) * _GAMMA + np.uint64((stream * 0xD1342543DE82EF95) % 2**64)
    return _mix(_mix(key + step) + _GAMMA)


def uniform(bits: Words) -> NDArray[np.float64]:
    """Map random bits to numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def flow_keys(seed: int, number: NDArray[np.int64], occurrence: NDArray[np.int64]) -> Words:
    """Return a key for each flow, from the seed, the flow's number and how often that number came before."""
    root = np.full(len(number), seed % 2**64, dtype=np.uint64)
    return random_bits(random_bits(root, 1, number), 2, occurrence)


def occurrences(number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count how often each number came before, shape (n,): all zero if no number is repeated."""
    order = np.argsort(number, kind="stable")
    ranked = number[order]
    out = np.empty(len(number), dtype=np.int64)
    out[order] = np.arange(len(number)) - np.searchsorted(ranked, ranked)
    return out


def _mix(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
