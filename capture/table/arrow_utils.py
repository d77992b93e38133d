"""NumPy columns as Arrow arrays and back, without pyarrow's own conversions.

The first of those imports pandas, where that is installed, and the first dictionary all of pyarrow's
compute functions: together more time than a small capture takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def to_arrow(values: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
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


def string_array(values: Sequence[str | None]) -> pa.Array:
    """Texts, or None, as an Arrow array."""
    if len(set(values)) == 1:  # as when no row has a label
        return pa.nulls(len(values), pa.string()) if values[0] is None else _repeated(values[0].encode(), len(values))
    encoded = [b"" if each is None else each.encode() for each in values]
    if sum(map(len, encoded)) >= 2**31:
        return pa.array(values, pa.string())  # says what is wrong with that
    there = np.array([each is not None for each in values], bool) if None in values else None
    return join_strings(b"".join(encoded), np.array([*map(len, encoded)], np.int64), there)


def _repeated(text: bytes, rows: int) -> pa.Array:
    if len(text) * rows >= 2**31:
        raise pa.ArrowCapacityError(f"{rows} texts of {len(text)} bytes do not fit into one array")
    return join_strings(text * rows, np.full(rows, len(text)))


def sparse_string_array(rows: int, at: np.ndarray, texts: Sequence[str]) -> pa.Array:
    """An Arrow array of so many strings, null but at some rows, given in ascending order."""
    encoded = [each.encode() for each in texts]
    length, there = np.zeros(rows, np.int64), np.zeros(rows, bool)
    length[at], there[at] = [*map(len, encoded)], True
    return join_strings(b"".join(encoded), length, there)


def join_strings(text: np.ndarray | bytes, length: np.ndarray, there: np.ndarray | None = None) -> pa.Array:
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
