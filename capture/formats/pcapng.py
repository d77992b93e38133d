"""pcapng: blocks that each say where the next begins, in sections with their own interfaces."""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from netgen.capture import headers
from netgen.capture.factorize import unique
from netgen.capture.formats.records import CHUNK, MAX_SNAPLEN, NO_INTERFACE, ORDERS, Damage, Order, RecordBatch, clipped
from netgen.capture.headers import gather
from netgen.capture.series.spec import NS

#: Seconds from 1970 either way (to 2115) so that the difference of two times fits into int64 nanoseconds.
MAX_SECONDS = 4_600_000_000

_PACKET_BLOCKS = frozenset((headers.PCAPNG_ENHANCED_PACKET, headers.PCAPNG_OLD_PACKET, headers.PCAPNG_SIMPLE_PACKET))
_LAYOUTS = (
    (headers.PCAPNG_ENHANCED_PACKET, headers.ENHANCED_PACKET),
    (headers.PCAPNG_OLD_PACKET, headers.OLD_PACKET),
    (headers.PCAPNG_SIMPLE_PACKET, headers.SIMPLE_PACKET),
)
_SECTION = 28

#: Blocks of a chain that must look right before its start is taken for one.
_PROOF = 4

#: Bytes that are searched at a time for the start of a block.
_GUESS_WINDOW = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class Interface:
    """Link type, snap length and clock of an interface description block."""

    linktype: int
    snaplen: int
    resolution: int
    offset_s: int


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """Byte order and interfaces of the section that is being read."""

    order: Order = "<"
    interfaces: tuple[Interface, ...] = ()


def section_order(data: np.ndarray, at: int = 0) -> Order | None:
    """Return the byte order of the pcapng section header at `at`; None if there is none."""
    if at < 0 or len(data) - at < _SECTION:
        return None
    mark = data[at + 8 : at + 12].tobytes()
    return next((order for order in ORDERS if struct.unpack(order + "I", mark)[0] == headers.PCAPNG_BYTE_ORDER), None)


