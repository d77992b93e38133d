"""Columns and packets that may outgrow memory: small ones stay in memory, larger ones go to temporary files.

The bins of a flow depend on all flows of the capture (``--bin-width auto``), so each packet is kept in 16 bytes until
they are known, and then read back by blocks of flows.
"""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np
import numpy.typing as npt

from netgen.capture.errors import InputError

#: Bytes of packets that are kept in memory before a file is used.
MAX_BYTES_IN_MEMORY = 32 << 20

#: Rows of growing columns that are kept in memory before files are used.
MAX_ROWS_IN_MEMORY = 1 << 18

#: Flows in a block, the unit in which packets are read back.
BLOCK = 16_384

#: A packet; the highest bit of its size is set if it goes from end `a` of its key to end `b`.
SPILLED_PACKET = np.dtype([("time_ns", "<i8"), ("flow", "<u4"), ("size", "<u4")])
_FORWARD = np.uint32(1 << 31)

_ZEROS = bytes(1 << 20)


@contextlib.contextmanager
def _no_space_is_an_input_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write temporary data of a large capture to {tempfile.gettempdir()}: {error.strerror}",
            "Free some space there, or set TMPDIR to a folder that has some",
        ) from error


class PacketSpill:
    """Packets by flow, added batch by batch."""

    def __init__(self) -> None:
        # of each batch: its first block, where this and each following block begin, and the batch or its file position
        self._batches: list[tuple[int, np.ndarray, np.ndarray | int]] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self.closed = False

    def add(self, batch: np.ndarray) -> None:
        """Add packets of dtype `SPILLED_PACKET`, at least one, in order of flow."""
        flow = batch["flow"]
        first, last = int(flow[0]) // BLOCK, int(flow[-1]) // BLOCK
        edges = np.searchsorted(flow, np.arange(first, last + 2) * BLOCK)
        if self._bytes + batch.nbytes <= MAX_BYTES_IN_MEMORY:
            self._bytes += batch.nbytes
            self._batches.append((first, edges, batch))
        else:
            self._batches.append((first, edges, self._write(batch)))

    def _write(self, batch: np.ndarray) -> int:
        with _no_space_is_an_input_error():
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="netgen-")  # noqa: SIM115  closed by `close`
            position = self._file.seek(0, 2)
            self._file.write(batch.data)
            self._file.flush()
        return position

    def block(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Yield flow, time, size and direction of the packets of a block of flows, batch by batch."""
        for first, edges, stored in self._batches:
            index = number - first
            if not 0 <= index < len(edges) - 1 or edges[index] == edges[index + 1]:
                continue
            begin, end = int(edges[index]), int(edges[index + 1])
            if isinstance(stored, int):
                assert self._file is not None
                self._file.seek(stored + begin * SPILLED_PACKET.itemsize)
                packets = np.frombuffer(self._file.read((end - begin) * SPILLED_PACKET.itemsize), SPILLED_PACKET)
            else:
                packets = stored[begin:end]
            size = packets["size"]
            yield packets["flow"].astype(np.int64), packets["time_ns"], size & ~_FORWARD, (size & _FORWARD) != 0

    def close(self) -> None:
        """Delete the packets."""
        self.closed = True
        self._batches.clear()
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError):  # closing flushes what could not be written
            self.close()


class GrowableColumns:
    """Named columns of equal length, in memory while short, then in temporary files that are mapped into memory."""

    def __init__(self, types: Mapping[str, npt.DTypeLike]) -> None:
        self._columns = {name: np.zeros(1024, kind) for name, kind in types.items()}
        self._capacity = 1024
        self._files: dict[str, IO[bytes]] = {}
        self._maps: dict[str, mmap.mmap] = {}
        self.rows = 0

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name][: self.rows]

    def grow(self, rows: int) -> None:
        """Set the number of rows; new ones are zero."""
        if rows > self._capacity:
            capacity = 1 << (rows - 1).bit_length()
            in_memory = capacity <= MAX_ROWS_IN_MEMORY
            if in_memory:
                capacity = MAX_ROWS_IN_MEMORY  # memory that is not used costs nothing
                # one block for all columns: NumPy asks for huge pages from 4 MiB on, which halves the page faults
                sizes = [capacity * column.dtype.itemsize for column in self._columns.values()]
                blocks = iter(np.split(np.zeros(sum(sizes), np.uint8), np.cumsum(sizes)[:-1]))
            for name, column in self._columns.items():
                if in_memory:
                    grown = next(blocks).view(column.dtype)
                    grown[: self._capacity] = column
                else:
                    grown = self._map(name, column, capacity)
                self._columns[name] = grown
            self._capacity = capacity
        self.rows = rows

    def _map(self, name: str, column: np.ndarray, capacity: int) -> np.ndarray:
        size = capacity * column.dtype.itemsize
        with _no_space_is_an_input_error():
            if name not in self._files:
                self._files[name] = tempfile.TemporaryFile(prefix="netgen-")  # noqa: SIM115  closed by `__del__`
                self._files[name].write(column.data)
            file = self._files[name]
            # in a sparse file, a full disk would only show when a page is used, and end the process
            for position in range(file.seek(0, 2), size, len(_ZEROS)):
                file.write(_ZEROS[: size - position])
            file.flush()
            self._maps[name] = mmap.mmap(file.fileno(), size)
        return np.frombuffer(self._maps[name], column.dtype)

    def release(self) -> None:
        """Let the system take back the memory of columns in files; their rows are read again when used."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps.values():
                mapped.madvise(mmap.MADV_DONTNEED)

    def __del__(self) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # closing flushes what could not be written
                file.close()
