"""Columns of lists of one length, nearly all zeros, as Parquet stores them: pages made from what is no zero.

A writer that is given all numbers spends its time on the zeros, which are a hundred to one in the
series of flows. Here a run of zeros is one step, however long. The layout is Parquet's own
(https://parquet.apache.org/docs/file-format/): for each column a dictionary, and runs of places in
it; or the plain numbers, where they are too many for that to be shorter.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netgen.capture import native
from netgen.capture.factorize import factorize
from netgen.capture.native import tables
from netgen.capture.series.bins import SparseChannel
from netgen.capture.table import thrift
from netgen.capture.table.thrift import BINARY, FALSE, I32, I64, LIST, STRUCT, Struct

#: With more than one number in so many no zero, plain numbers are shorter.
DENSE = 8

#: Numbers in a page of plain ones, and in any page at most.
_PLAIN_PAGE, _PAGE = 1 << 17, 1 << 24

#: Bytes of the length of a run in such a page, at most.
_LONGEST = 4

# what Parquet's own enumerations call these (parquet.thrift)
_INT64, _ZSTD = 2, 6
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_ROWS, _GROUPS, _PLACES = 3, 4, (9, 11)
_MAGIC = b"PAR1"

_OPTIONS: dict[str, Any] = {"compression": "zstd"}


class SparseListWriter:
    """Writes a Parquet file whose last columns are such lists, a group of rows at a time.

    pyarrow writes the other columns, and says what the schema is; the lists and the footer are
    written here.

    Parameters
    ----------
    file : binary file
        Where to, open for writing and reading.
    schema : pyarrow.Schema
        Of all columns.
    others : int
        How many of them are no lists.
    many : mapping of str to bool
        Those of these with a value of its own in nearly every row, of which a dictionary takes more room, and as
        long again; and whether they are shorter as differences from row to row.
    """

    def __init__(self, file: IO[bytes], schema: pa.Schema, others: int, many: Mapping[str, bool]) -> None:
        self._file, self._schema = file, schema
        self._sink = _Sink(file)
        plain = pa.schema([schema.field(place) for place in range(others)])
        few = [field.name for field in plain if field.name not in many]
        delta = {field.name: "DELTA_BINARY_PACKED" for field in plain if many.get(field.name)}
        self._parquet = pq.ParquetWriter(self._sink, plain, use_dictionary=few, column_encoding=delta, **_OPTIONS)
        self._paths = [(name, "list", "element") for name in schema.names[others:]]
        self._groups: list[tuple[int, list[Struct]]] = []  # where each begins, and the columns written here
        self._thread = ThreadPoolExecutor(1)

    def write(self, columns: pa.Table, lists: Sequence[SparseChannel]) -> None:
        """A group of rows: the columns that are no lists, and the lists."""
        start = self._file.tell()
        # Arrow writes its columns meanwhile
        coming = [
            self._thread.submit(column_chunk, path, cells) for path, cells in zip(self._paths, lists, strict=True)
        ]
        self._parquet.write_table(columns, row_group_size=max(len(columns), 1))
        told = []
        for each in coming:
            data, chunk = each.result()
            told.append(_moved(chunk, self._file.tell()))
            self._file.write(data)
        self._groups.append((start, told))

    def finish(self, metadata: dict[bytes, bytes]) -> None:
        """Write the footer, with metadata; nothing can be written behind it."""
        end = self._file.tell()
        self._parquet.close()
        self._sink.open = False
        self._file.seek(end)
        groups = _footer(self._file.read())[_GROUPS]
        for group, (start, lists) in zip(groups[1][1], self._groups, strict=True):
            chunks = group[1][1][1]
            # pyarrow does not know of the bytes that were written here
            shift = start - min(about[3][1][place][1] for about in chunks for place in _PLACES if place in about[3][1])
            for about in chunks:
                _moved(about, shift)
            group[5] = I64, start
            chunks += lists
            for total, part in ((2, 6), (6, 7)):  # bytes, and compressed
                group[total] = I64, group[total][1] + sum(chunk[3][1][part][1] for chunk in lists)
        # a file without rows says all else that there is to say
        empty = pa.BufferOutputStream()
        with pq.ParquetWriter(empty, self._schema, **_OPTIONS) as writer:
            writer.add_key_value_metadata(metadata)
        rows = I64, sum(group[3][1] for group in groups[1][1])
        footer = thrift.dumps({**_footer(empty.getvalue().to_pybytes()), _ROWS: rows, _GROUPS: groups})
        self._file.seek(end)
        self._file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)
        self._file.truncate()
        self._file.flush()

    def abandon(self) -> None:
        """Write nothing more, whatever pyarrow still has."""
        self._sink.open = False
        self._thread.shutdown(cancel_futures=True)


class _Sink:
    """A file as pyarrow writes to it, which it may still do when it lets go of it."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.open = True

    def write(self, data: bytes) -> int:
        return self._file.write(data) if self.open else len(data)

    def tell(self) -> int:
        return self._file.tell() if self.open else 0

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.open = False


def _footer(data: bytes) -> Struct:
    """The footer of a file that ends with these bytes."""
    size = int.from_bytes(data[-8:-4], "little")
    return thrift.loads(data[-8 - size : -8])


def _moved(chunk: Struct, by: int) -> Struct:
    """A ``ColumnChunk`` whose pages stand so many bytes further on."""
    about = chunk[3][1]
    for place in _PLACES:
        if place in about:
            about[place] = I64, about[place][1] + by
    return chunk


