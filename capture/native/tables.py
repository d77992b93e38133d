"""Values told apart, and columns of a table as bytes (`tables.c`)."""

from __future__ import annotations

import numpy as np

from netgen.capture.native import plain
from netgen.capture.native.layouts import DirectionCells
from netgen.capture.native.library import addresses, call, with_fallback

_LENGTH_BYTES = 5  # of a run, at most
_TEXT_BYTES = 15  # of an IPv4 address, at most


@with_fallback(plain.group_rows)
def group_rows(words: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assign numbers to the distinct rows of an array (uint64), in the order in which they first occur.

    `factors` are two odd numbers for the hash. Return the number of each row's group, int32, and each group's first
    row.
    """
    count, width = words.shape
    capacity = 1 << max(8, (2 * count).bit_length())
    code, first = np.empty(count, np.int32), np.empty(count, np.int64)
    groups = call("group_rows", words, width, count, factors, np.empty(capacity, np.int32), capacity, code, first)
    return code, first[:groups].copy()


@with_fallback(plain.encode_runs)
def encode_runs(cell: np.ndarray, value: np.ndarray, width: int) -> bytes:
    """Encode mostly zero numbers as runs of Parquet's hybrid encoding, a run of zeros and a run of one for each number.

    `cell` holds the positions of the other numbers, ascending, `value` these. Zeros after the last are left to the
    caller.
    """
    out = np.empty(len(cell) * (_LENGTH_BYTES + 1 + 2 * width), np.uint8)
    size = call("encode_runs", np.ascontiguousarray(cell), np.ascontiguousarray(value), len(cell), width, out)
    return out[:size].tobytes()


@with_fallback(plain.ipv4_texts)
def ipv4_texts(address: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return IPv4 addresses (uint64) as text, one after the other as bytes, and the length of each."""
    text, length = np.empty(_TEXT_BYTES * len(address), np.uint8), np.empty(len(address), np.int64)
    size = call("ipv4_texts", np.ascontiguousarray(address), len(address), text, length)
    return text[:size].copy(), length


@with_fallback(plain.count_bins)
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
    """Count packets into the bins of their flows; packets after the last bin are added to `truncated` (int64, by flow).

    `offset_ns` is the time since the flow's first packet, `size` IP bytes. Return, for the packets up and those down,
    cells (flow * length + bin) with their bytes and packets; and whether the cells are in order and none occurs twice.
    """
    columns = [np.empty(len(flow), np.int64) for _ in range(6)]
    counts = np.empty(2, np.int64)
    kinds = (np.int64, np.int64, np.uint32, bool)
    inputs = [np.ascontiguousarray(array, kind) for array, kind in zip((flow, offset_ns, size, up), kinds, strict=True)]
    ordered = call("count_bins", *inputs, len(flow), bin_ns, length, truncated, addresses(columns), counts)
    up_count, down_count = counts.tolist()
    cell, volume, packets, *down = (
        column[:count].copy() for column, count in zip(columns, 3 * [up_count] + 3 * [down_count], strict=True)
    )
    return [(cell, volume, packets), (down[0], down[1], down[2])], bool(ordered)
