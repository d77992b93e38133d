"""Classic pcap: a file header, then records that each say where the next begins.

The chain is scanned by compiled code (`netgen.capture.native.packets.scan_records`) where that pays, and followed
record by record near damage. Where it breaks, what came before is kept and the break is noted.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator

import numpy as np

from netgen.capture import headers
from netgen.capture.formats.records import CHUNK, MAX_CAPTURED, MAX_SNAPLEN, ORDERS, Damage, Order, RecordBatch
from netgen.capture.headers import gather
from netgen.capture.native.layouts import LikelyTimes, RecordLayout
from netgen.capture.native.packets import guess_record_starts, read_records, scan_records

FILE_HEADER = 24

#: Bytes in which a record start is searched where a file is entered in the middle.
_REACH = 1 << 18

#: Fewer bytes than this are walked record by record at once.
MIN_SCAN = 1 << 20

#: Seconds around the file's first time stamp in which others are likely.
_BEFORE = 86_400
_AFTER = 400 * 86_400

MAGICS = {
    headers.PCAP_MAGIC_US: (1_000, headers.PCAP_RECORD),
    headers.PCAP_MAGIC_NS: (1, headers.PCAP_RECORD),
    headers.PCAP_MAGIC_KUZNETSOV: (1_000, headers.PCAP_RECORD_KUZNETSOV),
}


def file_order(data: np.ndarray, at: int = 0) -> Order | None:
    """Return the byte order of the pcap file header at `at`; None if there is none."""
    if at < 0 or len(data) - at < FILE_HEADER:
        return None
    first = data[at : at + 4].tobytes()
    return next((order for order in ORDERS if struct.unpack(order + "I", first)[0] in MAGICS), None)


class Pcap:
    """Reads a pcap file with this header (24 bytes) from `position` on; a `netgen.capture.formats.records.Format`."""

    def __init__(self, head: bytes, position: int = FILE_HEADER) -> None:
        self.damage: list[Damage] = []
        self.notes: Counter[str] = Counter()
        self.number = 1
        self.last_ns: int | None = None  # each record has its own time
        self.unsure = False
        self.position = position
        # the first record begins where it must, whatever it claims
        self._first = position if position == FILE_HEADER else -1
        self._seconds = -1  # time of the first record; other times are likely to be near
        self._begin(head)

    def _begin(self, head: bytes) -> None:
        data = np.frombuffer(head, np.uint8)
        self._order: Order = file_order(data) or "<"
        fields = gather(data, np.array([0]), headers.PCAP_FILE.newbyteorder(self._order))[0]
        self._unit, record = MAGICS[int(fields["magic"])]
        self._record = record.newbyteorder(self._order)
        snaplen = int(fields["snaplen"])
        self._limit = max(MAX_CAPTURED, snaplen) if snaplen <= MAX_SNAPLEN else MAX_CAPTURED
        # the upper 16 bits of the word are flags (length of the frame check sequence)
        self._linktype = int(fields["linktype"]) & 0xFFFF
        self._head = head

    @property
    def state(self) -> bytes:
        """Header of the file read last (several may have been joined)."""
        return self._head

    @staticmethod
    def opening(data: np.ndarray) -> bytes:
        """Return what a file says before its first packet: its header."""
        return data[:FILE_HEADER].tobytes()

    @staticmethod
    def at(state: bytes, position: int) -> Pcap:
        """Return a reader at a position, in this state."""
        return Pcap(state, position)

    def guess(self, data: np.ndarray, start: int, stop: int) -> int | None:
        """Find a position from `start` on at which a record very likely begins; `data` is the whole file."""
        seconds = struct.unpack_from(self._order + "I", data.data, FILE_HEADER)[0]
        reach = min(stop - start, _REACH)
        starts = guess_record_starts(data, np.array([start]), reach, self._layout, _likely_times(seconds))
        return int(starts[0]) if starts[0] >= 0 else None

    def chunks(self, data: np.ndarray, base: int, until: int, *, final: bool) -> Iterator[RecordBatch]:
        """Yield records that begin before `until`; see `netgen.capture.formats.records.Format`."""
        while self.position < until:
            starts, joined = self._scan(data, base, until, final)
            for first in range(0, len(starts), CHUNK):
                yield self._columns(data, starts[first : first + CHUNK])
            if not joined:
                return
            at = self.position - base
            self._begin(data[at : at + FILE_HEADER].tobytes())
            self.position += FILE_HEADER

    # -- finding records --------------------------------------------------------------------

    @property
    def _layout(self) -> RecordLayout:
        return RecordLayout(self._order, self._record.itemsize, self._limit, self._unit)

    def _scan(self, data: np.ndarray, base: int, until: int, final: bool) -> tuple[np.ndarray, bool]:
        """Find the starts (in `data`) of the next records, and whether another file begins after them."""
        begin, stop = self.position - base, min(until - base, len(data))
        scanned = np.zeros(0, np.int64)
        if self._seconds < 0 and begin + 4 <= len(data):
            self._seconds = int(struct.unpack_from(self._order + "I", data.data, begin)[0])
        if stop - begin >= MIN_SCAN:
            scanned, after = scan_records(data, begin, stop, self._layout, _likely_times(self._seconds))
            scanned, after = self._before_joined(data, scanned, after, final)
            self.position = base + after
        walked, joined = self._walk(data, base, stop, final)
        return (np.concatenate([scanned, np.array(walked, np.int64)]) if walked else scanned), joined

    def _before_joined(self, data: np.ndarray, starts: np.ndarray, after: int, final: bool) -> tuple[np.ndarray, int]:
        """Keep only the records before another file's header, which reads as a record of no bytes."""
        captured = np.diff(starts, append=after) - self._record.itemsize
        for row in np.flatnonzero(captured == 0).tolist():
            if self._joined(data, int(starts[row])) or self._waits(data, int(starts[row]), final):
                return starts[:row], int(starts[row])
        return starts, after

    def _joined(self, data: np.ndarray, at: int) -> bool:
        """Tell whether the header of another file, version 2.4, is where a record should be (``cat a b``)."""
        order = file_order(data, at)
        return order is not None and struct.unpack_from(order + "HH", data.data, at + 4) == (2, 4)

    @staticmethod
    def _waits(data: np.ndarray, at: int, final: bool) -> bool:
        """Tell whether a record of no bytes may be the header of another file, of which more must be read."""
        return not final and len(data) - at < FILE_HEADER

    def _walk(self, data: np.ndarray, base: int, stop: int, final: bool) -> tuple[list[int], bool]:
        """Follow the chain record by record; notes where it breaks."""
        size, record = len(data), self._record.itemsize
        unpack = struct.Struct(self._order + "8xI").unpack_from
        position, limit = self.position - base, self._limit
        last = size - record
        starts: list[int] = []
        joined = False
        buffer = data.data
        while position < stop and position <= last:
            (captured,) = unpack(buffer, position)
            after = position + record + captured
            if captured > limit:
                unread = size - position - record
                self._damaged(base + position, f"a record claims {captured} captured bytes; {unread} bytes are unread")
                if base + position == self._first:
                    starts.append(position)
                self.position = base + size
                return starts, False
            if not captured and self._waits(data, position, final):
                break
            if not captured and self._joined(data, position):
                self.notes["joined files"] += 1
                joined = True
                break
            if after > size:
                if not final:
                    break
                # what is left of the packet begins where it should, and is kept
                left = last - position
                self._damaged(base + position, f"the last record claims {captured} captured bytes, {left} are left")
                starts.append(position)
                position = size
                break
            starts.append(position)
            position = after
        self.position = base + position
        if final and not joined and last < position < size and position < stop:
            self._damaged(base + position, f"the last record is cut: {size - position} of {record} bytes of its header")
            self.position = base + size
        return starts, joined

    def _damaged(self, byte: int, reason: str) -> None:
        self.damage.append(Damage(byte, reason))

    # -- reading them -----------------------------------------------------------------------

    def _columns(self, data: np.ndarray, starts: np.ndarray) -> RecordBatch:
        offset, captured, length, time_ns = read_records(data, starts, self._layout)
        number = np.arange(self.number, self.number + len(starts))
        self.number += len(starts)
        linktype = np.full(len(starts), self._linktype, np.int64)
        return RecordBatch(data, offset, captured, length, time_ns, linktype, number)


def _likely_times(seconds: int) -> LikelyTimes:
    """Return the times that a file with this time stamp is likely to have."""
    return LikelyTimes(max(seconds - _BEFORE, 0), min(seconds + _AFTER, 2**32 - 1))
