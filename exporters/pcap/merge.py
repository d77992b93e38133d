"""Merge the frames of many flows in order of time, with bounded memory.

Flows are added in blocks, in the order in which they begin. No later flow has a packet before its start, so all packets
before the start of the next block can be written. The others wait: in memory while they are few, else in sorted runs on
disk, which are merged from their beginnings (an external merge sort; Knuth, The Art of Computer Programming 3, 5.4).
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

MAX_IN_MEMORY = 1 << 19  # frames that wait in memory
READ_FRAMES = 1 << 18  # frames read at a time, of all runs together
MIN_READ_FRAMES = 1 << 10  # frames read at a time of each run


class _Run:
    """Frames in order of time; those in `ready` are in memory, and `left` more are in the file."""

    def __init__(self, ready: Frames, file: IO[bytes] | None = None, offset: int = 0, left: int = 0) -> None:
        self.ready = ready
        self._allocated = len(ready)  # frames of the array that `ready` is a view of
        self._file, self._offset, self.left = file, offset, left

    def read(self, number: int) -> None:
        """Read until at least `number` frames are ready, or none is left in the file."""
        count = min(number - len(self.ready), self.left)
        if count <= 0 or self._file is None:
            return
        self._file.seek(self._offset)
        data = self._file.read(count * FRAME.itemsize)
        self.ready = np.concatenate([self.ready, np.frombuffer(data, FRAME)])
        self._offset += len(data)
        self.left -= count
        self._allocated = len(self.ready)

    def take(self, before: int | None) -> Frames:
        """Remove and return the ready frames before a time."""
        count = len(self.ready) if before is None else int(np.searchsorted(self.ready["time_ns"], before))
        taken, self.ready = self.ready[:count], self.ready[count:]
        if 2 * len(self.ready) < self._allocated:  # free the memory of the frames taken
            self.ready = self.ready.copy()
            self._allocated = len(self.ready)
        return taken


class Merger:
    """Sorts frames by time; of frames with the same time, the one added first comes first."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._file: IO[bytes] | None = None
        self._end = 0

    def add(self, batch: Frames) -> None:
        """Add frames in any order, but those of each flow in order of time."""
        self._runs.append(_Run(_sorted(batch)))
        if sum(len(run.ready) for run in self._runs) > MAX_IN_MEMORY + READ_FRAMES:
            self._spill()

    def _spill(self) -> None:
        """Move all runs that are in memory only to the file, as one run."""
        batch = _sorted(np.concatenate([run.ready for run in self._runs if not run.left]))
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="netgen-")  # noqa: SIM115
            self._file.seek(self._end)
            self._file.write(batch.data)
        except OSError as error:
            raise OutputError(
                f"cannot write packets to a temporary file: {error.strerror or error}",
                "Free some space in the folder for temporary files, or name another one in TMPDIR",
            ) from error
        run = _Run(np.empty(0, FRAME), self._file, self._end, len(batch))
        self._end += batch.nbytes
        self._runs = [*(run for run in self._runs if run.left), run]

    def before(self, time_ns: int | None) -> Iterator[Frames]:
        """Remove and yield, in order and in batches, all frames before a time; None: all frames."""
        while self._runs:
            share = max(READ_FRAMES // len(self._runs), MIN_READ_FRAMES)
            limit = time_ns
            for run in self._runs:
                run.read(share)
                if run.left:  # the frames in the file are not before the last frame that is ready
                    last = int(run.ready["time_ns"][-1])
                    limit = last if limit is None else min(limit, last)
            taken = [run.take(limit) for run in self._runs]
            if not any(map(len, taken)):
                if limit == time_ns:
                    return
                for run in self._runs:  # all ready frames have one time
                    run.read(2 * len(run.ready))
                continue
            yield _sorted(np.concatenate(taken))
            self._runs = [run for run in self._runs if len(run.ready) or run.left]

    def close(self) -> None:
        """Delete the file."""
        self._runs = []
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


def _sorted(batch: Frames) -> Frames:
    order = np.argsort(np.ascontiguousarray(batch["time_ns"]), kind="stable")
    return batch.view(f"V{FRAME.itemsize}")[order].view(FRAME)  # indexing is faster on opaque rows than on fields
