"""Segments of a capture, read one by one and in any order, before flows are made.

A plain file is cut on a fixed grid of `netgen.capture.formats.reader.SEGMENT` bytes, so that the segments do not depend
on the number of threads. Only the first one is known to begin with a record; each other begins where the one before it
ended, which is guessed if that one has not been read yet.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

from netgen.capture.flows.packet_batch import PacketBatch
from netgen.capture.formats import reader
from netgen.capture.formats.pcap import Pcap
from netgen.capture.formats.pcapng import Pcapng
from netgen.capture.formats.reader import CaptureFile
from netgen.capture.formats.records import Damage
from netgen.capture.layers.dissect import dissect
from netgen.capture.names.finder import NameFinder
from netgen.capture.read_batch import read_batch

#: Bytes read at a time after a segment for the rest of a ClientHello that began in it.
_LOOK_AHEAD = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOptions:
    """How packets are read."""

    decapsulate: bool = False  # count the packet inside a tunnel instead of the one around it
    name_sources: str = "tls"  # look for the names of TLS over TCP ("tls"), or for QUIC's and DNS's too ("all")


@dataclasses.dataclass(eq=False)
class Segment:
    """What was read of a capture from one position to another; `damage` and `notes` are the reader's."""

    batch: PacketBatch  # its packets, numbered from 1
    begin: int  # where its first record begins
    end: int  # where its last record ends; of a stream, bytes of the file read so far
    state_before: Any  # what the reader knew of the file at `begin` (`netgen.capture.formats.records.Format.state`)
    state_after: Any  # and at `end`
    last_ns: int | None  # time of its last packet; simple packet blocks of pcapng after it have the same time
    unsure: bool  # whether it may read differently once the segment before it is known
    damage: list[Damage]
    notes: Counter[str]


def read_segment(capture: CaptureFile, format: Pcap | Pcapng, until: int, options: ReadOptions) -> Segment:
    """Read records of a plain file from the position of a new `format` up to `until`."""
    begin, before = format.position, format.state
    finder = NameFinder(options.name_sources)
    batch = read_batch(format.chunks(capture.data, 0, until, final=True), finder, decapsulate=options.decapsulate)
    if finder.waiting:
        # names that begin here and go on behind the edge
        ahead = format.at(format.state, format.position)  # type: ignore[arg-type]  # its own state
        ahead.number = format.number
        while finder.waiting and ahead.position < capture.size and not ahead.damage:
            for chunk in ahead.chunks(capture.data, 0, ahead.position + _LOOK_AHEAD, final=True):
                batch.names += finder.find(chunk.data, dissect(chunk, decapsulate=options.decapsulate), new=False)
    capture.source.release(begin, format.position)
    return Segment(
        batch=batch,
        begin=begin,
        end=format.position,
        state_before=before,
        state_after=format.state,
        last_ns=format.last_ns,
        # without a packet, the time of the one before must be carried on
        unsure=format.unsure or (isinstance(format, Pcapng) and format.last_ns is None),
        damage=format.damage,
        notes=format.notes,
    )


def guess_segment(capture: CaptureFile, start: int, options: ReadOptions) -> Segment | None:
    """Read the segment from `start` to the next edge; None if no position looks like its first record."""
    until = _next_edge(start)
    format = capture.reader_at(start, until)
    return None if format is None else read_segment(capture, format, until, options)


def read_next_segment(capture: CaptureFile, last: Segment | None, options: ReadOptions) -> Segment:
    """Read the segment after another, or the first."""
    format = capture.format
    if last is not None:
        format = capture.format = format.at(last.state_after, last.end)
        format.last_ns = last.last_ns
    return read_segment(capture, format, _next_edge(format.position), options)


def is_contiguous(segment: Segment, last: Segment) -> bool:
    """Tell whether a segment whose beginning was guessed begins where the one before it ended."""
    return segment.begin == last.end and segment.state_before == last.state_after and not segment.unsure


def read_segments(capture: CaptureFile, options: ReadOptions) -> Iterator[Segment]:
    """Read a whole capture, segment by segment."""
    if capture.source.mapped is None:
        yield from _read_stream(capture, options)
        return
    last: Segment | None = None
    while last is None or last.end < capture.size:
        last = read_next_segment(capture, last, options)
        yield last


def _read_stream(capture: CaptureFile, options: ReadOptions) -> Iterator[Segment]:
    """Read a stream, which passes only once: server names that are incomplete are kept until they are complete."""
    finder = NameFinder(options.name_sources)
    for chunks in capture.windows():
        before = capture.format.number - 1
        batch = read_batch(chunks, finder, decapsulate=options.decapsulate)
        # the finder counts from the beginning of the stream
        batch.number = batch.number - before
        batch.names = [dataclasses.replace(name, number=name.number - before) for name in batch.names]
        yield _stream_segment(capture, batch)
    rest = _stream_segment(capture, read_batch([], finder))
    yield dataclasses.replace(rest, damage=capture.damage, notes=capture.notes)


def _stream_segment(capture: CaptureFile, batch: PacketBatch) -> Segment:
    return Segment(batch, 0, capture.consumed, None, None, None, unsure=False, damage=[], notes=Counter())


def _next_edge(position: int) -> int:
    return position - position % reader.SEGMENT + reader.SEGMENT
