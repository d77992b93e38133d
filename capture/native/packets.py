"""Records, headers, keys and names of a stretch of a capture (`packets.c`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from netgen.capture.formats.records import Order
from netgen.capture.layers.cursor import HEADER_COLUMNS, HeaderColumns
from netgen.capture.native.library import addresses, call

if TYPE_CHECKING:
    from netgen.capture.formats.lockstep import Layout


def guess(
    data: np.ndarray, places: np.ndarray, reach: int, layout: Layout, *, low: int, span: int, proof: int
) -> np.ndarray:
    """The first likely record start from each of `places` on; the twin of `netgen.capture.formats.lockstep.guesses`."""
    found = np.empty(len(places), np.int64)
    looked_at = data, data.size, np.ascontiguousarray(places, np.int64), len(places), reach
    call("guess", *looked_at, *_chain(layout), layout.units, low, span, proof, found)
    return found


def scan(data: np.ndarray, heads: np.ndarray, stop: int, layout: Layout) -> tuple[np.ndarray, int]:
    """Starts of records from the first of `heads` on, the others guessed, and where the last one ends.

    The twin of what `netgen.capture.formats.lockstep.scan` does with its guesses.
    """
    starts = np.empty(max(stop - int(heads[0]), 0) // layout.record + len(heads), np.int64)
    after = np.empty(1, np.int64)
    count = call("scan", data, data.size, heads, len(heads), stop, *_chain(layout), starts, after)
    return starts[:count].copy(), int(after[0])


def _chain(layout: Layout) -> tuple[int, int, int]:
    """What a chain of records is followed by: bytes of a record's header, most of a packet, byte order."""
    return layout.record, layout.limit, layout.order == ">"


def records(data: np.ndarray, starts: np.ndarray, *, order: Order, record: int, unit: int) -> list[np.ndarray]:
    """Offset, captured and wire length and time in nanoseconds of records that begin at `starts`.

    The twin of what `netgen.capture.formats.pcap` does with columns.
    """
    found = [np.empty(len(starts), np.int64) for _ in range(4)]
    call("records", data, data.size, starts, len(starts), record, unit, order == ">", *found)
    return found


def plain(data: np.ndarray, offset: np.ndarray, captured: np.ndarray) -> tuple[HeaderColumns, np.ndarray, int]:
    """Columns of Ethernet frames with a packet of the common form, which these are, and how many.

    The twin of `netgen.capture.layers.links.walk` and `netgen.capture.layers.fast_path.plain`; columns of the others mean nothing.
    """
    count = len(offset)
    columns = {name: np.empty(count, kind) for name, kind in HEADER_COLUMNS.items()}
    done = np.empty(count, bool)
    good = call("plain", data, data.size, offset, captured, count, addresses(columns.values()), done)
    return HeaderColumns(**columns), done, good


def compact(columns: list[np.ndarray], keep: np.ndarray) -> list[np.ndarray]:
    """The rows of some columns that a mask keeps, moved together in place."""
    sizes = np.array([each.itemsize for each in columns], np.int64)
    kept = call("compact", addresses(columns), sizes, len(columns), keep, len(keep))
    return [each[:kept] for each in columns]


def ends(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the IPv4 packets as three numbers, shape (keys, 3), and whether each goes from its end `a`, (packets,).

    Columns are address and port of source and destination, VLAN, protocol and version, as of `PacketColumns`. The
    twin of what `netgen.capture.flows.keys` does with them.
    """
    count = len(columns[0])
    key, forward = np.empty((count, 3), np.uint64), np.empty(count, bool)
    found = call("ends", *(np.ascontiguousarray(each) for each in columns), count, key, forward)
    return key[:found], forward


def hellos(data: np.ndarray, protocol: np.ndarray, payload_at: np.ndarray, payload_length: np.ndarray) -> np.ndarray:
    """Rows of TCP whose payload begins as a ClientHello does; the twin of what `netgen.capture.names.tls` looks at."""
    rows = np.empty(len(protocol), np.int64)
    count = call("hellos", data, protocol, payload_at, payload_length, len(protocol), rows)
    return rows[:count].copy()


def server_names(
    data: np.ndarray, payload_at: np.ndarray, payload_length: np.ndarray, rows: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the server names of such rows are, and their bytes: 0 for none, -1 where the first record does not tell.

    The twin of `netgen.capture.names.tls.client_hello_name`, of which so much as `limit` bytes of a payload are.
    """
    at, size = np.empty((2, len(rows)), np.int64)
    call("server_names", data, payload_at, payload_length, rows, len(rows), limit, at, size)
    return at, size
