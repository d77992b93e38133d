"""Captures read stretch by stretch: what one process, or several, do with a file before flows are made.

A plain file is cut on a fixed grid of `netgen.capture.formats.reader.SEGMENT` bytes, so that the same stretches are
read whoever reads them. Only the first stretch is known to begin with a record; each other begins
where the one before it ended.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from netgen.capture.flows.batch import PacketBatch, read_batch
from netgen.capture.formats import reader
from netgen.capture.formats.pcap import Pcap
from netgen.capture.formats.pcapng import Pcapng
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.formats.records import Damage
from netgen.capture.layers.dissect import dissect
from netgen.capture.names.finder import NameFinder

#: Bytes read at a time behind a stretch for the rest of a ClientHello that began in it.
_AHEAD = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOptions:
    """How packets are to be read.

    Parameters
    ----------
    inner : bool
        The packet inside a tunnel counts in place of the one around it.
    names : {"tls", "all"}
        Which names to look for: those of TLS over TCP, or QUIC's and DNS's too.
    """

    inner: bool = False
    names: str = "tls"


@dataclasses.dataclass(eq=False)
class Segment:
    """What was read of a capture from one place to another.

    Parameters
    ----------
    part : Part
        Its packets, numbered from 1.
    begin, end : int
        Where its first record begins, and where the one behind its last does.
    before, after : object
        What the reader knew of the file there (`netgen.capture.formats.records.Format.state`).
    last_ns : int or None
        Time of its last packet, which simple packet blocks of pcapng behind it have too.
    unsure : bool
        Whether it would read otherwise if what came before were known.
    damage, notes
        As of the reader.
    """

    part: PacketBatch
    begin: int
    end: int
    before: Any
    after: Any
    last_ns: int | None
    unsure: bool
    damage: list[Damage]
    notes: Counter[str]


def next_edge(position: int) -> int:
    """Where the stretch that holds a place of a file ends."""
    return position - position % reader.SEGMENT + reader.SEGMENT


def read_segment(capture: CaptureFile, format: Pcap | Pcapng, until: int, options: ReadOptions) -> Segment:
    """Read records of a plain file from where a fresh `format` stands up to `until`."""
    begin, before = format.position, format.state
    finder = NameFinder(options.names)
    part = read_batch(format.chunks(capture.data, 0, until, final=True), finder, inner=options.inner)
    if finder.waiting:
        # names that begin here and go on behind the edge
        ahead = format.at(format.state, format.position)  # type: ignore[arg-type]  # its own state
        ahead.number = format.number
        while finder.waiting and ahead.position < capture.size and not ahead.damage:
            for chunk in ahead.chunks(capture.data, 0, ahead.position + _AHEAD, final=True):
                part.names += finder.find(chunk.data, dissect(chunk, decapsulate=options.inner), new=False)
    return Segment(
        part=part,
        begin=begin,
        end=format.position,
        before=before,
        after=format.state,
        last_ns=format.last_ns,
        # without a packet, the time of the one before is still to be carried on
        unsure=format.unsure or (isinstance(format, Pcapng) and format.last_ns is None),
        damage=format.damage,
        notes=format.notes,
    )


def guess_segment(capture: CaptureFile, start: int, options: ReadOptions) -> Segment | None:
    """Read the stretch from `start` to the next edge, its first record guessed; None: no guess."""
    until = next_edge(start)
    format = capture.reader_at(start, until)
    return None if format is None else read_segment(capture, format, until, options)


def read_next_segment(capture: CaptureFile, last: Segment | None, options: ReadOptions) -> Segment:
    """Read the stretch behind another, or the first."""
    format = capture.format
    if last is not None:
        format = capture.format = format.at(last.after, last.end)
        format.last_ns = last.last_ns
    return read_segment(capture, format, next_edge(format.position), options)


def is_contiguous(stretch: Segment, last: Segment) -> bool:
    """Whether a stretch whose beginning was guessed begins where the one before it ended."""
    return stretch.begin == last.end and stretch.before == last.after and not stretch.unsure


def read_segments(capture: CaptureFile, options: ReadOptions) -> Iterator[Segment]:
    """All of a capture, stretch by stretch, in this process."""
    if capture.source.whole is None:
        yield from _streamed(capture, options)
        return
    before: Segment | None = None
    while capture.size <= reader.SEGMENT and (before is None or before.end < capture.size):
        before = read_next_segment(capture, before, options)
        yield before
    if before is not None:
        return
    with ThreadPoolExecutor(1) as thread:  # reads the next stretch while this one is made into flows
        coming: Future[Segment] | None = thread.submit(read_next_segment, capture, None, options)
        while coming is not None:
            last = coming.result()
            coming = thread.submit(read_next_segment, capture, last, options) if last.end < capture.size else None
            yield last
            capture.source.forget(last.end)


def _streamed(capture: CaptureFile, options: ReadOptions) -> Iterator[Segment]:
    """A stream goes by once: names that are not whole are kept until they are."""
    finder = NameFinder(options.names)
    for chunks in capture.windows():
        before = capture.format.number - 1
        part = read_batch(chunks, finder, inner=options.inner)
        # the finder counts from the beginning of the stream
        part.number = part.number - before
        part.names = [dataclasses.replace(name, number=name.number - before) for name in part.names]
        yield _piece(part)
    rest = _piece(read_batch([], finder))
    yield dataclasses.replace(rest, damage=capture.damage, notes=capture.notes)


def _piece(part: PacketBatch) -> Segment:
    return Segment(part, 0, 0, None, None, None, unsure=False, damage=[], notes=Counter())
