"""Capture files to columns of records: pcap and pcapng, damaged ones included.

A capture is a chain of records, each saying where the next begins. A lean loop follows the chain;
everything else about a record (time, lengths, link type) is then read for thousands of records at
once. Where the chain breaks, what came before is kept and the break is noted: a damaged capture
is read as far as it goes, and only a file that is no capture at all is refused.
"""

from __future__ import annotations

import dataclasses
import mmap
import os
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from capture import headers
from capture.errors import CaptureError
from capture.headers import take
from capture.series import NS

#: Records a chunk; 8 to 16 thousand are best.
CHUNK = 16_384

#: Longest record believed where the file does not promise more (libpcap's MAXIMUM_SNAPLEN).
MAX_CAPTURED = 262_144

#: Longest that a file may promise (libpcap's for USB and D-Bus); above, it is no promise.
MAX_SNAPLEN = 128 * 1024 * 1024

#: Link type of a pcapng packet whose interface was never declared.
NO_INTERFACE = -1

#: Seconds from 1970 either way (to 2115) so that the difference of two times fits into int64 nanoseconds.
MAX_SECONDS = 4_600_000_000

Order = Literal["<", ">"]
_ORDERS: tuple[Order, Order] = ("<", ">")
_FILE_HEADER = 24
_MAGICS = {
    headers.PCAP_MAGIC_US: (1_000, headers.PCAP_RECORD),
    headers.PCAP_MAGIC_NS: (1, headers.PCAP_RECORD),
    headers.PCAP_MAGIC_KUZNETSOV: (1_000, headers.PCAP_RECORD_KUZNETSOV),
}
_PACKET_BLOCKS = frozenset((headers.PCAPNG_ENHANCED_PACKET, headers.PCAPNG_OLD_PACKET, headers.PCAPNG_SIMPLE_PACKET))
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"PK\3\4": "zip"}


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Records of a capture as columns.

    Parameters
    ----------
    data : ndarray of uint8
        The whole file.
    offset, captured : ndarray of int64, shape (records,)
        Where in `data` each packet begins, and how many of its bytes are there.
    length : ndarray of int64, shape (records,)
        Bytes the packet had on the wire, as the capture says.
    time_ns : ndarray of int64, shape (records,)
        Nanoseconds since 1970.
    linktype : ndarray of int64, shape (records,)
        LINKTYPE number, or `NO_INTERFACE`.
    number : ndarray of int64, shape (records,)
        Packet number in the file, from 1.
    """

    data: np.ndarray
    offset: np.ndarray
    captured: np.ndarray
    length: np.ndarray
    time_ns: np.ndarray
    linktype: np.ndarray
    number: np.ndarray

    def __len__(self) -> int:
        return len(self.offset)


@dataclasses.dataclass(frozen=True, slots=True)
class Damage:
    """A place from which on a capture could not be read."""

    byte: int
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Interface:
    linktype: int
    snaplen: int
    resolution: int
    offset_s: int


class CaptureFile:
    """One capture file, open for reading.

    Parameters
    ----------
    path : str or Path
        A pcap or pcapng file.

    Attributes
    ----------
    damage : list of Damage
        What was lost; complete once `chunks` is exhausted.
    notes : Counter
        Oddities that lost nothing, with how often they were seen.

    Raises
    ------
    CaptureError
        If the file cannot be opened or is no capture.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.damage: list[Damage] = []
        self.notes: Counter[str] = Counter()
        self._number = 1
        self._last_ns = 0
        try:
            with self.path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                self._buffer = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CaptureError(f"cannot read {self.path}: {reason}", "Name a pcap or pcapng file") from error
        self.data = np.frombuffer(self._buffer, np.uint8)
        self.size = len(self.data)
        self._pcapng = self._magic(0) == headers.PCAPNG_SECTION
        recognised = self._section_order(0) if self._pcapng else self._file_header(0)
        if recognised is None:
            raise self._no_capture()

    def chunks(self) -> Iterator[Chunk]:
        """The records that can be read, in the file's order, `CHUNK` at a time."""
        self.damage.clear()
        self.notes.clear()
        self._number, self._last_ns = 1, 0
        return self._pcapng_chunks() if self._pcapng else self._pcap_chunks()

    # -- what kind of file it is ------------------------------------------------------------

    def _magic(self, at: int, order: Order = "<") -> int:
        return int.from_bytes(self._buffer[at : at + 4], "little" if order == "<" else "big")

    def _file_header(self, at: int) -> Order | None:
        """Byte order of the pcap file header at `at`; None if there is none."""
        if self.size - at < _FILE_HEADER:
            return None
        return next((order for order in _ORDERS if self._magic(at, order) in _MAGICS), None)

    def _joined(self, at: int) -> bool:
        """Whether the header of another file, version 2.4, stands where a record should (``cat a b``)."""
        order = self._file_header(at)
        return order is not None and struct.unpack_from(order + "HH", self._buffer, at + 4) == (2, 4)

    def _section_order(self, at: int) -> Order | None:
        """Byte order of the pcapng section header at `at`; None if there is none."""
        if self.size - at < 28:
            return None
        return next((order for order in _ORDERS if self._magic(at + 8, order) == headers.PCAPNG_BYTE_ORDER), None)

    def _no_capture(self) -> CaptureError:
        first = bytes(self._buffer[:8])
        hint = "Name a pcap or pcapng file, as tcpdump, Wireshark and dumpcap write them"
        if not first:
            return CaptureError(f"{self.path} is no capture: it is empty", hint)
        found = f"it begins with {first.hex(' ')}"
        if first.isascii() and first.decode("ascii").isprintable():
            found += f" ({first.decode('ascii')!r})"
        for magic, name in _COMPRESSED.items():
            if first.startswith(magic):
                found += f", which is {name}"
                hint = "Decompress it first"
        if self._magic(0) == headers.PCAPNG_SECTION or any(self._magic(0, order) in _MAGICS for order in _ORDERS):
            found += f" like one, but its file header is cut or bad ({self.size} bytes in all)"
        return CaptureError(f"{self.path} is no capture: {found}", hint)

    # -- pcap -------------------------------------------------------------------------------

    def _pcap_chunks(self) -> Iterator[Chunk]:
        at: int | None = 0
        while at is not None:
            order = self._file_header(at) or "<"
            head = take(self.data, np.array([at]), headers.PCAP_FILE.newbyteorder(order))[0]
            unit, record = _MAGICS[int(head["magic"])]
            record = record.newbyteorder(order)
            snaplen = int(head["snaplen"])
            limit = max(MAX_CAPTURED, snaplen) if snaplen <= MAX_SNAPLEN else MAX_CAPTURED
            # the upper 16 bits of the word are flags (length of the frame check sequence)
            linktype = int(head["linktype"]) & 0xFFFF
            position, first = at + _FILE_HEADER, True
            while True:
                starts, position, at = self._scan(position, order, record.itemsize, limit, first)
                first = False
                if starts:
                    yield self._pcap_columns(np.array(starts, np.int64), record, unit, linktype)
                if len(starts) < CHUNK:
                    break

    def _scan(
        self, position: int, order: Order, record: int, limit: int, first: bool
    ) -> tuple[list[int], int, int | None]:
        """Follow the chain for one chunk: record starts, the place after them, and where another file begins."""
        buffer = self._buffer
        unpack = struct.Struct(order + "8xI").unpack_from
        last = self.size - record
        starts: list[int] = []
        for _ in range(CHUNK):
            if position > last:
                break
            (captured,) = unpack(buffer, position)
            if captured > limit:
                there = self.size - position - record
                self._damaged(position, f"a record claims {captured} captured bytes; {there} bytes are unread")
                # the first record begins where it must, whatever length it claims: keep its packet
                return [position] if first else starts, position, None
            if not captured and self._joined(position):
                self.notes["joined files"] += 1
                return starts, position, position
            starts.append(position)
            position += record + captured
            first = False
        if starts and position > self.size:
            # what is left of the packet begins where it should, and is kept
            there = self.size - starts[-1] - record
            claim = there + position - self.size
            self._damaged(starts[-1], f"the last record claims {claim} captured bytes, {there} are left")
        elif last < position < self.size and len(starts) < CHUNK:
            self._damaged(position, f"the last record is cut: {self.size - position} of {record} bytes of its header")
        return starts, position, None

    def _pcap_columns(self, starts: np.ndarray, record: np.dtype, unit: int, linktype: int) -> Chunk:
        head = take(self.data, starts, record)
        time_ns = head["seconds"].astype(np.int64) * NS + head["fraction"].astype(np.int64) * unit
        return self._chunk(
            starts + record.itemsize,
            head["captured"].astype(np.int64),
            head["length"].astype(np.int64),
            time_ns,
            np.full(len(starts), linktype, np.int64),
        )

    # -- pcapng -----------------------------------------------------------------------------

    def _pcapng_chunks(self) -> Iterator[Chunk]:
        buffer, size = self._buffer, self.size
        order: Order = "<"
        head, tail = struct.Struct("<II").unpack_from, struct.Struct("<I").unpack_from
        interfaces = list[_Interface]()
        starts, kinds = list[int](), list[int]()
        position = 0
        while position + 12 <= size:
            kind, total = head(buffer, position)
            if kind == headers.PCAPNG_SECTION:  # the same in both byte orders
                if starts:
                    yield self._pcapng_columns(starts, kinds, order, interfaces)
                    starts, kinds = [], []
                found = self._section_order(position)
                if found is None:
                    self._damaged(position, f"a section header is cut or bad; {size - position} bytes are unread")
                    break
                order, interfaces = found, []
                head, tail = struct.Struct(order + "II").unpack_from, struct.Struct(order + "I").unpack_from
                kind, total = head(buffer, position)
            end = position + total + -total % 4
            if total < 12 or end > size or tail(buffer, end - 4)[0] != total:
                whole = 12 <= total <= MAX_SNAPLEN and end > size
                if whole and kind == headers.PCAPNG_ENHANCED_PACKET and size - position > 28:
                    starts.append(position)
                    kinds.append(kind)
                cause = "the last block is cut" if whole else f"a block claims a length of {total} bytes"
                self._damaged(position, f"{cause}; {size - position} bytes are unread")
                break
            if kind in _PACKET_BLOCKS:
                starts.append(position)
                kinds.append(kind)
                if len(starts) == CHUNK:
                    yield self._pcapng_columns(starts, kinds, order, interfaces)
                    starts, kinds = [], []
            elif kind == headers.PCAPNG_INTERFACE:
                interfaces.append(_interface(buffer[position + 8 : end - 4], order))
            position = end
        if starts:
            yield self._pcapng_columns(starts, kinds, order, interfaces)
        if position < size and not self.damage:
            self._damaged(position, f"the last block is cut: {size - position} bytes of its header")

    def _pcapng_columns(self, starts: list[int], kinds: list[int], order: Order, interfaces: list[_Interface]) -> Chunk:
        at, kind = np.array(starts, np.int64), np.array(kinds)
        offset, captured, length, room, ticks_high, ticks_low, interface = np.zeros((7, len(at)), np.int64)
        for number, layout in (
            (headers.PCAPNG_ENHANCED_PACKET, headers.ENHANCED_PACKET),
            (headers.PCAPNG_OLD_PACKET, headers.OLD_PACKET),
            (headers.PCAPNG_SIMPLE_PACKET, headers.SIMPLE_PACKET),
        ):
            rows = np.flatnonzero((kind == number) & (at + layout.itemsize <= self.size))
            if not rows.size:
                continue
            head = take(self.data, at[rows], layout.newbyteorder(order))
            offset[rows] = at[rows] + layout.itemsize
            room[rows] = head["total"].astype(np.int64) - layout.itemsize - 4
            length[rows] = head["length"]
            if number == headers.PCAPNG_SIMPLE_PACKET:
                snaplen = interfaces[0].snaplen if interfaces else 0
                captured[rows] = np.minimum(length[rows], snaplen or MAX_SNAPLEN)
                captured[rows] = np.minimum(captured[rows], room[rows])
            else:
                captured[rows] = head["captured"]
                interface[rows] = head["interface"]
                ticks_high[rows] = head["high"]
                ticks_low[rows] = head["low"]
        over = captured > np.maximum(room, 0)
        self.notes["captured length over its block"] += int(over.sum())
        captured = np.where(over, np.maximum(room, 0), captured)
        time_ns = np.zeros(len(at), np.int64)
        linktype = np.full(len(at), NO_INTERFACE, np.int64)
        for number in np.unique(interface[interface < len(interfaces)]).tolist():
            rows = np.flatnonzero(interface == number)
            ticks = (ticks_high[rows].astype(np.uint64) << np.uint64(32)) | ticks_low[rows].astype(np.uint64)
            time_ns[rows] = _ticks_to_ns(ticks, interfaces[number])
            linktype[rows] = interfaces[number].linktype
        timed = kind != headers.PCAPNG_SIMPLE_PACKET
        if not timed.all():
            # a simple packet block has no time: it takes that of the packet before it
            self.notes["packets without a time"] += int((~timed).sum())
            before = np.maximum.accumulate(np.where(timed, np.arange(len(at)), -1))
            time_ns = np.where(before >= 0, time_ns[before], self._last_ns)
        return self._chunk(offset, captured, length, time_ns, linktype)

    # -- both -------------------------------------------------------------------------------

    def _chunk(
        self, offset: np.ndarray, captured: np.ndarray, length: np.ndarray, time_ns: np.ndarray, linktype: np.ndarray
    ) -> Chunk:
        number = np.arange(self._number, self._number + len(offset))
        self._number += len(offset)
        self._last_ns = int(time_ns[-1])
        captured = np.clip(captured, 0, np.maximum(self.size - offset, 0))
        return Chunk(self.data, offset, captured, length, time_ns, linktype, number)

    def _damaged(self, byte: int, reason: str) -> None:
        self.damage.append(Damage(byte, reason))


