"""Codes for values, as `pandas.factorize` gives them, without Arrow."""

from __future__ import annotations

import os

import numpy as np

from netgen.capture.native import tables

# random in each process, so that nobody can make a capture that is slow to read; results do not depend on it
_FACTORS = np.frombuffer(os.urandom(16), np.uint64) | np.uint64(1)


def factorize(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a code (int32) for each value, and the distinct values in the order in which they first occur.

    Values may be of any type of fixed size; equal means equal bytes, and ``values == uniques[codes]``.
    """
    values = np.ascontiguousarray(values)
    codes, first = group_rows(values)
    return codes, values[first]


def unique(values: np.ndarray) -> np.ndarray:
    """Return the distinct values in ascending order, as `numpy.unique`, which would import numpy.ma for 10 ms."""
    return np.sort(factorize(values)[1])


def group_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the same codes, and the rows in which the distinct values first occur."""
    count, size = len(values), values.dtype.itemsize
    if size % 8:
        padded = np.zeros((count, size + -size % 8), np.uint8)
        padded[:, :size] = values.view(np.uint8).reshape(count, size)
        values = padded
    return tables.group_rows(values.view(np.uint64).reshape(count, (size + 7) // 8), _FACTORS)
