"""What the compiled functions do, in plain Python: slow and right. netgen uses it where there is no C compiler.

Each function takes and returns what its namesake in `packets`, `flows` or `tables` does.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netgen.capture.native.layouts import (
    FLOW_COLUMNS,
    OPEN_COLUMNS,
    DirectionCells,
    LikelyTimes,
    RecordLayout,
    Timeouts,
)

#: Records in a row that must look right before the first is taken for a record start.
PROOF = 4

_TCP = 6
_FIN_OR_RST, _SYN_AND_ACK = 0x05, 0x12
_CLOSED, _FORWARD, _BACK = 1, 2, 4  # bits of what was seen of a flow
_BY_FIRST, _BY_ANSWER, _BY_SYN, _TO_ITSELF = range(4)  # what says which end of a flow is its initiator


# -- packets ----------------------------------------------------------------------------------------


def guess_record_starts(
    data: np.ndarray, positions: np.ndarray, reach: int, layout: RecordLayout, times: LikelyTimes
) -> np.ndarray:
    """Try every byte."""
    starts = np.full(len(positions), -1, np.int64)
    for row, position in enumerate(positions.tolist()):
        candidates = range(position, min(position + reach, len(data) - 3))
        starts[row] = next((start for start in candidates if _is_chain(data, start, layout, times)), -1)
    return starts


def _is_chain(data: np.ndarray, at: int, layout: RecordLayout, times: LikelyTimes) -> bool:
    unpack = struct.Struct(layout.order + "4I").unpack_from
    for _ in range(PROOF):
        if at > len(data) - layout.header:
            return at == len(data)
        seconds, fraction, captured, length = unpack(data.data, at)
        if not (times.first <= seconds <= times.last and fraction * layout.unit_ns < 10**9):
            return False
        if not 0 < captured <= length <= layout.limit:
            return False
        at += layout.header + captured
    return True


def scan_records(
    data: np.ndarray, begin: int, stop: int, layout: RecordLayout, times: LikelyTimes
) -> tuple[np.ndarray, int]:
    """Find none: the caller walks from record to record."""
    del data, stop, layout, times
    return np.zeros(0, np.int64), begin


def read_records(data: np.ndarray, starts: np.ndarray, layout: RecordLayout) -> list[np.ndarray]:
    """Unpack one header after the other."""
    unpack = struct.Struct(layout.order + "4I").unpack_from
    headers = np.array([unpack(data.data, start) for start in starts.tolist()], np.int64).reshape(-1, 4)
    seconds, fraction, captured, length = headers.T
    offset = starts + layout.header
    captured = np.minimum(captured, np.maximum(len(data) - offset, 0))
    return [offset, captured, length, seconds * 10**9 + fraction * layout.unit_ns]


def parse_headers(
    data: np.ndarray,
    offset: np.ndarray,
    captured: np.ndarray,
    ethertype: np.ndarray | None,
    columns: Sequence[np.ndarray],
) -> tuple[np.ndarray, int]:
    """Parse none: `netgen.capture.layers` parses any packet, header by header."""
    del data, captured, ethertype, columns
    return np.zeros(len(offset), bool), 0


def compact_columns(columns: list[np.ndarray], keep: np.ndarray) -> list[np.ndarray]:
    """Select rows."""
    return [column[keep] for column in columns]


def ipv4_keys(
    src: np.ndarray,
    src_port: np.ndarray,
    dst: np.ndarray,
    dst_port: np.ndarray,
    vlan: np.ndarray,
    protocol: np.ndarray,
    version: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute whole columns."""
    one, two = (
        (address << np.uint64(17)) + (port.astype(np.int64) + 1).astype(np.uint64)
        for address, port in ((src, src_port), (dst, dst_port))
    )
    word = (vlan.astype(np.int64) + 1) << 8 | protocol
    keys = np.stack([np.minimum(one, two), np.maximum(one, two), word.astype(np.uint64)], axis=1)
    return keys[version == 4], one <= two


