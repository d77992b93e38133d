"""NumPy columns as Arrow arrays and back, without pyarrow's own conversions.

The first of those imports pandas, where that is installed, and the first encoding all of pyarrow's
compute functions: together more time than a small capture takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

#: Rows up to which a Python dict tells values apart sooner than pyarrow is ready to.
FEW = 4096


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
    encoded = [b"" if each is None else each.encode() for each in values]
    ends = np.cumsum([0, *map(len, encoded)])
    if ends[-1] >= 2**31:
        return pa.array(values, pa.string())  # says what is wrong with that
    valid = None
    if None in values:
        valid = pa.py_buffer(np.packbits([each is not None for each in values], bitorder="little"))
    buffers = [pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(values), [valid, *buffers])


def numbers(array: pa.Array) -> np.ndarray:
    """Numbers without nulls, as a NumPy array that shares their memory."""
    kind = np.dtype(array.type.to_pandas_dtype())
    return np.frombuffer(array.buffers()[1] or b"", kind, len(array) + array.offset)[array.offset :]


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the distinct values each value is, and these, in the order in which they first occur.

    Parameters
    ----------
    values : ndarray, shape (rows,)
        Of any type of fixed size; equal means equal bytes.
    """
    size = values.dtype.itemsize
    values = np.ascontiguousarray(values)
    if len(values) <= FEW:
        seen: dict[bytes, int] = {}
        row = [seen.setdefault(each, len(seen)) for each in values.view(f"V{size}").tolist()]
        return np.array(row, np.int32), np.frombuffer(b"".join(seen), values.dtype)
    binary = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(values), [None, pa.py_buffer(values)])
    coded = binary.dictionary_encode()
    return numbers(coded.indices), np.frombuffer(coded.dictionary.buffers()[1], values.dtype, len(coded.dictionary))
