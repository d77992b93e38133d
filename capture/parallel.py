"""Captures read by one process or several, with the same result.

Each worker is a process of its own, started anew (not forked), that reads what it is told to, and so
do one or two threads of the process that asked. This one puts everything in order, and believes where a
stretch begins only if the one before it ended there: otherwise it reads that stretch again itself.
"""

from __future__ import annotations

import dataclasses
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from netgen.capture import spare
from netgen.capture.errors import CaptureError, NetgenError
from netgen.capture.formats import reader
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.inputs import Input
from netgen.capture.segments import ReadOptions, Segment, follows, read_next_segment, read_segments
from netgen.capture.worker import READY, FileResult, Reader

#: Files up to this size are handed out whole, several at a time.
SMALL = 1 << 20

#: Small files, and bytes of them, that are handed out together.
TOGETHER, TOGETHER_BYTES = 64, 8 << 20

#: Results read ahead of the one that is needed, for each process.
AHEAD = 2


@dataclasses.dataclass(eq=False)
class Read:
    """A capture as it is being read.

    Parameters
    ----------
    input : Input
        Which file.
    refused : CaptureError or None
        Why it is no capture.
    stretches : iterator of Stretch
        To be taken to its end before the next capture.
    done : callable
        Bytes read so far, of this and all captures before it.
    """

    input: Input
    refused: CaptureError | None
    read_segments: Iterator[Segment]
    done: Callable[[], int]


