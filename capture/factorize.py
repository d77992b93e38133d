"""Values told apart in NumPy alone: without what pyarrow and `numpy.ma` take to load."""

from __future__ import annotations

import os

import numpy as np

from netgen.capture import native
from netgen.capture.native import tables

# drawn anew in each process, so that no capture can be made that is slow to read; results do not depend on them
_MIXERS = np.frombuffer(os.urandom(16), np.uint64) | np.uint64(1)
_HALF = np.uint64(32)


def unique(values: np.ndarray) -> np.ndarray:
    """The distinct values in ascending order, as `numpy.unique` has them, which first loads all of `numpy.ma`."""
    values = np.sort(values)
    keep = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=keep[1:])
    return values[keep]


def factorize(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the distinct values each value is, int32, and these, in the order in which they first occur.

    Parameters
    ----------
    values : ndarray, shape (rows,)
        Of any type of fixed size; equal means equal bytes.
    """
    values = np.ascontiguousarray(values)
    row, first = group_rows(values)
    return row, values[first]


def group_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, but with the rows in which the distinct values first occur in place of these.

    All rows write their number into a table, at a place that their value gives: the first one stays,
    and those that are equal to it have found their group. The others do so again, at other places.
    """
    count, size = len(values), values.dtype.itemsize
    if size % 8:
        padded = np.zeros((count, size + -size % 8), np.uint8)
        padded[:, :size] = values.view(np.uint8).reshape(count, size)
        values = padded
    words = values.view(np.uint64).reshape(count, (size + 7) // 8)
    if native.ready():
        return tables.group_rows(words, _MIXERS)
    words = words[:, 0] if words.shape[1] == 1 else words
    mixed = words * _MIXERS[0] if words.ndim == 1 else _mixed(words)
    shift = np.uint64(64 - max(8, count.bit_length()))
    table = np.empty(1 << int(64 - shift), np.int32)
    head = np.empty(count, np.int32)  # the first row of each row's group
    todo = np.arange(count, dtype=np.int32)
    while todo.size:
        at = (mixed >> shift).astype(np.int64)
        table[at[::-1]] = todo[::-1]  # of several, the last that is written stays
        there = table[at]
        other = words[there] != (words if len(todo) == count else words[todo])
        if words.ndim == 2:
            other = other.any(axis=1)
        if len(todo) == count:
            head = there.copy()
        else:
            head[todo] = there
        rest = np.flatnonzero(other)
        todo, mixed = todo[rest], mixed[rest]
        mixed ^= mixed >> _HALF
        mixed *= _MIXERS[1]
    first = np.flatnonzero(head == np.arange(count, dtype=np.int32))
    number = np.empty(count, np.int32)
    number[first] = np.arange(len(first), dtype=np.int32)
    return number[head], first


def _mixed(words: np.ndarray) -> np.ndarray:
    """A number for each row of some words."""
    mixed = np.zeros(len(words), np.uint64)
    for place in range(words.shape[1]):
        mixed += words[:, place]
        mixed *= _MIXERS[0]
        mixed ^= mixed >> _HALF
    return mixed * _MIXERS[1]
