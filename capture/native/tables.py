"""Values told apart, and columns of a table as bytes (`tables.c`)."""

from __future__ import annotations

import numpy as np

from netgen.capture.native.library import addresses, call

_LONGEST, _RUN_OF_ONE, _ADDRESS = 5, 1, 15  # bytes of a run's length, and of an IPv4 address as text


def groups(words: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `netgen.capture.factorize.groups` returns, for rows of 64-bit words, shape (rows, words)."""
    count, width = words.shape
    places = 1 << max(8, (2 * count).bit_length())
    number, first = np.empty(count, np.int32), np.empty(count, np.int64)
    found = call("groups", words, width, count, factors, np.empty(places, np.int32), places, number, first)
    return number, first[:found].copy()


def runs(cell: np.ndarray, value: np.ndarray, width: int) -> bytes:
    """Numbers as runs, of zeros and of single others; the twin of what `netgen.capture.table.sparse_lists` does."""
    out = np.empty(len(cell) * (_LONGEST + _RUN_OF_ONE + 2 * width), np.uint8)
    size = call("runs", np.ascontiguousarray(cell), np.ascontiguousarray(value), len(cell), width, out)
    return out[:size].tobytes()


def dotted(address: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IPv4 addresses as text, one behind the other, and the length of each; see `netgen.capture.flows.addresses`."""
    text, length = np.empty(_ADDRESS * len(address), np.uint8), np.empty(len(address), np.int64)
    size = call("dotted", np.ascontiguousarray(address), len(address), text, length)
    return text[:size].copy(), length


def bins(
    flow: np.ndarray,
    offset_ns: np.ndarray,
    size: np.ndarray,
    up: np.ndarray,
    *,
    bin_ns: int,
    length: int,
    cut: np.ndarray,
) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], bool]:
    """Cells of packets up and of those down, with bytes and packets, and whether these are in order and distinct.

    The twin of what `netgen.capture.series.bins.BinCounter` does; packets behind the last bin are added to `cut`.
    """
    count = len(flow)
    cells = [np.empty(count, np.int64) for _ in range(6)]
    found = np.empty(2, np.int64)
    kinds = (np.int64, np.int64, np.uint32, bool)
    columns = [np.ascontiguousarray(each, kind) for each, kind in zip((flow, offset_ns, size, up), kinds, strict=True)]
    ordered = call("bins", *columns, count, bin_ns, length, cut, addresses(cells), found)
    up_cells, down_cells = found.tolist()
    kept = [each[:number].copy() for each, number in zip(cells, 3 * [up_cells] + 3 * [down_cells], strict=True)]
    return [(kept[0], kept[1], kept[2]), (kept[3], kept[4], kept[5])], bool(ordered)
