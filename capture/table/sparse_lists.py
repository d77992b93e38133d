"""Write columns of fixed-size lists that are nearly all zeros as Parquet, without expanding the zeros.

pyarrow encodes every number, and in the series of flows a hundred numbers in a hundred and one are
zeros. Here a run of zeros is one step, which makes writing ten times as fast. A column chunk is a
dictionary and runs of indices into it; or plain numbers, where so many are not zero that those are
shorter (https://parquet.apache.org/docs/file-format/).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netgen.capture.factorize import factorize
from netgen.capture.native import tables
from netgen.capture.series.counters import SparseChannel
from netgen.capture.table import thrift
from netgen.capture.table.thrift import BINARY, FALSE, I32, I64, LIST, STRUCT, Struct

#: Plain numbers are written where more than one number in so many is not zero.
DENSE = 8

_PLAIN_PAGE = 1 << 17  # numbers in a page of plain ones
_MAX_PAGE = 1 << 24  # numbers in any page

# enumerations and field numbers of parquet.thrift
_INT64 = 2
_ZSTD = 6
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_FILE_NUM_ROWS, _FILE_ROW_GROUPS = 3, 4
_GROUP_COLUMNS, _GROUP_BYTES, _GROUP_ROWS, _GROUP_OFFSET, _GROUP_COMPRESSED = 1, 2, 3, 5, 6
_CHUNK_METADATA = 3
_CHUNK_BYTES, _CHUNK_COMPRESSED, _CHUNK_DATA_OFFSET, _CHUNK_DICTIONARY_OFFSET = 6, 7, 9, 11
_MAGIC = b"PAR1"

_OPTIONS: dict[str, Any] = {"compression": "zstd"}


class SparseListWriter:
    """Write a Parquet file whose last columns are such lists, a row group at a time.

    pyarrow writes the first `n_plain` columns and the schema. The lists and the footer are written here. `factorize`
    names plain columns with a value of its own in nearly every row, for which a dictionary is larger and twice as slow;
    and whether they are stored as differences from row to row.
    """

    def __init__(self, file: IO[bytes], schema: pa.Schema, n_plain: int, factorize: Mapping[str, bool]) -> None:
        self._file, self._schema = file, schema
        self._sink = _Sink(file)
        plain = pa.schema([schema.field(index) for index in range(n_plain)])
        dictionary = [field.name for field in plain if field.name not in factorize]
        delta = {field.name: "DELTA_BINARY_PACKED" for field in plain if factorize.get(field.name)}
        self._parquet = pq.ParquetWriter(
            self._sink, plain, use_dictionary=dictionary, column_encoding=delta, **_OPTIONS
        )
        self._paths = [(name, "list", "element") for name in schema.names[n_plain:]]
        self._groups: list[tuple[int, list[Struct]]] = []  # offset of each row group, and its chunks of lists
        self._thread = ThreadPoolExecutor(1)

    def write(self, columns: pa.Table, lists: Sequence[SparseChannel]) -> None:
        """Write a row group: the columns that are not lists, and the lists."""
        start = self._file.tell()
        # encode the lists while Arrow writes its columns
        encoded = [
            self._thread.submit(encode_chunk, path, cells) for path, cells in zip(self._paths, lists, strict=True)
        ]
        self._parquet.write_table(columns, row_group_size=max(len(columns), 1))
        chunks = []
        for future in encoded:
            data, chunk = future.result()
            _shift_offsets(chunk, self._file.tell())
            chunks.append(chunk)
            self._file.write(data)
        self._groups.append((start, chunks))

    def finish(self, metadata: dict[bytes, bytes]) -> None:
        """Write the footer with metadata. Nothing can be written afterwards."""
        end = self._file.tell()
        self._parquet.close()
        self._sink.open = False
        self._file.seek(end)
        groups = _read_footer(self._file.read())[_FILE_ROW_GROUPS]
        for group, (start, lists) in zip(groups[1][1], self._groups, strict=True):
            _add_lists(group, start, lists)
        # the footer of a file without rows has the schema and the metadata
        empty = pa.BufferOutputStream()
        with pq.ParquetWriter(empty, self._schema, **_OPTIONS) as writer:
            writer.add_key_value_metadata(metadata)
        rows = I64, sum(group[_GROUP_ROWS][1] for group in groups[1][1])
        template = _read_footer(empty.getvalue().to_pybytes())
        footer = thrift.dumps({**template, _FILE_NUM_ROWS: rows, _FILE_ROW_GROUPS: groups})
        self._file.seek(end)
        self._file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)
        self._file.truncate()
        self._file.flush()

    def abandon(self) -> None:
        """Discard what pyarrow has not written yet."""
        self._sink.open = False
        self._thread.shutdown(cancel_futures=True)


class _Sink:
    """The file as pyarrow sees it. pyarrow may write after the last row group; that is discarded."""

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


def _read_footer(data: bytes) -> Struct:
    """Read the footer of a file that ends with `data`."""
    size = int.from_bytes(data[-8:-4], "little")
    return thrift.loads(data[-8 - size : -8])


def _add_lists(group: Struct, start: int, lists: list[Struct]) -> None:
    """Add chunks of lists to a row group's footer, and move the others to `start`: pyarrow did not see the lists."""
    chunks = group[_GROUP_COLUMNS][1][1]
    shift = start - min(offset for chunk in chunks for offset in _offsets(chunk).values())
    for chunk in chunks:
        _shift_offsets(chunk, shift)
    group[_GROUP_OFFSET] = I64, start
    chunks += lists
    for total, field in ((_GROUP_BYTES, _CHUNK_BYTES), (_GROUP_COMPRESSED, _CHUNK_COMPRESSED)):
        group[total] = I64, group[total][1] + sum(chunk[_CHUNK_METADATA][1][field][1] for chunk in lists)


