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

from netgen.capture.errors import CaptureError
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.malloc import keep_freed_memory
from netgen.capture.segments import ReadOptions, Segment, guess_segment, read_segments

#: What a worker writes first, once it can be asked.
READY = b"ready"

#: A file's stretches, or why it is no capture.
FileResult = list[Segment] | CaptureError


class Reader:
    """Does what is asked of it: reads some small files, or a stretch of a big one, which it keeps open.

    Parameters
    ----------
    stopped : callable
        Whether nobody wants the answer any more.
    """

    def __init__(self, stopped: Callable[[], bool] = lambda: False) -> None:
        self._stopped = stopped
        self._path: Path | None = None
        self._capture: CaptureFile | None = None

    def ask(self, options: ReadOptions, what: Any) -> Any:
        """A `FileResult` for each of a list of files, or the stretch at a pair of file and place (None: no guess)."""
        if isinstance(what, list):
            return self._files(what, options)
        path, start = what
        return self._stretch(path, start, options)

    def _files(self, paths: list[Path], options: ReadOptions) -> list[FileResult]:
        found: list[FileResult] = []
        for path in paths:
            try:
                pieces = read_segments(CaptureFile(path), options)
                found.append(list(itertools.takewhile(lambda _: not self._stopped(), pieces)))
            except CaptureError as error:
                found.append(error)
            if self._stopped():
                break
        return found

    def _stretch(self, path: Path, start: int, options: ReadOptions) -> Segment | None:
        if self._capture is None or path != self._path:
            self._path, self._capture = path, CaptureFile(path)
        found = guess_segment(self._capture, start, options)
        self._capture.source.forget(self._capture.size)
        return found


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    keep_freed_memory()
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing else may get among the replies
    reader = Reader()
    replies.write(READY)
    replies.flush()
    while True:
        try:
            options, what = pickle.load(requests)
        except EOFError:
            return
        reply: Any
        try:
            reply = reader.ask(options, what)
        except Exception as error:  # whatever it is, it is for the process that asks
            reply = error
        pickle.dump(reply, replies, protocol=5)
        replies.flush()


if __name__ == "__main__":
    main()
