"""A process that reads stretches of captures for another: requests on stdin, results on stdout.

Both are pickles between a process and the one it started itself; nothing from a file is unpickled.
"""

from __future__ import annotations

import itertools
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capture.errors import CaptureError
from capture.formats.reader import CaptureFile
from capture.memory import keep_freed
from capture.stretches import Options, Stretch, guessed_stretch, stretches

#: What a worker writes first, once it can be asked.
READY = b"ready"

#: A file's stretches, or why it is no capture.
FileResult = list[Stretch] | CaptureError


def read_files(paths: list[Path], options: Options, stopped: Callable[[], bool] = lambda: False) -> list[FileResult]:
    """All of some small files, or as much of them as there is when nobody wants them any more."""
    found: list[FileResult] = []
    for path in paths:
        try:
            found.append(list(itertools.takewhile(lambda _: not stopped(), stretches(CaptureFile(path), options))))
            if stopped():
                break
        except CaptureError as error:
            found.append(error)
    return found


class Opened:
    """The big file that was read last, kept open."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._capture: CaptureFile | None = None

    def stretch(self, path: Path, start: int, options: Options) -> Stretch | None:
        """The stretch from `start` to the next edge, its first record guessed; None: no guess."""
        if self._capture is None or path != self._path:
            self._path, self._capture = path, CaptureFile(path)
        found = guessed_stretch(self._capture, start, options)
        self._capture.source.forget(self._capture.size)
        return found


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    keep_freed()
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may get among the replies
    opened = Opened()
    replies.write(READY)
    replies.flush()
    while True:
        try:
            options, what = pickle.load(requests)
        except EOFError:
            return
        reply: Any
        try:
            if isinstance(what, list):
                reply = read_files(what, options)
            else:
                path, start = what
                reply = opened.stretch(path, start, options)
        except Exception as error:  # whatever it is, it is for the process that asks
            reply = error
        pickle.dump(reply, replies, protocol=5)
        replies.flush()


if __name__ == "__main__":
    main()