class Pcapng:
    """Reads a pcapng file from `position` on, in the `state` there; a `netgen.capture.formats.records.Format`.

    It is `unsure` if the first packets have no time stamp, and the packet before them is not known.
    """

    def __init__(self, state: State | None = None, position: int = 0) -> None:
        self.damage: list[Damage] = []
        self.notes: Counter[str] = Counter()
        self.number = 1
        self.position = position
        self.unsure = False
        state = state or State()
        self._order: Order = state.order
        self._interfaces = list(state.interfaces)
        self.last_ns: int | None = 0 if position == 0 else None  # time of the packet before

    @property
    def state(self) -> State:
        """Byte order and interfaces so far."""
        return State(self._order, tuple(self._interfaces))

    @staticmethod
    def opening(data: np.ndarray) -> State:
        """Return what a file says before its first packet: the interfaces described there."""
        reader = Pcapng()
        order, at = section_order(data) or "<", 0
        head = struct.Struct(order + "II").unpack_from
        while at + 12 <= len(data):
            kind, total = head(data.data, at)
            at += total + -total % 4
            if kind in _PACKET_BLOCKS or total < 12 or at > len(data):
                break
            for _ in reader.chunks(data, 0, at, final=True):
                pass
        return reader.state

    @staticmethod
    def at(state: State, position: int) -> Pcapng:
        """Return a reader at a position, in this state."""
        return Pcapng(state, position)

    def guess(self, data: np.ndarray, start: int, stop: int) -> int | None:
        """Find a position from `start` on at which a block very likely begins; `data` is the whole file."""
        order = self._order
        words = np.ndarray((max(len(data) - 3, 0),), dtype=order + "u4", buffer=data.data, strides=(1,))
        for first in range(start + -start % 4, stop, _GUESS_WINDOW):
            kinds = words[first : min(first + _GUESS_WINDOW, stop) : 4]
            candidates = np.flatnonzero(np.isin(kinds, (*_PACKET_BLOCKS, headers.PCAPNG_INTERFACE))) * 4 + first
            for candidate in candidates.tolist():
                if self._is_chain(data, words, candidate):
                    return int(candidate)
        return None

    @staticmethod
    def _is_chain(data: np.ndarray, words: np.ndarray, at: int) -> bool:
        """Tell whether `_PROOF` blocks in a row, or all up to the end of the file, have lengths that can be."""
        for _ in range(_PROOF):
            if at == len(data):
                return True
            total = int(words[at + 4]) if at + 12 <= len(data) else 0
            if total < 12 or total % 4 or at + total > len(data) or words[at + total - 4] != total:
                return False
            at += total
        return True

    def chunks(self, data: np.ndarray, base: int, until: int, *, final: bool) -> Iterator[RecordBatch]:
        """Yield packets of blocks that begin before `until`; see `netgen.capture.formats.records.Format`."""
        buffer, size = data.data, len(data)
        starts, kinds = list[int](), list[int]()
        position, stop = self.position - base, min(until - base, size)
        head, tail = self._unpackers()
        while position < stop:
            kind, total = head(buffer, position) if position + 12 <= size else (None, 0)
            end = position + total + -total % 4
            if kind == headers.PCAPNG_SECTION or total < 12 or end > size or tail(buffer, end - 4)[0] != total:
                kind, end = self._unusual_block(data, base, position, final)
            if kind == headers.PCAPNG_SECTION:
                if starts:
                    yield self._columns(data, starts, kinds)
                    starts, kinds = [], []
                self._order, self._interfaces = section_order(data, position) or self._order, []
                head, tail = self._unpackers()
            elif kind in _PACKET_BLOCKS:
                starts.append(position)
                kinds.append(kind)
                if len(starts) == CHUNK:
                    yield self._columns(data, starts, kinds)
                    starts, kinds = [], []
            elif kind == headers.PCAPNG_INTERFACE:
                self._interfaces.append(_interface(data[position + 8 : end - 4].tobytes(), self._order))
            if end == position:
                break
            position = end
        if starts:
            yield self._columns(data, starts, kinds)
        self.position = base + position

    def _unpackers(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return functions that unpack type and length of a block, and the length at its end."""
        return struct.Struct(self._order + "II").unpack_from, struct.Struct(self._order + "I").unpack_from

    def _unusual_block(self, data: np.ndarray, base: int, position: int, final: bool) -> tuple[int | None, int]:
        """Return the type of a block, which may be a section or damaged, and where it ends.

        A damaged block ends with the data, and has no type unless it is a packet of which something can be read.
        A block that ends where it begins has to wait for more data.
        """
        size, order = len(data), self._order
        if position + 12 > size:
            if not final:
                return None, position
            self._damaged(base + position, f"the last block is cut: {size - position} bytes of its header")
            return None, size
        kind, total = struct.unpack_from(order + "II", data.data, position)
        if kind == headers.PCAPNG_SECTION:  # the same in both byte orders
            if not final and position + _SECTION > size:
                return None, position
            section = section_order(data, position)
            if section is None:
                left = size - position
                self._damaged(base + position, f"a section header is cut or bad; {left} bytes are unread")
                return None, size
            order = section
            (total,) = struct.unpack_from(order + "I", data.data, position + 4)
        end = position + total + -total % 4
        if not final and end > size and total <= MAX_SNAPLEN:
            return None, position
        if total >= 12 and end <= size and struct.unpack_from(order + "I", data.data, end - 4)[0] == total:
            return kind, end
        is_cut = 12 <= total <= MAX_SNAPLEN and end > size
        cause = "the last block is cut" if is_cut else f"a block claims a length of {total} bytes"
        self._damaged(base + position, f"{cause}; {size - position} bytes are unread")
        is_packet = is_cut and kind == headers.PCAPNG_ENHANCED_PACKET and size - position > 28
        return kind if is_packet or kind == headers.PCAPNG_SECTION else None, size

    def _columns(self, data: np.ndarray, starts: list[int], kinds: list[int]) -> RecordBatch:
        at, kind = np.array(starts, np.int64), np.array(kinds)
        order, interfaces = self._order, self._interfaces
        offset, captured, length, room, ticks_high, ticks_low, interface = np.zeros((7, len(at)), np.int64)
        for number, layout in _LAYOUTS:
            rows = np.flatnonzero((kind == number) & (at + layout.itemsize <= len(data)))
            if not rows.size:
                continue
            head = gather(data, at[rows], layout.newbyteorder(order))
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
        for number in unique(interface[interface < len(interfaces)]).tolist():
            rows = np.flatnonzero(interface == number)
            ticks = (ticks_high[rows].astype(np.uint64) << np.uint64(32)) | ticks_low[rows].astype(np.uint64)
            time_ns[rows] = ticks_to_ns(ticks, interfaces[number])
            linktype[rows] = interfaces[number].linktype
        timed = kind != headers.PCAPNG_SIMPLE_PACKET
        if not timed.all():
            # a simple packet block has no time: it takes that of the packet before it
            self.notes["packets without a time"] += int((~timed).sum())
            before = np.maximum.accumulate(np.where(timed, np.arange(len(at)), -1))
            self.unsure |= self.last_ns is None and before[0] < 0
            time_ns = np.where(before >= 0, time_ns[before], self.last_ns or 0)
        self.last_ns = int(time_ns[-1])
        count = np.arange(self.number, self.number + len(at))
        self.number += len(at)
        return RecordBatch(data, offset, clipped(captured, offset, len(data)), length, time_ns, linktype, count)

    def _damaged(self, byte: int, reason: str) -> None:
        self.damage.append(Damage(byte, reason))


def _interface(body: bytes, order: Order) -> Interface:
    """Parse the body of an interface description block."""
    if len(body) < 8:
        return Interface(NO_INTERFACE, 0, 6, 0)
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
    return Interface(linktype, snaplen, resolution, offset_s)


def ticks_to_ns(ticks: np.ndarray, interface: Interface) -> np.ndarray:
    """Convert time stamps of an interface (uint64) to nanoseconds since 1970, int64, without loss where possible.

    They are clipped to `MAX_SECONDS` either side of 1970.
    """
    power = interface.resolution & 0x7F
    if interface.resolution & 0x80:
        shift = np.uint64(min(power, 63))
        seconds = ticks >> shift if power < 64 else np.zeros_like(ticks)
        fraction = ticks - (seconds << shift)
        # 32 bits of fraction are a quarter of a nanosecond, and fit beside 10^9
        dropped = max(power - 32, 0)
        fraction = ((fraction >> np.uint64(dropped)) * np.uint64(NS)) >> np.uint64(power - dropped)
        if dropped >= 64:  # less than a nanosecond
            fraction = np.zeros_like(ticks)
    elif power > 19:  # less than a second
        seconds = np.zeros_like(ticks)
        fraction = ticks // np.uint64(10 ** (power - 9)) if power <= 28 else seconds
    else:
        unit = np.uint64(10**power)
        seconds = ticks // unit
        fraction = ticks - seconds * unit
        scale = np.uint64(10 ** abs(power - 9))
        fraction = fraction * scale if power <= 9 else fraction // scale
    offset_s = min(max(interface.offset_s, -MAX_SECONDS), MAX_SECONDS)
    total_s = np.minimum(seconds, np.uint64(2 * MAX_SECONDS)).astype(np.int64) + offset_s
    time_ns: np.ndarray = np.clip(total_s, -MAX_SECONDS, MAX_SECONDS) * NS + fraction.astype(np.int64)
    return time_ns
