"""Columns that grow: in memory while short, then in a file that is mapped into it.

What is known of a flow that has ended is not needed again until the table is written. Mapped from a
file, its memory can be given back (`GrowableColumns.release`) and comes again when it is looked at.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile

import numpy as np

from netgen.capture.errors import InputError

#: Rows from which on a file is used.
IN_MEMORY = 1 << 18

#: Rows that there is room for as soon as there are many: what is not looked at costs nothing, and nothing is moved.
AT_ONCE = IN_MEMORY


class GrowableColumns:
    """Named columns of equal length.

    Parameters
    ----------
    **kinds
        The type of each column.
    """

    def __init__(self, **kinds: object) -> None:
        self._held = {name: np.zeros(1024, kind) for name, kind in kinds.items()}
        self._room = 1024
        self._files: dict[str, int] = {}
        self._maps: dict[str, mmap.mmap] = {}
        self.rows = 0

    def __getitem__(self, name: str) -> np.ndarray:
        return self._held[name][: self.rows]

    def grow(self, rows: int) -> None:
        """Room for so many rows in all; new ones are zero."""
        if rows > self._room:
            room = 1 << (rows - 1).bit_length()  # twice as many at least, as it is one now
            in_memory = room <= IN_MEMORY
            if in_memory:
                room = max(room, min(AT_ONCE, IN_MEMORY))
            for name, held in self._held.items():
                if in_memory:
                    self._held[name] = _anonymous(held, room)
                else:
                    self._held[name] = self._mapped(name, held, room)
            self._room = room
        self.rows = rows

    def _mapped(self, name: str, held: np.ndarray, room: int) -> np.ndarray:
        first = name not in self._files
        try:
            if first:
                with tempfile.TemporaryFile(prefix="netgen-") as file:
                    self._files[name] = os.dup(file.fileno())
            # room that is only promised would end the process when it is used and not there
            os.posix_fallocate(self._files[name], 0, room * held.dtype.itemsize)
        except OSError as error:
            raise InputError(
                f"the flows of a large capture could not be put by in {tempfile.gettempdir()}: {error.strerror}",
                "Free some room there, or set TMPDIR to a folder that has some",
            ) from error
        self._maps[name] = mmap.mmap(self._files[name], room * held.dtype.itemsize)
        out = np.frombuffer(self._maps[name], held.dtype)
        if first:
            out[: len(held)] = held
        return out

    def release(self) -> None:
        """Give memory back, where the rows are in a file."""
        for mapped in self._maps.values():
            mapped.madvise(mmap.MADV_DONTNEED)

    def __del__(self) -> None:
        for file in self._files.values():
            os.close(file)


def _anonymous(held: np.ndarray, room: int) -> np.ndarray:
    """A longer column, of memory that is the system's own: given back at once when it is outgrown."""
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    mapped = mmap.mmap(-1, room * held.dtype.itemsize, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # where the kernel has none
            mapped.madvise(mmap.MADV_HUGEPAGE)
    out = np.frombuffer(mapped, held.dtype)
    out[: len(held)] = held
    return out
