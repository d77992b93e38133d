"""Processes that read for this one: started before it is known what they are to read.

A process takes as long to load NumPy as this one to load all that a command needs; so it is started
first. This module itself loads next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from netgen.capture.native import compiled

_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from netgen.capture.worker import main; main()"

_spare: list[subprocess.Popen[bytes]] = []


def worker() -> subprocess.Popen[bytes]:
    """A process that answers on its stdout what is asked on its stdin; a spare one, if there is one."""
    return _spare.pop() if _spare else _started()


def threads_here() -> int:
    """Threads of this process that read at once: compiled code need not wait for Python's lock."""
    return 2 if compiled.ready() else 1


@contextlib.contextmanager
def started(count: int) -> Iterator[None]:
    """Start so many processes now; those that nobody took end afterwards."""
    _spare.extend(_started() for _ in range(count))
    try:
        yield
    finally:
        while _spare:
            close(_spare.pop())


def close(process: subprocess.Popen[bytes]) -> None:
    """End a process, whatever it is doing."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _started() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[2])
    # -P: whatever lies in the current folder is none of its business
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _CODE, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # a worker multiplies no matrices, and NumPy would start threads for that
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        process_group=0,  # Ctrl-C is for this process, and may come before the worker can ignore it
    )
