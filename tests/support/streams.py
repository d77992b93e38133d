"""Compressed captures, and pipes that hold captures."""

import bz2
import gzip
import lzma
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from support.extraction import extract


def _arrow(codec: Any) -> Any:
    def pack(data: Any) -> Any:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            for at in range(0, len(data), 10_000):  # in blocks, as a compressor in a pipe makes them
                stream.write(data[at : at + 10_000])
                stream.flush()
        return sink.getvalue().to_pybytes()

    return pack


PACK = {"gzip": gzip.compress, "zstd": _arrow("zstd"), "lz4": _arrow("lz4"), "xz": lzma.compress, "bzip2": bz2.compress}
KINDS = list(PACK)


class ShortBytes(bytes):
    """Bytes whose representation is short, for the reports of pytest."""

    def __repr__(self) -> Any:
        return f"<{len(self)} bytes>"


def read(path: Any) -> Any:
    """Return the table of a capture, and its read report."""
    table = extract(path)
    return table.table, table.metadata["read_report"]


@contextmanager
def pipe(path: Any, data: Any) -> Iterator[Any]:
    """Yield a named pipe into which a thread writes the data."""
    os.mkfifo(path)

    def write() -> None:
        try:
            with path.open("wb") as stream:
                stream.write(data)
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield path
    finally:
        thread.join()