def _interface(body: bytes, order: Order) -> _Interface:
    """Link type, snap length and clock of an interface description block (its body)."""
    if len(body) < 8:
        return _Interface(NO_INTERFACE, 0, 6, 0)
    linktype, snaplen = struct.unpack_from(order + "H2xI", body)
    resolution, offset_s, at = 6, 0, 8
    while at + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + size]
        if code == 0:
            break
        if code == 9 and len(value) == 1:
            resolution = value[0]
        elif code == 14 and len(value) == 8:
            offset_s = struct.unpack(order + "q", value)[0]
        at += 4 + size + -size % 4
    return _Interface(linktype, snaplen, resolution, offset_s)


def _ticks_to_ns(ticks: np.ndarray, interface: _Interface) -> np.ndarray:
    """Time stamps of an interface as nanoseconds since 1970, without loss where they allow it."""
    power = interface.resolution & 0x7F
    if interface.resolution & 0x80:
        if power >= 64:
            seconds, part = np.zeros_like(ticks), np.zeros_like(ticks)
        else:
            shift = np.uint64(power)
            seconds = ticks >> shift
            part = ticks - (seconds << shift)
            # 32 bits of fraction are a quarter of a nanosecond, and fit beside 10^9
            spare = np.uint64(max(power - 32, 0))
            part = ((part >> spare) * np.uint64(NS)) >> (shift - spare)
    elif power > 19:
        seconds, part = np.zeros_like(ticks), np.zeros_like(ticks)
    else:
        unit = np.uint64(10**power)
        seconds = ticks // unit
        part = ticks - seconds * unit
        part = part * np.uint64(10 ** (9 - power)) if power <= 9 else part // np.uint64(10 ** (power - 9))
    offset_s = min(max(interface.offset_s, -MAX_SECONDS), MAX_SECONDS)
    whole = np.minimum(seconds, np.uint64(2 * MAX_SECONDS)).astype(np.int64) + offset_s
    time_ns: np.ndarray = np.clip(whole, -MAX_SECONDS, MAX_SECONDS) * NS + part.astype(np.int64)
    return time_ns