def _offsets(chunk: Struct) -> dict[int, int]:
    """Return the offsets of a chunk's pages in the file, by field number."""
    metadata = chunk[_CHUNK_METADATA][1]
    return {field: metadata[field][1] for field in (_CHUNK_DATA_OFFSET, _CHUNK_DICTIONARY_OFFSET) if field in metadata}


def _shift_offsets(chunk: Struct, shift: int) -> None:
    """Move a chunk's pages in the file, by bytes."""
    for field, offset in _offsets(chunk).items():
        chunk[_CHUNK_METADATA][1][field] = I64, offset + shift


def encode_chunk(path: tuple[str, ...], cells: SparseChannel) -> tuple[bytes, Struct]:
    """Encode a column of at least one list without nulls; `path` is its name in the schema, down to the numbers.

    Return its pages, and its ``ColumnChunk`` with offsets from the first page.
    """
    dense = len(cells.cell) * DENSE > cells.rows * cells.length
    pages = _plain_pages(cells) if dense else _dictionary_pages(cells)
    data = b"".join(page for page, _ in pages)
    metadata: Struct = {
        1: (I32, _INT64),
        2: (LIST, (I32, [_PLAIN, _RLE] if dense else [_PLAIN, _RLE, _RLE_DICTIONARY])),
        3: (LIST, (BINARY, [name.encode() for name in path])),
        4: (I32, _ZSTD),
        5: (I64, cells.rows * cells.length),
        _CHUNK_BYTES: (I64, sum(size for _, size in pages)),
        _CHUNK_COMPRESSED: (I64, len(data)),
        _CHUNK_DATA_OFFSET: (I64, 0 if dense else len(pages[0][0])),
        **({} if dense else {_CHUNK_DICTIONARY_OFFSET: (I64, 0)}),
    }
    return data, {2: (I64, 0), _CHUNK_METADATA: (STRUCT, metadata)}


def _plain_pages(cells: SparseChannel) -> list[tuple[bytes, int]]:
    step = max(1, _PLAIN_PAGE // cells.length)
    blocks = [cells.slice(first, min(first + step, cells.rows)) for first in range(0, cells.rows, step)]
    return [_data_page(block, _PLAIN, block.dense().astype("<i8", copy=False).tobytes()) for block in blocks]


def _dictionary_pages(cells: SparseChannel) -> list[tuple[bytes, int]]:
    index, values = factorize(np.append(0, cells.value))  # 0 comes first in the dictionary
    header: Struct = {1: (I32, len(values)), 2: (I32, _PLAIN), 3: (FALSE, None)}
    pages = [_page({1: (I32, _DICTIONARY_PAGE), 7: (STRUCT, header)}, values.astype("<i8").tobytes())]
    bits = max(1, (len(values) - 1).bit_length())
    indices = SparseChannel(cells.rows, cells.length, cells.cell, index[1:].astype(np.int64))
    step = max(1, _MAX_PAGE // cells.length)
    for first in range(0, cells.rows, step):
        block = indices.slice(first, min(first + step, cells.rows))
        pages.append(_data_page(block, _RLE_DICTIONARY, bytes([bits]) + encode_runs(block, -(-bits // 8))))
    return pages


def _data_page(cells: SparseChannel, encoding: int, values: bytes) -> tuple[bytes, int]:
    count = cells.rows * cells.length
    definition = thrift.varint(count << 1) + b"\1"  # one run: no list and no number is null
    levels = (_repetition_levels(cells.rows, cells.length), definition)
    body = b"".join(len(level).to_bytes(4, "little") + level for level in levels) + values
    header: Struct = {1: (I32, count), 2: (I32, encoding), 3: (I32, _RLE), 4: (I32, _RLE)}
    return _page({1: (I32, _DATA_PAGE), 5: (STRUCT, header)}, body)


def _page(header: Struct, data: bytes) -> tuple[bytes, int]:
    """Compress a page; return it, and its size in bytes before compression."""
    compressed = _codec().compress(data, asbytes=True)
    start = thrift.dumps({**header, 2: (I32, len(data)), 3: (I32, len(compressed))})
    return start + compressed, len(start) + len(data)


@functools.cache
def _codec() -> pa.Codec:
    return pa.Codec("zstd")


def _repetition_levels(rows: int, length: int) -> bytes:
    """Encode 0 where a list begins, else 1."""
    # eight packed into a byte, then a run of the others; a length is a multiple of 4
    if length < 8:
        packed = -(-rows * length // 8)
        return thrift.varint(packed << 1 | 1) + b"\xee" * packed
    return (b"\3\xfe" + (thrift.varint((length - 8) << 1) + b"\1" if length > 8 else b"")) * rows


def encode_runs(cells: SparseChannel, width: int) -> bytes:
    """Encode the numbers as runs, each a length and a value of `width` bytes: of zeros, and single others."""
    last = int(cells.cell[-1]) + 1 if len(cells.cell) else 0
    zeros = cells.rows * cells.length - last
    trailing = thrift.varint(zeros << 1) + bytes(width) if zeros else b""
    return tables.encode_runs(cells.cell, cells.value, width) + trailing
