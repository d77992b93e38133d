"""pcapng: blocks that each say where the next begins, in sections with their own interfaces."""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter
from collections.abc import Iterator

import numpy as np

from netgen.capture import headers
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
    """What an interface description block says: link type, snap length and clock."""

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
    """Byte order of the pcapng section header at `at`; None if there is none."""
    if at < 0 or len(data) - at < _SECTION:
        return None
    mark = data[at + 8 : at + 12].tobytes()
    return next((order for order in ORDERS if struct.unpack(order + "I", mark)[0] == headers.PCAPNG_BYTE_ORDER), None)


class Pcapng:
    """Reads a pcapng file; a `netgen.capture.formats.records.Format`.

    Parameters
    ----------
    state : State, optional
        What was read of the file before `position`.
    position : int
        Where the first block to read begins.

    Attributes
    ----------
    unsure : bool
        The first packets have no time of their own, and what came before them is not known.
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
        """What a file says before its first packet: the interfaces described there."""
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
        """A reader that knows this, and stands there."""
        return Pcapng(state, position)

    def guess(self, data: np.ndarray, start: int, stop: int) -> int | None:
        """A place from `start` on at which a block very likely begins, `data` being the whole file."""
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
        """Packets of blocks that begin before `until`; see `netgen.capture.formats.records.Format`."""
        buffer, size = data.data, len(data)
        order = self._order
        head, tail = struct.Struct(order + "II").unpack_from, struct.Struct(order + "I").unpack_from
        starts, kinds = list[int](), list[int]()
        position, stop = self.position - base, min(until - base, size)
        while position < stop:
            if position + 12 > size:
                if final:
                    self._damaged(base + position, f"the last block is cut: {size - position} bytes of its header")
                    position = size
                break
            kind, total = head(buffer, position)
            if kind == headers.PCAPNG_SECTION:  # the same in both byte orders
                if not final and position + _SECTION > size:
                    break
                if starts:
                    yield self._columns(data, starts, kinds)
                    starts, kinds = [], []
                found = section_order(data, position)
                if found is None:
                    left = size - position
                    self._damaged(base + position, f"a section header is cut or bad; {left} bytes are unread")
                    position = size
                    break
                order = self._order = found
                self._interfaces = []
                head, tail = struct.Struct(order + "II").unpack_from, struct.Struct(order + "I").unpack_from
                kind, total = head(buffer, position)
            end = position + total + -total % 4
            if not final and end > size and total <= MAX_SNAPLEN:
                break
            if total < 12 or end > size or tail(buffer, end - 4)[0] != total:
                whole = 12 <= total <= MAX_SNAPLEN and end > size
                if whole and kind == headers.PCAPNG_ENHANCED_PACKET and size - position > 28:
                    starts.append(position)
                    kinds.append(kind)
                cause = "the last block is cut" if whole else f"a block claims a length of {total} bytes"
                self._damaged(base + position, f"{cause}; {size - position} bytes are unread")
                position = size
                break
            if kind in _PACKET_BLOCKS:
                starts.append(position)
                kinds.append(kind)
                if len(starts) == CHUNK:
                    yield self._columns(data, starts, kinds)
                    starts, kinds = [], []
            elif kind == headers.PCAPNG_INTERFACE:
                self._interfaces.append(_interface(data[position + 8 : end - 4].tobytes(), order))
            position = end
        if starts:
            yield self._columns(data, starts, kinds)
        self.position = base + position

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
        for number in np.unique(interface[interface < len(interfaces)]).tolist():
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
    """Link type, snap length and clock of an interface description block (its body)."""
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
    """Time stamps of an interface as nanoseconds since 1970, without loss where they allow it.

    Parameters
    ----------
    ticks : ndarray of uint64, shape (packets,)
        As the blocks hold them.
    interface : Interface
        Whose they are.

    Returns
    -------
    ndarray of int64, shape (packets,)
        Clipped to `MAX_SECONDS` either side of 1970.
    """
    power = interface.resolution & 0x7F
    if interface.resolution & 0x80:
        shift = np.uint64(min(power, 63))
        seconds = ticks >> shift if power < 64 else np.zeros_like(ticks)
        part = ticks - (seconds << shift)
        # 32 bits of fraction are a quarter of a nanosecond, and fit beside 10^9
        spare = max(power - 32, 0)
        part = ((part >> np.uint64(spare)) * np.uint64(NS)) >> np.uint64(power - spare)
        if spare >= 64:  # not even a nanosecond
            part = np.zeros_like(ticks)
    elif power > 19:  # never a second
        seconds = np.zeros_like(ticks)
        part = ticks // np.uint64(10 ** (power - 9)) if power <= 28 else seconds
    else:
        unit = np.uint64(10**power)
        seconds = ticks // unit
        part = ticks - seconds * unit
        part = part * np.uint64(10 ** (9 - power)) if power <= 9 else part // np.uint64(10 ** (power - 9))
    offset_s = min(max(interface.offset_s, -MAX_SECONDS), MAX_SECONDS)
    whole = np.minimum(seconds, np.uint64(2 * MAX_SECONDS)).astype(np.int64) + offset_s
    time_ns: np.ndarray = np.clip(whole, -MAX_SECONDS, MAX_SECONDS) * NS + part.astype(np.int64)
    return time_ns