class _Worker:
    """A process that reads, and the pipes to it."""

    def __init__(self) -> None:
        self._process = spare.worker()

    def wait(self) -> None:
        """Wait until it has loaded what it needs, or has ended."""
        assert self._process.stdout is not None
        self._process.stdout.read(len(READY))

    def ask(self, options: ReadOptions, what: Any) -> Any:
        """Send a request and wait for the reply."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump((options, what), process.stdin)
            process.stdin.flush()
            reply = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise NetgenError(
                f"a process that read captures ended with code {process.wait()}",
                "Is memory short? Read with one process: leave out -j",
            ) from error
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        spare.close(self._process)


class _Pool:
    """Threads of this process and workers, that are asked in turn."""

    def __init__(self, count: int, options: ReadOptions) -> None:
        self._options = options
        self._workers: list[_Worker] = []
        self._free: SimpleQueue[_Worker | Reader] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count)
        self._stop = threading.Event()
        self.width = count

    def begin(self, *, big: bool) -> None:
        """Start the workers; whatever comes between, `close` ends them."""
        # small files are more Python than compiled code, and wait for each other in one process
        here = min(spare.threads_here() if big else 1, self.width)
        for _ in range(here):
            self._free.put(Reader(self._stop.is_set))
        for _ in range(self.width - here):
            self._workers.append(_Worker())
        for worker in self._workers:  # nobody waits for these threads, not even at the end
            threading.Thread(target=self._expect, args=(worker,), daemon=True).start()

    def submit(self, what: Any) -> Future[Any]:
        return self._threads.submit(self._ask, what)

    def _ask(self, what: Any) -> Any:
        worker = self._free.get()
        try:
            return worker.ask(self._options, what)
        finally:
            self._free.put(worker)

    def _expect(self, worker: _Worker) -> None:
        try:
            worker.wait()
        finally:  # what ended is found out when it is asked
            self._free.put(worker)

    def close(self) -> None:
        self._stop.set()
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(cancel_futures=True)


class _Results:
    """Results of numbered tasks in order, some of them worked out ahead."""

    def __init__(self, pool: _Pool, tasks: list[Any]) -> None:
        self._pool, self._tasks = pool, tasks
        self._asked: dict[int, Future[Any]] = {}
        self._next = 0
        self._ask(0)

    def take(self, number: int) -> Any:
        """The result of a task; to be asked for in order."""
        self._ask(number)
        return self._asked.pop(number).result()

    def _ask(self, number: int) -> None:
        while self._next < min(len(self._tasks), number + AHEAD * self._pool.width):
            self._asked[self._next] = self._pool.submit(self._tasks[self._next])
            self._next += 1


def read_captures(inputs: list[Input], options: ReadOptions, workers: int) -> Iterator[Read]:
    """Read captures one after the other, with so many threads and processes in all."""
    tasks = sum(max(1, each.size // reader.SEGMENT) for each in inputs)
    if workers == 1 or tasks < 2:
        yield from _alone(inputs, 0, options)
        return
    pool = _Pool(min(workers, tasks), options)
    try:
        pool.begin(big=any(each.size > 2 * reader.SEGMENT for each in inputs))
        before = 0
        for group in _groups(inputs):
            if len(group) > 1 or group[0].size <= SMALL:
                yield from _small(group, before, pool, options)
            else:
                yield from _big(group[0], before, pool, options)
            before += sum(each.size for each in group)
    finally:
        pool.close()


def _alone(inputs: list[Input], before: int, options: ReadOptions) -> Iterator[Read]:
    for each in inputs:
        try:
            capture = CaptureFile(each.path)
        except CaptureError as error:
            yield Read(each, error, iter(()), _constant(before))
        else:
            yield _counted(each, capture, options, before)
        before += each.size


def _groups(inputs: list[Input]) -> Iterator[list[Input]]:
    """Runs of small files together, each big one by itself, in order."""
    run: list[Input] = []
    for each in inputs:
        if each.size and each.size <= SMALL:
            run.append(each)
            continue
        if run:
            yield run
            run = []
        yield [each]
    if run:
        yield run


def _small(group: list[Input], before: int, pool: _Pool, options: ReadOptions) -> Iterator[Read]:
    if len(group) == 1:
        yield from _alone(group, before, options)
        return
    batches: list[list[Input]] = [[]]
    for each in group:
        held = batches[-1]
        if len(held) == TOGETHER or sum(one.size for one in held) > TOGETHER_BYTES:
            batches.append([])
        batches[-1].append(each)
    tasks = [[each.path for each in batch] for batch in batches]
    results = _Results(pool, tasks)
    for number, batch in enumerate(batches):
        found: list[FileResult] = results.take(number)
        for each, result in zip(batch, found, strict=True):
            before += each.size
            if isinstance(result, CaptureError):
                yield Read(each, result, iter(()), _constant(before))
            else:
                yield Read(each, None, iter(result), _constant(before))


def _big(each: Input, before: int, pool: _Pool, options: ReadOptions) -> Iterator[Read]:
    try:
        capture = CaptureFile(each.path)
    except CaptureError as error:
        yield Read(each, error, iter(()), _constant(before))
        return
    if capture.source.whole is None or capture.size <= 2 * reader.SEGMENT:
        yield _counted(each, capture, options, before)
        return
    place = [before]
    yield Read(each, None, _ordered(capture, each, pool, options, place), lambda: place[0])


def _ordered(capture: CaptureFile, each: Input, pool: _Pool, options: ReadOptions, place: list[int]) -> Iterator[Segment]:
    """The stretches of a big file, read by all of them, in order and without a gap."""
    before = place[0]
    edges = range(reader.SEGMENT, capture.size, reader.SEGMENT)
    tasks = [(each.path, start) for start in edges]
    results = _Results(pool, tasks)
    last: Segment | None = None
    while last is None or last.end < capture.size:
        stretch: Segment | None = None
        if last is not None and last.end >= reader.SEGMENT:
            stretch = results.take(last.end // reader.SEGMENT - 1)
        if last is None or stretch is None or not follows(stretch, last):
            stretch = read_next_segment(capture, last, options)
        last = stretch
        yield last
        place[0] = before + last.end
        capture.source.forget(capture.size)


def _counted(each: Input, capture: CaptureFile, options: ReadOptions, before: int) -> Read:
    """A capture that this process reads; bytes are told when their stretch is handed on, not when it is read ahead."""
    end: int | None = None

    def pieces() -> Iterator[Segment]:
        nonlocal end
        for stretch in read_segments(capture, options):
            if capture.source.whole is not None:
                end = stretch.end
            yield stretch

    return Read(each, None, pieces(), lambda: before + (capture.consumed if end is None else end))


def _constant(value: int) -> Callable[[], int]:
    return lambda: value
