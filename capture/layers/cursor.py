"""A reading position in each record of a batch, and the columns that the headers fill.

A step works on the rows that stand at one kind of header: it reads the header, moves the rows behind
it, and sets the kind of the next header. A row that cannot go on gets a reason.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from netgen.capture.formats.records import RecordBatch
from netgen.capture.headers import gather
from netgen.capture.native.layouts import HEADER_FIELDS

#: Lengths on the wire from here on, in bytes, are taken for damage.
MAX_WIRE_LENGTH = 1 << 18

# why a record is not an IP packet; OK means that it may still be one
OK, UNKNOWN_LINK, NO_IDB, NOT_IP, ENCRYPTED, CUT, BAD_IP = range(7)
REASONS = {
    NO_IDB: "interface not declared",
    NOT_IP: "not IP",
    ENCRYPTED: "encrypted 802.11",
    CUT: "header cut short",
    BAD_IP: "bad IP header",
}

# which part of an IP datagram a packet is
UNFRAGMENTED, FIRST_FRAGMENT, LATER_FRAGMENT = range(3)

#: A kind of header is an EtherType. A smaller number is a length, and an LLC header follows.
LLC, MIN_ETHERTYPE = 0, 0x600
NONE = -1

#: Added to a link type, to make a kind of header of it: one link layer inside another.
LINK = 0x20000


class Cursor:
    """Rows of a batch on their way from the link layer to the transport header; columns of shape (rows,).

    `data` is the buffer, `at` and `end` are the position of each row in it and the end of its captured bytes,
    `wire_end` is where it ended on the wire, as far as the capture tells (int64 each). `kind` (int32) is the header at
    `at`: an EtherType, `LLC`, `LINK` + link type, or `NONE`. `reason` (uint8) is why a row is not an IP packet, `vlan`
    as in `netgen.capture.layers.dissect.PacketColumns`. `unread` counts rows whose link type netgen does not read, by
    link type, `notes` oddities that lost nothing.
    """

    def __init__(self, data: np.ndarray, at: np.ndarray, end: np.ndarray, wire_end: np.ndarray) -> None:
        self.data, self.at, self.end, self.wire_end = data, at, end, wire_end
        self.kind = np.full(len(at), NONE, np.int32)
        self.reason = np.zeros(len(at), np.uint8)
        self.vlan = np.full(len(at), -1, np.int32)
        self.unread: Counter[int] = Counter()
        self.notes: Counter[str] = Counter()

    @classmethod
    def of(cls, batch: RecordBatch, rows: np.ndarray | None = None) -> Cursor:
        """Return a cursor at the link layer of all records of a batch, or of `rows`."""
        every = slice(None) if rows is None else rows
        start, captured, length = batch.offset[every], batch.captured[every], batch.length[every]
        wire_length = np.maximum(captured, np.where(length < MAX_WIRE_LENGTH, length, 0))
        cursor = cls(batch.data, start.copy(), start + captured, start + wire_length)
        cursor.kind = (batch.linktype[every] + LINK).astype(np.int32)
        return cursor

    def __len__(self) -> int:
        return len(self.at)

    def take(self, rows: np.ndarray) -> Cursor:
        """Return a cursor over some of the rows, without the counts."""
        taken = Cursor(self.data, self.at.take(rows), self.end.take(rows), self.wire_end.take(rows))
        taken.kind, taken.reason, taken.vlan = self.kind.take(rows), self.reason.take(rows), self.vlan.take(rows)
        return taken

    def read_header(self, rows: np.ndarray, layout: np.dtype, *, advance: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Read the header at each of some rows, in ascending order, and move the rows behind it if `advance`.

        Return the rows whose header was captured as a whole, and their headers. The others get the reason `CUT`.
        """
        rows, at = self._pass(rows, layout, advance)
        return rows, gather(self.data, at, layout)

    def read_field(self, rows: np.ndarray, layout: np.dtype, field: str) -> tuple[np.ndarray, np.ndarray]:
        """Read one field of one or two bytes of a header as int32, and move the rows behind the header."""
        kind, offset = layout.fields[field][:2]  # type: ignore[index]
        rows, at = self._pass(rows, layout, True)
        # twice as fast as to gather the whole header
        number = self.data.take(at + offset).astype(np.int32)
        if kind.itemsize == 2:
            number <<= 8
            number |= self.data.take(at + (offset + 1))
        return rows, number

    def _pass(self, rows: np.ndarray, layout: np.dtype, advance: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows with a complete header and its position; the others are cut short."""
        is_all = len(rows) == len(self.at)
        at = self.at if is_all else self.at[rows]
        behind = at + layout.itemsize
        complete = behind <= (self.end if is_all else self.end[rows])
        if not complete.all():
            cut = rows[~complete]
            self.reason[cut], self.kind[cut] = CUT, NONE
            rows, at, behind, is_all = rows[complete], at[complete], behind[complete], False
        if advance and is_all:
            self.at = behind
        elif advance:
            self.at[rows] = behind
        return rows, at

    def trim(self, rows: np.ndarray, size: int) -> None:
        """Remove bytes at the end of a frame, such as a frame check sequence."""
        self.wire_end[rows] -= size
        self.end[rows] = np.minimum(self.end[rows], self.wire_end[rows])

    def advance(self, rows: np.ndarray, size: int | np.ndarray) -> None:
        """Move some rows ahead by bytes that are not read."""
        self.at[rows] += size

    def set_next(self, rows: np.ndarray, kind: int | np.ndarray) -> None:
        """Set the kind of the next header of some rows."""
        if len(rows) == len(self.kind) and isinstance(kind, np.ndarray):
            self.kind = kind.astype(np.int32, copy=False)
        else:
            self.kind[rows] = kind


@dataclasses.dataclass(slots=True, eq=False)
class HeaderColumns:
    """Fields of the IP and transport headers, each of shape (packets,), with the types of `HEADER_FIELDS`."""

    size: np.ndarray  # IP bytes, whether or not they were captured
    version: np.ndarray
    protocol: np.ndarray
    flags: np.ndarray  # TCP flags (0 for other protocols)
    src_high: np.ndarray  # an IPv4 address is the low 32 bits of `src_low`
    src_low: np.ndarray
    dst_high: np.ndarray
    dst_low: np.ndarray
    src_port: np.ndarray  # of TCP, UDP, UDP-Lite, SCTP, DCCP; -1 for a later fragment, else 0
    dst_port: np.ndarray  # both are the identifier of an ICMP echo
    payload_at: np.ndarray  # position of the TCP or UDP payload in the buffer
    payload_length: np.ndarray  # and how many bytes of it were captured
    seq: np.ndarray  # TCP sequence number (0 for other protocols)
    fragment: np.ndarray  # `UNFRAGMENTED`, `FIRST_FRAGMENT` or `LATER_FRAGMENT`
    fragment_id: np.ndarray  # IP identification of a fragment, else 0
    fingerprint: np.ndarray  # as in `netgen.capture.layers.fingerprint`

    @classmethod
    def zeros(cls, count: int) -> HeaderColumns:
        """Return columns of zeros."""
        return HeaderColumns(*(np.zeros(count, kind) for kind in HEADER_FIELDS.values()))

    @classmethod
    def empty(cls, count: int) -> HeaderColumns:
        """Return columns that are not initialised."""
        return HeaderColumns(*(np.empty(count, kind) for kind in HEADER_FIELDS.values()))

    def columns(self) -> list[np.ndarray]:
        """Return the columns in the order of `HEADER_FIELDS`."""
        return [getattr(self, name) for name in HEADER_FIELDS]

    def assign(self, rows: np.ndarray, other: HeaderColumns) -> None:
        """Replace some rows, in ascending order, by those of another."""
        for name, new in zip(HEADER_FIELDS, other.columns(), strict=True):
            if len(rows) == len(new) == len(getattr(self, name)):
                setattr(self, name, new)
            else:
                getattr(self, name)[rows] = new

    def take(self, rows: np.ndarray) -> HeaderColumns:
        """Return some of the rows, in ascending order; the columns themselves if it is all of them."""
        if len(rows) == len(self.size):
            return self
        return HeaderColumns(*(column.take(rows) for column in self.columns()))
