"""Bytes of a capture: a file mapped into memory, or a stream that is read and decompressed.

The first bytes of a file decide how it is decompressed, never its name. A stream that ends early or is corrupt yields
the bytes before that, and `Source.broken` says why.
"""

from __future__ import annotations

import bz2
import importlib
import io
import lzma
import mmap
import os
import stat
import sys
import weakref
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from netgen.capture.errors import CaptureError

STDIN = "-"

#: Compressed bytes read at a time; decompressed bytes handed on at a time.
_IN, _OUT = 1 << 20, 1 << 24

_ZIP = b"PK\3\4"


class Source:
    """The bytes of a file, a pipe, or standard input (``-``).

    `mapped` is all of a plain file, mapped into memory, or None for a stream; `kind` is the compression of a stream, or
    ``""``. `broken` says why a stream ended early, once it has been read. `consumed` counts the bytes read so far,
    before decompression. A CaptureError says why the file cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.mapped: np.ndarray | None = None
        self.kind = ""
        self.broken: str | None = None
        self.consumed = 0
        self._map: mmap.mmap | None = None
        try:
            self._stream = self._open(str(path))
            self._first = self._stream.read(8) if self.mapped is None else self.mapped[:8].tobytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CaptureError(f"cannot read {self.path}: {reason}", "Name a pcap or pcapng file") from error
        for magic, (kind, _) in _DECOMPRESSORS.items():
            if self._first.startswith(magic):
                self.kind = kind
        if self._first.startswith(_ZIP):
            raise CaptureError(
                f"{self.path}: not a pcap or pcapng file but a zip archive", f"Unpack it first: unzip {self.path}"
            )
        if self.kind and self.mapped is not None:
            self._stream, self.mapped = io.BytesIO(self.mapped), None
            self._stream.seek(8)

    def _open(self, path: str) -> BinaryIO:
        if path == STDIN:
            if sys.stdin is None:
                raise ValueError("it is closed")
            return sys.stdin.buffer
        stream = Path(path).open("rb")  # noqa: SIM115  (kept open where it is a pipe)
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            weakref.finalize(self, stream.close)
            return stream
        with stream:
            if os.fstat(stream.fileno()).st_size:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self.mapped = np.frombuffer(self._map, np.uint8) if self._map is not None else np.zeros(0, np.uint8)
        return io.BytesIO()

    def release(self, first: int, last: int) -> None:
        """Give back the memory of bytes `first` to `last` of a mapped file; they can still be read."""
        first -= first % mmap.PAGESIZE
        last -= last % mmap.PAGESIZE
        if self._map is not None and last > first and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)

    def pieces(self) -> Iterator[bytes]:
        """Yield the stream's bytes, decompressed, `_OUT` of them at a time; once only."""
        if not self.kind:
            yield from self._read()
            return
        make = next(make for kind, make in _DECOMPRESSORS.values() if kind == self.kind)
        held = list[bytes]()
        try:
            for piece in make(self._read()):
                held.append(piece)
                if sum(map(len, held)) >= _OUT:
                    yield b"".join(held)
                    held = []
        except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            self.broken = f"the {self.kind} data are cut or corrupt ({error})"
        if held:
            yield b"".join(held)

    def _read(self) -> Iterator[bytes]:
        piece = self._first
        while piece:
            self.consumed += len(piece)
            yield piece
            try:
                piece = self._stream.read(_IN)
            except OSError as error:
                self.broken = f"reading failed: {error.strerror}"
                return


def _member_by_member(new: Callable[[], Any]) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Return a function that decompresses with objects like zlib's, one for each member of a file."""

    def run(pieces: Iterator[bytes]) -> Iterator[bytes]:
        decompressor = new()
        unused = True
        for piece in pieces:
            while piece:
                if decompressor.eof:
                    decompressor, unused = new(), True
                    piece = piece.lstrip(b"\0")  # padding between members
                    if not piece:
                        break
                out = decompressor.decompress(piece)
                piece = decompressor.unused_data
                unused = False
                if out:
                    yield out
        if not (decompressor.eof or unused):
            raise EOFError("the end is missing")

    return run


def _gzip() -> Any:
    try:
        library = importlib.import_module("isal.isal_zlib")  # several times faster, where installed
    except ImportError:
        library = zlib
    return library.decompressobj(31)


def _arrow(codec: str) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
    """Return a function that decompresses with Arrow, which reads from a file-like object."""

    def run(pieces: Iterator[bytes]) -> Iterator[bytes]:
        import pyarrow as pa

        stream = pa.CompressedInputStream(pa.PythonFile(_Readable(pieces), mode="r"), codec)
        while piece := stream.read(1 << 14):  # a read that meets a cut returns nothing
            yield piece

    return run


class _Readable:
    """A file-like object over pieces of bytes, for Arrow."""

    closed = False

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._held) < size or size < 0:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._held += piece
        out, self._held = (self._held, b"") if size < 0 else (self._held[:size], self._held[size:])
        return out

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def flush(self) -> None:
        pass


_DECOMPRESSORS: dict[bytes, tuple[str, Callable[[Iterator[bytes]], Iterator[bytes]]]] = {
    b"\x1f\x8b": ("gzip", _member_by_member(_gzip)),
    b"\x28\xb5\x2f\xfd": ("zstd", _arrow("zstd")),
    b"\x04\x22\x4d\x18": ("lz4", _arrow("lz4")),
    b"\xfd7zXZ": ("xz", _member_by_member(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ))),
    b"BZh": ("bzip2", _member_by_member(bz2.BZ2Decompressor)),
}
