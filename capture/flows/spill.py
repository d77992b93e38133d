"""Packets of flows, put by until their bins are known: in memory while few, then in a file.

Which bins a capture's flows need is known only at its end (``--bin auto``), and a capture may be
larger than memory; so each packet is put by in 16 bytes, and found again by blocks of flows.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np

from netgen.capture.errors import InputError

#: Bytes kept in memory before a file is used.
IN_MEMORY = 32 << 20

#: Flows a block: what is looked up at once.
BLOCK = 16_384

#: A packet: the highest bit of its size says that it goes from end `a` of its key to end `b`.
ROW = np.dtype([("time_ns", "<i8"), ("flow", "<u4"), ("size", "<u4")])
_FORWARD = np.uint32(1 << 31)


class Spill:
    """Packets by flow, added batch by batch."""

    def __init__(self) -> None:
        self._first: list[int] = []  # of each batch: its first block of flows
        self._cuts: list[np.ndarray] = []  # and where this block and each one behind it begin
        self._kept: list[np.ndarray | int] = []  # the batch, or where in the file it is
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self.closed = False

    def add(self, flow: np.ndarray, time_ns: np.ndarray, size: np.ndarray, forward: np.ndarray) -> None:
        """A batch of packets, each of shape (packets,), in order of flow."""
        if not len(flow):
            return
        batch = np.empty(len(flow), ROW)
        batch["time_ns"], batch["flow"] = time_ns, flow
        batch["size"] = size | np.where(forward, _FORWARD, np.uint32(0))
        self.put(batch)

    def put(self, batch: np.ndarray) -> None:
        """A batch as rows of `ROW`, in order of flow."""
        flow = batch["flow"]
        first, last = int(flow[0]) // BLOCK, int(flow[-1]) // BLOCK
        self._first.append(first)
        self._cuts.append(np.searchsorted(flow, np.arange(first, last + 2) * BLOCK))
        if self._bytes + batch.nbytes <= IN_MEMORY:
            self._bytes += batch.nbytes
            self._kept.append(batch)
        else:
            self._kept.append(self._write(batch))

    def _write(self, batch: np.ndarray) -> int:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="netgen-")  # noqa: SIM115
            place = self._file.seek(0, 2)
            self._file.write(batch.data)
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"the packets of a large capture could not be put by in {tempfile.gettempdir()}: {error.strerror}",
                "Free some room there, or set TMPDIR to a folder that has some",
            ) from error
        return place

    def block(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Flow, time, size and direction of the packets of a block of flows, batch by batch."""
        for first, cuts, kept in zip(self._first, self._cuts, self._kept, strict=True):
            at = number - first
            if not 0 <= at < len(cuts) - 1 or cuts[at] == cuts[at + 1]:
                continue
            if isinstance(kept, int):
                assert self._file is not None
                self._file.seek(kept + int(cuts[at]) * ROW.itemsize)
                inside = np.frombuffer(self._file.read(int(cuts[at + 1] - cuts[at]) * ROW.itemsize), ROW)
            else:
                inside = kept[cuts[at] : cuts[at + 1]]
            size = inside["size"]
            yield inside["flow"].astype(np.int64), inside["time_ns"], size & ~_FORWARD, (size & _FORWARD) != 0

    def close(self) -> None:
        """Let go of the packets."""
        self.closed = True
        self._kept.clear()
        if self._file is not None:
            self._file.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written will not be missed
            self.close()
