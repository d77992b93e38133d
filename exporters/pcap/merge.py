"""Frames of many flows in order of time, with bounded memory.

Flows come in blocks, in the order in which they begin. No flow to come has a packet before its
start, so all packets before the next block's start can go out. What must wait is kept in memory
while it is little, and otherwise in runs on disk, each in order, which are merged from their
beginnings (an external merge sort; Knuth, The Art of Computer Programming 3, 5.4).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from netgen.capture.errors import OutputError
from netgen.exporters.pcap.frames import FRAME

Frames = NDArray[np.void]

IN_MEMORY = 1 << 19  # frames that wait in memory
READ = 1 << 18  # frames of all runs together that are looked at at once
LEAST_READ = 1 << 10


class _Run:
    """Frames in order of time, of which the next ones lie ready."""

    def __init__(self, ready: Frames, file: IO[bytes] | None = None, place: int = 0, left: int = 0) -> None:
        self.ready = ready
        self._held = len(ready)  # frames that memory holds for it
        self._file, self._place, self.left = file, place, left  # what of it is still in the file

    def read(self, number: int) -> None:
        """Have at least `number` frames ready, if there are so many."""
        more = min(number - len(self.ready), self.left)
        if more <= 0 or self._file is None:
            return
        self._file.seek(self._place)
        data = self._file.read(more * FRAME.itemsize)
        self.ready = np.concatenate([self.ready, np.frombuffer(data, FRAME)])
        self._place += len(data)
        self.left -= more
        self._held = len(self.ready)

    def take(self, before: int | None) -> Frames:
        """Remove and return the ready frames before a time."""
        cut = len(self.ready) if before is None else int(np.searchsorted(self.ready["time_ns"], before))
        taken, self.ready = self.ready[:cut], self.ready[cut:]
        if 2 * len(self.ready) < self._held:  # let go of the memory of those that went
            self.ready = self.ready.copy()
            self._held = len(self.ready)
        return taken


class Merger:
    """Puts frames in order of time; at the same time, what was added first comes first."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._file: IO[bytes] | None = None
        self._end = 0

    def add(self, batch: Frames) -> None:
        """Frames in any order; of a flow, in the order of time."""
        self._runs.append(_Run(_sorted(batch)))
        if sum(len(run.ready) for run in self._runs) > IN_MEMORY + READ:
            self._put_by()

    def _put_by(self) -> None:
        """Write what is in memory only to the file, as one run behind those that are there."""
        here = [run for run in self._runs if not run.left]
        batch = _sorted(np.concatenate([run.ready for run in here]))
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="netgen-")  # noqa: SIM115
            self._file.seek(self._end)
            self._file.write(batch.data)
        except OSError as error:
            raise OutputError(
                f"packets that wait for their turn cannot be put by: {error.strerror or error}",
                "Free some space in the folder for temporary files, or name another in TMPDIR",
            ) from error
        run = _Run(np.empty(0, FRAME), self._file, self._end, len(batch))
        self._end += batch.nbytes
        self._runs = [*(run for run in self._runs if run.left), run]

    def before(self, time_ns: int | None) -> Iterator[Frames]:
        """Remove and yield, in order, all frames before a time (None: all), some at a time."""
        while self._runs:
            share = max(READ // len(self._runs), LEAST_READ)
            edge = time_ns
            for run in self._runs:
                run.read(share)
                if run.left:  # what follows in the file is not before the last frame that is ready
                    last = int(run.ready["time_ns"][-1])
                    edge = last if edge is None else min(edge, last)
            taken = [run.take(edge) for run in self._runs]
            if not any(map(len, taken)):
                if edge == time_ns:
                    return
                for run in self._runs:  # a whole share of one time
                    run.read(2 * len(run.ready))
                continue
            yield _sorted(np.concatenate(taken))
            self._runs = [run for run in self._runs if len(run.ready) or run.left]

    def close(self) -> None:
        """Let go of the file."""
        self._runs = []
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


def _sorted(batch: Frames) -> Frames:
    order = np.argsort(np.ascontiguousarray(batch["time_ns"]), kind="stable")
    return batch.view(f"V{FRAME.itemsize}")[order].view(FRAME)  # opaque rows are taken faster than fields
