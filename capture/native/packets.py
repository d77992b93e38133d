"""Records, headers, keys and server names in the bytes of a capture (`packets.c`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netgen.capture.native import plain
from netgen.capture.native.layouts import LikelyTimes, RecordLayout
from netgen.capture.native.library import addresses, call, with_fallback

#: Bytes between two guessed record starts.
GUESS_STRIDE = 256 * 1024

#: Bytes after such a position in which a record start is searched.
GUESS_REACH = 2048


@with_fallback(plain.guess_record_starts)
def guess_record_starts(
    data: np.ndarray, positions: np.ndarray, reach: int, layout: RecordLayout, times: LikelyTimes
) -> np.ndarray:
    """Find the first likely record start within `reach` bytes of each position (int64, ascending); -1 for none.

    A start is likely if four records in a row, or all up to the end of the data, have a time stamp, a fraction of a
    second and lengths that can be.
    """
    starts = np.empty(len(positions), np.int64)
    searched = data, data.size, np.ascontiguousarray(positions, np.int64), len(positions), reach
    units, span = 10**9 // layout.unit_ns, times.last - times.first
    call("guess_record_starts", *searched, *_chain(layout), units, times.first, span, plain.PROOF, starts)
    return starts


@with_fallback(plain.scan_records)
def scan_records(
    data: np.ndarray, begin: int, stop: int, layout: RecordLayout, times: LikelyTimes
) -> tuple[np.ndarray, int]:
    """Find the starts of records from `begin` on (one is there) that begin before `stop`, and where the last one ends.

    A pcap is a linked list: followed from its head, each step waits for the memory that the last one named. So likely
    record starts are guessed, their chains are followed side by side, and chain ``i`` is believed only if chain ``i -
    1`` ends exactly on its start. From the true first record on that is a proof by induction; behind a wrong guess the
    records are walked one by one. The scan stops early at a record that cannot be; the fallback finds none at all. The
    caller walks on from there.
    """
    positions = np.arange(begin + GUESS_STRIDE, stop - GUESS_REACH, GUESS_STRIDE)
    guesses = guess_record_starts(data, positions, GUESS_REACH, layout, times)
    heads = np.append(begin, guesses[guesses >= 0])  # ascending: positions are further apart than they reach
    starts = np.empty(max(stop - begin, 0) // layout.header + len(heads), np.int64)
    end = np.empty(1, np.int64)
    count = call("scan_records", data, data.size, heads, len(heads), stop, *_chain(layout), starts, end)
    return starts[:count].copy(), int(end[0])


def _chain(layout: RecordLayout) -> tuple[int, int, int]:
    return layout.header, layout.limit, layout.order == ">"


@with_fallback(plain.read_records)
def read_records(data: np.ndarray, starts: np.ndarray, layout: RecordLayout) -> list[np.ndarray]:
    """Read the record headers at `starts`, all of which are inside `data`.

    Return, int64 each, offset of the packet, captured bytes that `data` has, bytes on the wire, and ns since 1970.
    """
    columns = [np.empty(len(starts), np.int64) for _ in range(4)]
    call(
        "read_records",
        *(data, data.size, starts, len(starts), layout.header, layout.unit_ns, layout.order == ">"),
        *columns,
    )
    return columns


@with_fallback(plain.parse_headers)
def parse_headers(
    data: np.ndarray,
    offset: np.ndarray,
    captured: np.ndarray,
    ethertype: np.ndarray | None,
    columns: Sequence[np.ndarray],
) -> tuple[np.ndarray, int]:
    """Parse the headers of packets of the common form: IP without options or extensions, whole, TCP or UDP.

    At `offset` begins an Ethernet header or, if `ethertype` says which, an IP header. `columns`, in the order of
    `HEADER_FIELDS`, are filled in place. Return which packets were parsed, and how many; the others are left to the
    caller. The fallback parses none.
    """
    parsed = np.empty(len(offset), bool)
    starts, lengths = np.ascontiguousarray(offset), np.ascontiguousarray(captured)
    kinds = None if ethertype is None else np.ascontiguousarray(ethertype, np.int32)
    count = call("parse_headers", data, data.size, starts, lengths, kinds, len(offset), addresses(columns), parsed)
    return parsed, count


@with_fallback(plain.compact_columns)
def compact_columns(columns: list[np.ndarray], keep: np.ndarray) -> list[np.ndarray]:
    """Return the rows of columns that a mask keeps; the columns themselves are used as scratch space."""
    sizes = np.array([column.itemsize for column in columns], np.int64)
    count = call("compact_columns", addresses(columns), sizes, len(columns), keep, len(keep))
    return [column[:count] for column in columns]


@with_fallback(plain.ipv4_keys)
def ipv4_keys(
    src: np.ndarray,
    src_port: np.ndarray,
    dst: np.ndarray,
    dst_port: np.ndarray,
    vlan: np.ndarray,
    protocol: np.ndarray,
    version: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Make the keys of the IPv4 packets among some, from columns of `PacketColumns`.

    Return keys, uint64 (IPv4 packets, 3): the two ends, the smaller first, each as address << 17 | port + 1, and VLAN +
    1 << 8 | protocol; and whether each packet goes from the first end to the second (of no meaning for IPv6).
    """
    columns = src, src_port, dst, dst_port, vlan, protocol, version
    keys, forward = np.empty((len(src), 3), np.uint64), np.empty(len(src), bool)
    count = call("ipv4_keys", *(np.ascontiguousarray(column) for column in columns), len(src), keys, forward)
    return keys[:count], forward


@with_fallback(plain.find_client_hellos)
def find_client_hellos(
    data: np.ndarray, protocol: np.ndarray, payload_at: np.ndarray, payload_length: np.ndarray
) -> np.ndarray:
    """Return the rows of TCP packets whose payload begins as a ClientHello does, even if it is cut after a byte."""
    rows = np.empty(len(protocol), np.int64)
    count = call("find_client_hellos", data, protocol, payload_at, payload_length, len(protocol), rows)
    return rows[:count].copy()


@with_fallback(plain.find_server_names)
def find_server_names(
    data: np.ndarray, payload_at: np.ndarray, payload_length: np.ndarray, rows: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the server names in the ClientHellos that the payloads of `rows` begin, within `limit` bytes.

    Return where in `data` each name is, and its bytes: 0 for no name, -1 where the first TLS record alone does not tell
    (with the fallback, always) and the caller has to look.
    """
    position, size = np.empty((2, len(rows)), np.int64)
    call("find_server_names", data, payload_at, payload_length, rows, len(rows), limit, position, size)
    return position, size
