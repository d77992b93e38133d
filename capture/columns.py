"""NumPy columns as Arrow arrays and back, without pyarrow's own conversions.

The first of those imports pandas, where that is installed, and the first dictionary all of pyarrow's
compute functions: together more time than a small capture takes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def arrow(values: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """Numbers or booleans, shape (rows,), as an Arrow array that shares their memory.

    Parameters
    ----------
    values : ndarray
        Of an integer type or bool.
    missing : ndarray of bool, shape (rows,), optional
        Which of them are null.
    """
    values = np.ascontiguousarray(values)
    kind = pa.from_numpy_dtype(values.dtype)
    held = np.packbits(values, bitorder="little") if values.dtype == bool else values
    valid = None
    if missing is not None and missing.any():
        valid = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(held)])


def strings(values: Sequence[str | None]) -> pa.Array:
    """Texts, or None, as an Arrow array."""
    if len(set(values)) == 1:  # as when no row has a label
        return pa.nulls(len(values), pa.string()) if values[0] is None else _repeated(values[0].encode(), len(values))
    encoded = [b"" if each is None else each.encode() for each in values]
    if sum(map(len, encoded)) >= 2**31:
        return pa.array(values, pa.string())  # says what is wrong with that
    there = np.array([each is not None for each in values], bool) if None in values else None
    return joined_strings(b"".join(encoded), np.array([*map(len, encoded)], np.int64), there)


def _repeated(text: bytes, rows: int) -> pa.Array:
    if len(text) * rows >= 2**31:
        raise pa.ArrowCapacityError(f"{rows} texts of {len(text)} bytes do not fit into one array")
    return joined_strings(text * rows, np.full(rows, len(text)))


def few_strings(rows: int, at: np.ndarray, texts: Sequence[str]) -> pa.Array:
    """An Arrow array of so many strings, null but at some rows, given in ascending order."""
    encoded = [each.encode() for each in texts]
    length, there = np.zeros(rows, np.int64), np.zeros(rows, bool)
    length[at], there[at] = [*map(len, encoded)], True
    return joined_strings(b"".join(encoded), length, there)


def joined_strings(text: np.ndarray | bytes, length: np.ndarray, there: np.ndarray | None = None) -> pa.Array:
    """Texts of these lengths, one behind the other in bytes of UTF-8, as an Arrow array.

    Parameters
    ----------
    text : ndarray of uint8 or bytes
        All of them.
    length : ndarray of int, shape (rows,)
        Bytes of each.
    there : ndarray of bool, shape (rows,), optional
        Which are not null.
    """
    ends = np.zeros(len(length) + 1, np.int64)
    np.cumsum(length, out=ends[1:])
    valid = None if there is None else pa.py_buffer(np.packbits(there, bitorder="little"))
    buffers = [valid, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), len(length), buffers)


def numbers(array: pa.Array) -> np.ndarray:
    """Numbers without nulls, as a NumPy array that shares their memory."""
    kind = np.dtype(array.type.to_pandas_dtype())
    return np.frombuffer(array.buffers()[1] or b"", kind, len(array) + array.offset)[array.offset :]


def unique(values: np.ndarray) -> np.ndarray:
    """The distinct values in ascending order, as `numpy.unique` has them, which first loads all of `numpy.ma`."""
    values = np.sort(values)
    keep = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=keep[1:])
    return values[keep]


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the distinct values each value is, int32, and these, in the order in which they first occur.

    Parameters
    ----------
    values : ndarray, shape (rows,)
        Of any type of fixed size; equal means equal bytes.
    """
    values = np.ascontiguousarray(values)
    row, first = groups(values)
    return row, values[first]


def groups(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


# drawn anew in each process, so that no capture can be made that is slow to read; results do not depend on them
_MIXERS = np.frombuffer(os.urandom(16), np.uint64) | np.uint64(1)
_HALF = np.uint64(32)


def _mixed(words: np.ndarray) -> np.ndarray:
    """A number for each row of some words."""
    mixed = np.zeros(len(words), np.uint64)
    for place in range(words.shape[1]):
        mixed += words[:, place]
        mixed *= _MIXERS[0]
        mixed ^= mixed >> _HALF
    return mixed * _MIXERS[1]