def find_client_hellos(
    data: np.ndarray, protocol: np.ndarray, payload_at: np.ndarray, payload_length: np.ndarray
) -> np.ndarray:
    """Look at bytes 0, 1 and 5: a handshake, version 3, a ClientHello."""
    rows = np.flatnonzero((protocol == _TCP) & (payload_length > 0))
    for position, value in ((0, 22), (1, 3), (5, 1)):
        at = np.minimum(payload_at[rows] + position, data.size - 1)
        rows = rows[(payload_length[rows] <= position) | (data[at] == value)]
    return rows


def find_server_names(
    data: np.ndarray, payload_at: np.ndarray, payload_length: np.ndarray, rows: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find none: `netgen.capture.names.tls` looks."""
    del data, payload_at, payload_length, limit
    return np.zeros(len(rows), np.int64), np.full(len(rows), -1)


# -- flows ------------------------------------------------------------------------------------------


def assemble_flows(
    packets: list[np.ndarray],
    slot: np.ndarray,
    open_flows: list[np.ndarray],
    grow_flows: Callable[[int], list[np.ndarray]],
    *,
    flow_count: int,
    capture: int,
    timeouts: Timeouts,
) -> tuple[np.ndarray, int, int]:
    """Go through the packets one by one."""
    *columns, syn_rows, syn_seq, keys = packets
    to_itself = np.logical_and.reduce([keys[f"a_{field}"] == keys[f"b_{field}"] for field in ("high", "low", "port")])
    seq_of_syn = dict(zip(syn_rows.tolist(), syn_seq.tolist(), strict=True))
    # the open flow of each key
    states: list[dict[str, Any]] = [
        dict(zip(OPEN_COLUMNS, values, strict=True))
        for values in zip(*(column[slot].tolist() for column in open_flows), strict=True)
    ]
    flows = dict(zip(FLOW_COLUMNS, grow_flows(flow_count + len(columns[0])), strict=True))
    flow_of = np.empty(len(columns[0]), np.int64)
    repeats = 0
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for row, (key, clock, time_ns, number, size, mark, forward, flags) in enumerate(rows):
        state = states[key]
        last_seq = "seq_forward" if forward else "seq_back"
        seq = seq_of_syn[row] + 1 if row in seq_of_syn else 0
        direction = _FORWARD if forward else _BACK
        flow = state["flow"] - 1
        is_new = flow < 0 or clock - state["clock"] > timeouts.idle
        if flow >= 0:
            again = mark and (mark, size) == (state["mark"], state["size"])
            repeats += bool(again and abs(time_ns - state["time_ns"]) <= timeouts.repeat)
            is_new |= timeouts.active is not None and clock - int(flows["begun"][flow]) > timeouts.active
            # a connection that begins: another SYN after the end of one, or after packets in its direction
            is_new |= bool(seq and state[last_seq] != seq and state["seen"] & (_CLOSED | direction))
        if is_new:
            flow = flow_count
            flow_count += 1
            flows["key"][flow] = keys[key]
            flows["start_ns"][flow] = flows["end_ns"][flow] = time_ns
            flows["up"][flow] = forward
            flows["by"][flow] = _TO_ITSELF if to_itself[key] else _BY_FIRST
            flows["begun"][flow], flows["capture"][flow], flows["number"][flow] = clock, capture, number
            state.update(flow=flow + 1, seen=0, seq_forward=0, seq_back=0)
        flows["start_ns"][flow] = min(flows["start_ns"][flow], time_ns)
        flows["end_ns"][flow] = max(flows["end_ns"][flow], time_ns)
        flows["packets"][flow] += 1
        flows["bytes"][flow] += size
        if flags & _SYN_AND_ACK == _SYN_AND_ACK and flows["by"][flow] < _BY_ANSWER:
            flows["by"][flow], flows["up"][flow] = _BY_ANSWER, not forward
        if seq:
            state[last_seq] = seq
            if flows["by"][flow] < _BY_SYN:
                flows["by"][flow], flows["up"][flow] = _BY_SYN, forward
        state["seen"] |= direction | (_CLOSED if flags & _FIN_OR_RST else 0)
        state.update(clock=clock, mark=mark, size=size, time_ns=time_ns)
        flow_of[row] = flow
    for name, column in zip(OPEN_COLUMNS, open_flows, strict=True):
        column[slot] = [state[name] for state in states]
    return flow_of, flow_count, repeats


def advance_clock(
    time_ns: np.ndarray, number: np.ndarray, state: np.ndarray, *, block: int, never: int, slack_ns: int, stride_ns: int
) -> np.ndarray:
    """Go through the packets one by one."""
    latest, current_block, latest_in_block, now = state.tolist()
    clock = []
    for time, block_number in zip(time_ns.tolist(), ((number - 1) // block).tolist(), strict=True):
        stamp = time or never
        if block_number != current_block:
            if latest_in_block > never and latest - latest_in_block > slack_ns:
                latest = latest_in_block
            latest_in_block, current_block = never, block_number
        if stamp > latest:
            now += min(stamp - latest, stride_ns) if latest > never else 0
            latest = stamp
        latest_in_block = max(latest_in_block, stamp)
        clock.append(now)
    state[:] = latest, current_block, latest_in_block, now
    return np.array(clock, np.int64)


def sort_by_flow(
    flow: np.ndarray, time_ns: np.ndarray, size: np.ndarray, forward: np.ndarray, kind: np.dtype
) -> np.ndarray:
    """Sort rows."""
    rows = np.empty(len(flow), kind)
    rows["time_ns"], rows["flow"] = time_ns, flow
    rows["size"] = size | forward.astype(np.uint32) << np.uint32(31)
    return rows[np.argsort(flow, kind="stable")]


def find_keys(
    words: np.ndarray,
    hashes: np.ndarray,
    table: np.ndarray,
    bits: int,
    known_words: np.ndarray,
    known_hashes: np.ndarray,
) -> np.ndarray:
    """Probe the table for one key after the other."""
    del known_hashes
    number = np.empty(len(words), np.int64)
    for row, (key, mixed) in enumerate(zip(words, hashes.tolist(), strict=True)):
        at = mixed >> (64 - bits)
        while table[at] and (known_words[table[at] - 1] != key).any():
            at = (at + 1) % (1 << bits)
        number[row] = table[at] - 1
    return number


# -- tables -----------------------------------------------------------------------------------------


def group_rows(words: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Look each row up in a dict."""
    del factors
    groups: dict[bytes, int] = {}
    code = np.array([groups.setdefault(row.tobytes(), len(groups)) for row in words], np.int32)
    return code, np.unique(code, return_index=True)[1]


def encode_runs(cell: np.ndarray, value: np.ndarray, width: int) -> bytes:
    """Write one run after the other."""
    out = bytearray()
    for zeros, number in zip((np.diff(cell, prepend=-1) - 1).tolist(), value.tolist(), strict=True):
        if zeros:
            head = zeros << 1  # the lowest bit is for numbers that are packed
            while head > 0x7F:
                out.append(head & 0x7F | 0x80)
                head >>= 7
            out += bytes([head, *bytes(width)])
        out += bytes([1 << 1]) + number.to_bytes(8, "little")[:width]
    return bytes(out)


def ipv4_texts(address: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Format one address after the other."""
    texts = [socket.inet_ntoa(packed).encode() for packed in address.astype(">u4").view("V4").tolist()]
    return np.frombuffer(b"".join(texts), np.uint8), np.array([len(text) for text in texts], np.int64)


def count_bins(
    flow: np.ndarray,
    offset_ns: np.ndarray,
    size: np.ndarray,
    up: np.ndarray,
    *,
    bin_ns: int,
    length: int,
    truncated: np.ndarray,
) -> tuple[list[DirectionCells], bool]:
    """Make a cell of each packet, in no order."""
    position = offset_ns // bin_ns
    inside = position < length
    np.add.at(truncated, flow[~inside], 1)
    cell = flow.astype(np.int64) * length + position
    directions = []
    for rows in (np.flatnonzero(inside & up), np.flatnonzero(inside & ~up)):
        directions.append((cell[rows], size[rows].astype(np.int64), np.ones(len(rows), np.int64)))
    return directions, False