def column_chunk(path: tuple[str, ...], cells: SparseChannel) -> tuple[bytes, Struct]:
    """A column of lists, none of them null or empty, nor a number null.

    Parameters
    ----------
    path : tuple of str
        Its name in the schema, down to the numbers.
    cells : Cells
        Of at least one row.

    Returns
    -------
    bytes, Struct
        Its pages, and its ``ColumnChunk`` for the footer, as if they stood at the beginning of the file.
    """
    pages: list[tuple[bytes, int]] = []
    first_data = 0
    if len(cells.cell) * DENSE > cells.rows * cells.length:
        encoding = _PLAIN
        step = max(1, _PLAIN_PAGE // cells.length)
        for first in range(0, cells.rows, step):
            part = cells.slice(first, min(first + step, cells.rows))
            pages.append(_data_page(part, _PLAIN, part.dense().astype("<i8", copy=False).tobytes()))
    else:
        encoding = _RLE_DICTIONARY
        index, values = _dictionary(cells.value)
        head: Struct = {1: (I32, len(values)), 2: (I32, _PLAIN), 3: (FALSE, None)}
        pages.append(_page({1: (I32, _DICTIONARY_PAGE), 7: (STRUCT, head)}, values.astype("<i8").tobytes()))
        first_data += len(pages[0][0])
        step = max(1, _PAGE // cells.length)
        width = max(1, (len(values) - 1).bit_length())
        whole = SparseChannel(cells.rows, cells.length, cells.cell, index)
        for first in range(0, cells.rows, step):
            part = whole.slice(first, min(first + step, cells.rows))
            pages.append(_data_page(part, _RLE_DICTIONARY, bytes([width]) + _runs(part, -(-width // 8))))
    data = b"".join(page for page, _ in pages)
    about: Struct = {
        1: (I32, _INT64),
        2: (LIST, (I32, sorted({_PLAIN, _RLE, encoding}))),
        3: (LIST, (BINARY, [name.encode() for name in path])),
        4: (I32, _ZSTD),
        5: (I64, cells.rows * cells.length),
        6: (I64, sum(size for _, size in pages)),
        7: (I64, len(data)),
        9: (I64, first_data),
    }
    if encoding == _RLE_DICTIONARY:
        about[11] = (I64, 0)
    return data, {2: (I64, 0), 3: (STRUCT, about)}


def _dictionary(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The place of each value in a dictionary, and this: 0 first, then the others as they occur."""
    index, found = factorize(np.append(0, values))
    return index[1:].astype(np.int64), found


def _data_page(cells: SparseChannel, encoding: int, values: bytes) -> tuple[bytes, int]:
    count = cells.rows * cells.length
    here = thrift.varint(count << 1) + b"\1"  # one run: no list and no number is missing
    levels = b"".join(len(each).to_bytes(4, "little") + each for each in (_starts(cells.rows, cells.length), here))
    head: Struct = {1: (I32, count), 2: (I32, encoding), 3: (I32, _RLE), 4: (I32, _RLE)}
    return _page({1: (I32, _DATA_PAGE), 5: (STRUCT, head)}, levels + values)


def _page(head: Struct, data: bytes) -> tuple[bytes, int]:
    """A page, and how many bytes it has uncompressed."""
    packed = _codec().compress(data, asbytes=True)
    start = thrift.dumps({**head, 2: (I32, len(data)), 3: (I32, len(packed))})
    return start + packed, len(start) + len(data)


@functools.cache
def _codec() -> pa.Codec:
    return pa.Codec("zstd")


def _starts(rows: int, length: int) -> bytes:
    """Repetition levels: 0 where a list begins, else 1."""
    # eight packed into a byte, then a run of the others; a length is a multiple of 4
    if length < 8:
        packed = -(-rows * length // 8)
        return thrift.varint(packed << 1 | 1) + b"\xee" * packed
    return (b"\3\xfe" + (thrift.varint((length - 8) << 1) + b"\1" if length > 8 else b"")) * rows


def _runs(cells: SparseChannel, width: int) -> bytes:
    """The numbers as runs, each a length and a value of `width` bytes: of zeros, and single others."""
    cell, count = cells.cell, len(cells.cell)
    zeros = cells.rows * cells.length - (int(cell[-1]) + 1 if count else 0)
    last = thrift.varint(zeros << 1) + bytes(width) if zeros else b""
    if native.ready():
        return tables.encode_runs(cell, cells.value, width) + last
    length = (np.diff(cell, prepend=-1) - 1).astype(np.uint32) << np.uint32(1)  # of the zeros before each, in a run
    # all bytes there may be for a number, side by side, and which of them there are
    out = np.zeros((count, _LONGEST + 1 + 2 * width), np.uint8)
    there = np.ones(out.shape, bool)
    for place in range(_LONGEST):
        rest = length >> np.uint32(7 * place)
        out[:, place] = (rest & np.uint32(0x7F)) | (rest > 0x7F).view(np.uint8) << np.uint8(7)
        np.not_equal(rest, 0, out=there[:, place])
    out[:, _LONGEST + width] = 1 << 1  # a run of one
    index = cells.value.astype("<u4").view(np.uint8).reshape(count, 4)
    for place in range(width):  # a column at a time: rows are too short to be fast
        np.not_equal(length, 0, out=there[:, _LONGEST + place])
        out[:, place - width] = index[:, place]
    return out[there].tobytes() + last
