"""Where each record of a chunk stands while it is taken apart, and what was found in it.

Each step works on the rows that need it: it reads a header where the row stands, moves the row
behind it, and says what kind of header comes there. A row that cannot go on gets the reason why.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable

import numpy as np

from netgen.capture.formats.records import RecordBatch
from netgen.capture.headers import gather
from netgen.capture.native.layouts import HEADER_FIELDS

#: A wire length from here on is not believed (CAPTURE.md, 4.2).
MAX_WIRE = 1 << 18

# why a record is no IP packet; OK means it may yet be one
OK, UNKNOWN_LINK, NO_IDB, NOT_IP, ENCRYPTED, CUT, BAD_IP = range(7)
REASONS = {
    NO_IDB: "interface not declared",
    NOT_IP: "not IP",
    ENCRYPTED: "encrypted 802.11",
    CUT: "header cut short",
    BAD_IP: "bad IP header",
}

# what part of an IP datagram a packet is
UNFRAGMENTED, FIRST_FRAGMENT, LATER_FRAGMENT = range(3)

#: Kinds of header are EtherTypes; below 0x600 these are lengths, and an LLC header follows.
LLC, TYPES = 0, 0x600
NONE = -1

#: From here on, a kind is a link type: one link layer inside another.
LINK = 0x20000


class Cursor:
    """Rows of a chunk, on their way from the link layer to what IP carries.

    Parameters
    ----------
    data : ndarray of uint8, shape (bytes,)
        The buffer.
    at, end : ndarray of int64, shape (rows,)
        Where each row stands in it, and where what was captured of it ends.
    wire_end : callable
        Makes the column `wire_end` when it is asked for.

    Attributes
    ----------
    kind : ndarray of int32, shape (rows,)
        The header at `at`: an EtherType, `LLC`, `LINK` + link type, or `NONE`. One of IP stands for
        a row without a fault.
    reason : ndarray of uint8, shape (rows,)
        Why a row is no IP packet.
    vlan : ndarray of int32, shape (rows,)
        As in `PacketColumns`.
    unread : Counter
        Rows whose link type is not read, by link type.
    notes : Counter
        Oddities that lost nothing.
    """

    def __init__(self, data: np.ndarray, at: np.ndarray, end: np.ndarray, wire_end: Callable[[], np.ndarray]) -> None:
        self.data, self.at, self.end = data, at, end
        self._wire_end = wire_end
        self.kind = np.full(len(at), NONE, np.int32)
        self.reason = np.zeros(len(at), np.uint8)
        self.vlan = np.full(len(at), -1, np.int32)
        self.unread: Counter[int] = Counter()
        self.notes: Counter[str] = Counter()

    @classmethod
    def of(cls, chunk: RecordBatch) -> Cursor:
        """The records of a chunk, before their link layers."""

        def wire_end() -> np.ndarray:
            believed = np.where(chunk.length < MAX_WIRE, chunk.length, 0)
            found: np.ndarray = chunk.offset + np.maximum(chunk.captured, believed)
            return found

        rows = cls(chunk.data, chunk.offset.copy(), chunk.offset + chunk.captured, wire_end)
        rows.kind = (chunk.linktype + LINK).astype(np.int32)
        return rows

    def __len__(self) -> int:
        return len(self.at)

    @functools.cached_property
    def wire_end(self) -> np.ndarray:
        """Where each row ended on the wire, as far as the capture tells; shape (rows,), int64."""
        return self._wire_end()

    def some(self, here: np.ndarray) -> Cursor:
        """Some of the rows, as rows of their own."""
        part = Cursor(self.data, self.at.take(here), self.end.take(here), lambda: self.wire_end.take(here))
        part.kind, part.reason, part.vlan = self.kind.take(here), self.reason.take(here), self.vlan.take(here)
        return part

    def head(self, here: np.ndarray, layout: np.dtype, *, move: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """The header at each of some rows, and the rows that have one; the others are cut short.

        Parameters
        ----------
        here : ndarray of int64
            Rows, ascending.
        layout : dtype
            The header's layout.
        move : bool
            Whether the rows go on behind it.

        Returns
        -------
        ndarray of int64, ndarray of `layout`
            Rows and their headers.
        """
        here, at = self._whole(here, layout, move)
        return here, gather(self.data, at, layout)

    def number(self, here: np.ndarray, layout: np.dtype, field: str) -> tuple[np.ndarray, np.ndarray]:
        """The same for one field of one or two bytes, which alone is read; its numbers are of int32."""
        kind, place = layout.fields[field][:2]  # type: ignore[index]
        here, at = self._whole(here, layout, True)
        # bytes on their own are read twice as fast as together with what lies around them
        found = self.data.take(at + place).astype(np.int32)
        if kind.itemsize == 2:
            found <<= 8
            found |= self.data.take(at + (place + 1))
        return here, found

    def _whole(self, here: np.ndarray, layout: np.dtype, move: bool) -> tuple[np.ndarray, np.ndarray]:
        """Of some rows those at which all of a header was captured, and where they stood."""
        every = len(here) == len(self.at)
        at = self.at if every else self.at[here]
        behind = at + layout.itemsize
        whole = behind <= (self.end if every else self.end[here])
        if not whole.all():
            cut = here[~whole]
            self.reason[cut], self.kind[cut] = CUT, NONE
            here, at, behind, every = here[whole], at[whole], behind[whole], False
        if move and every:
            self.at = behind
        elif move:
            self.at[here] = behind
        return here, at

    def trim(self, here: np.ndarray, size: int) -> None:
        """Leave out bytes behind the packet, such as a frame check sequence."""
        self.wire_end[here] -= size
        self.end[here] = np.minimum(self.end[here], self.wire_end[here])

    def skip(self, here: np.ndarray, size: int | np.ndarray) -> None:
        """Move some rows on by bytes that need not be looked at."""
        self.at[here] += size

    def expect(self, here: np.ndarray, kind: int | np.ndarray) -> None:
        """Say what comes next at some rows."""
        if len(here) == len(self.kind) and isinstance(kind, np.ndarray):
            self.kind = kind.astype(np.int32, copy=False)
        else:
            self.kind[here] = kind


@dataclasses.dataclass(slots=True, eq=False)
class HeaderColumns:
    """What the headers of IP and of its transport say, as columns of shape (rows,); see `PacketColumns`."""

    size: np.ndarray
    version: np.ndarray
    protocol: np.ndarray
    flags: np.ndarray
    src_high: np.ndarray
    src_low: np.ndarray
    dst_high: np.ndarray
    dst_low: np.ndarray
    src_port: np.ndarray
    dst_port: np.ndarray
    payload_at: np.ndarray
    payload_length: np.ndarray
    seq: np.ndarray
    fragment: np.ndarray
    fragment_id: np.ndarray
    fingerprint: np.ndarray

    @classmethod
    def zeros(cls, count: int) -> HeaderColumns:
        """Columns for so many rows."""
        return cls(**{name: np.zeros(count, kind) for name, kind in HEADER_COLUMNS.items()})

    @classmethod
    def empty(cls, count: int) -> HeaderColumns:
        """Return columns for so many rows, not initialised."""
        return cls(**{name: np.empty(count, kind) for name, kind in HEADER_COLUMNS.items()})

    def columns(self) -> list[np.ndarray]:
        """Return the columns in the order of `HEADER_COLUMNS`."""
        return [getattr(self, name) for name in HEADER_COLUMNS]

    def put(self, here: np.ndarray, other: HeaderColumns) -> None:
        """Replace some rows, ascending, by those of another."""
        every = len(here) == len(self.size)
        for name in HEADER_COLUMNS:
            if every:
                setattr(self, name, getattr(other, name))
            else:
                getattr(self, name)[here] = getattr(other, name)

    def some(self, here: np.ndarray) -> HeaderColumns:
        """Some of the rows, ascending; these themselves if it is all of them."""
        if len(here) == len(self.size):
            return self
        return HeaderColumns(**{name: getattr(self, name).take(here) for name in HEADER_COLUMNS})


#: The columns of `HeaderColumns` and their types.
HEADER_COLUMNS = HEADER_FIELDS
