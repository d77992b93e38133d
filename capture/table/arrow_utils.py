"""NumPy columns as Arrow arrays and back, without importing pandas.

pyarrow's own conversions import pandas where it is installed, and its dictionaries import all of
its compute functions. Either takes longer than reading a small capture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa


def to_arrow(values: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """Wrap integers or booleans in an Arrow array, null where `missing`; integers share their memory."""
    values = np.ascontiguousarray(values)
    data = np.packbits(values, bitorder="little") if values.dtype == bool else values
    validity = None
    if missing is not None and missing.any():
        validity = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [validity, pa.py_buffer(data)])


def to_numpy(array: pa.Array) -> np.ndarray:
    """Return numbers without nulls as a NumPy array that shares their memory."""
    dtype = np.dtype(array.type.to_pandas_dtype())
    return np.frombuffer(array.buffers()[1] or b"", dtype, len(array) + array.offset)[array.offset :]


def lists_to_numpy(column: pa.ChunkedArray, length: int) -> np.ndarray:
    """Return a column of lists of `length` numbers as an array, shape (rows, length)."""
    chunks = [chunk.flatten().to_numpy() for chunk in column.chunks]
    return (np.concatenate(chunks) if chunks else np.zeros(0, np.int64)).reshape(-1, length)


def string_array(values: Sequence[str | None]) -> pa.Array:
    """Return texts, or None, as an Arrow array."""
    if len(set(values)) == 1:  # for example, no row has a label
        return pa.nulls(len(values), pa.string()) if values[0] is None else _repeat(values[0].encode(), len(values))
    encoded = [b"" if value is None else value.encode() for value in values]
    if sum(map(len, encoded)) >= 2**31:
        return pa.array(values, pa.string())  # raises Arrow's own error
    valid = np.array([value is not None for value in values], bool) if None in values else None
    return join_strings(b"".join(encoded), np.array([*map(len, encoded)], np.int64), valid)


def _repeat(text: bytes, rows: int) -> pa.Array:
    if len(text) * rows >= 2**31:
        raise pa.ArrowCapacityError(f"{rows} texts of {len(text)} bytes do not fit into one array")
    return join_strings(text * rows, np.full(rows, len(text)))


def sparse_string_array(rows: int, index: np.ndarray, texts: Sequence[str]) -> pa.Array:
    """Return an Arrow array of `rows` strings with `texts` at the ascending rows `index` and null elsewhere."""
    encoded = [text.encode() for text in texts]
    lengths, valid = np.zeros(rows, np.int64), np.zeros(rows, bool)
    lengths[index], valid[index] = [*map(len, encoded)], True
    return join_strings(b"".join(encoded), lengths, valid)


def join_strings(text: np.ndarray | bytes, lengths: np.ndarray, valid: np.ndarray | None = None) -> pa.Array:
    """Return an Arrow array of strings that lie one behind the other in `text` (UTF-8), given the bytes of each.

    Rows that are not `valid` are null.
    """
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    validity = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    buffers = [validity, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(text)]
    return pa.Array.from_buffers(pa.string(), len(lengths), buffers)
