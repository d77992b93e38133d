"""Captures read by several threads, with the same result for any number of them.

Compiled code runs beside other threads. Segments of a file are read ahead; where each begins is believed only if the
one before it ended there, otherwise it is read again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from netgen.capture.errors import CaptureError
from netgen.capture.formats import reader
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.inputs import Input
from netgen.capture.segments import (
    ReadOptions,
    Segment,
    guess_segment,
    is_contiguous,
    read_next_segment,
    read_segments,
)

#: Files of up to so many bytes are read ahead as a whole.
SMALL_FILE = 1 << 20

#: Results per thread that are read ahead of the one needed.
RESULTS_AHEAD = 2

T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass(eq=False)
class CaptureRead:
    """A capture that is being read."""

    input: Input
    refused: CaptureError | None  # why it is not a capture
    segments: Iterator[Segment]  # to be exhausted before the next capture


def read_captures(inputs: list[Input], options: ReadOptions, threads: int) -> Iterator[CaptureRead]:
    """Read captures one after the other, `threads` files or segments at a time."""
    pool = ThreadPoolExecutor(threads)
    ahead = RESULTS_AHEAD * threads
    try:
        small = functools.partial(_read_small, options=options)
        result: Iterable[Segment] | CaptureError | None
        for file, result in zip(inputs, _map_ahead(pool, small, inputs, ahead), strict=True):
            if result is None:
                result = _open_large(file, options, pool, ahead)
            if isinstance(result, CaptureError):
                yield CaptureRead(file, result, iter(()))
            else:
                yield CaptureRead(file, None, iter(result))
    finally:
        pool.shutdown(cancel_futures=True)


def _map_ahead(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Yield the results of a function in order; some of them are computed ahead."""
    pending: deque[Future[R]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _read_small(file: Input, options: ReadOptions) -> list[Segment] | CaptureError | None:
    """Read a small file, or say why it is not a capture; None for other files and pipes."""
    if not 0 < file.size <= SMALL_FILE:
        return None
    try:
        return list(read_segments(CaptureFile(file.path), options))
    except CaptureError as error:
        return error


def _open_large(
    file: Input, options: ReadOptions, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[Segment] | CaptureError:
    """Open a large file or a pipe, whose segments are read as they are needed, or say why it is not a capture."""
    try:
        capture = CaptureFile(file.path)
    except CaptureError as error:
        return error
    if capture.source.mapped is None:
        return read_segments(capture, options)
    return _read_plain(capture, options, pool, ahead)


def _read_plain(capture: CaptureFile, options: ReadOptions, pool: ThreadPoolExecutor, ahead: int) -> Iterator[Segment]:
    """Yield the segments of a plain file in order and without gaps."""

    def read(start: int) -> Segment | None:
        return guess_segment(capture, start, options) if start else read_next_segment(capture, None, options)

    guesses = _map_ahead(pool, read, range(0, capture.size, reader.SEGMENT), ahead)
    last: Segment | None = None
    number, position = -1, 0
    while position < capture.size:
        segment: Segment | None = None
        while number < position // reader.SEGMENT:
            segment = next(guesses)
            number += 1
        if segment is None or (last is not None and not is_contiguous(segment, last)):
            segment = read_next_segment(capture, last, options)
        yield segment
        last, position = segment, segment.end
