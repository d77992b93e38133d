"""Packets of a part to flows (`flows.c`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from netgen.capture.native.library import addresses, call

#: Columns of what is open, and of flows, in the order in which `flows.c` has them.
OPENED = ("flow", "clock", "seen", "seq_forward", "seq_back", "mark", "size", "time_ns")
FLOWS = ("key", "start_ns", "end_ns", "packets", "bytes", "up", "by", "begun", "capture", "number")

_DIGIT = 11  # bits that are sorted by at once


def assemble(
    packets: list[np.ndarray],
    slot: np.ndarray,
    opened: list[np.ndarray],
    flows: Callable[[int], list[np.ndarray]],
    *,
    rows: int,
    capture: int,
    idle_ns: int,
    active_ns: int | None,
    repeat_ns: int,
) -> tuple[np.ndarray, int, int]:
    """Take packets into flows, as `netgen.capture.flows.assemble` does for whole columns.

    Parameters
    ----------
    packets : list of ndarray
        Of each packet the row of its key, clock, time, number, size, fingerprint, direction and flags; rows
        of SYNs, ascending, and their sequence numbers; the keys.
    slot : ndarray of int64, shape (keys,)
        Of each key, in `opened`.
    opened : list of ndarray
        The columns `OPENED`, changed in place.
    flows : callable
        The columns `FLOWS` with room for so many flows, changed in place too.
    rows : int
        Flows so far.
    capture : int
        Number of the capture.
    idle_ns, active_ns, repeat_ns : int
        The timeouts, and the time within which a packet that comes twice does.

    Returns
    -------
    ndarray of int64, int, int
        The flow of each packet, flows now, and packets that came twice.
    """
    packets = [np.ascontiguousarray(each) for each in packets]
    count, syns = len(packets[0]), len(packets[8])
    flow, state = np.empty(count, np.int64), np.array([0, 0, rows, 0])
    scratch = np.zeros((len(slot), call("open_size")), np.uint8)
    known, ends = addresses([*packets, slot]), addresses(opened)
    timeouts = idle_ns, -1 if active_ns is None else active_ns, repeat_ns
    more, done = len(slot) + 1, 0  # a flow for each key, mostly
    while not done:
        room = rows + min(more, count)
        more *= 2
        held = addresses(flows(room))
        given = known, count, syns, len(slot), ends, held, room, capture, *timeouts
        done = call("assemble", *given, scratch, flow, state)
    return flow, int(state[2]), int(state[3])


def clock(
    time_ns: np.ndarray, number: np.ndarray, state: np.ndarray, *, block: int, never: int, slack_ns: int, stride_ns: int
) -> np.ndarray:
    """What the clock shows at each packet, as `netgen.capture.flows.clock` has it, whose `state` is changed in place."""
    shown = np.empty(len(time_ns), np.int64)
    times, numbers = np.ascontiguousarray(time_ns), np.ascontiguousarray(number)
    call("clock", times, numbers, len(shown), block, never, slack_ns, stride_ns, state, shown)
    return shown


def by_flow(flow: np.ndarray, time_ns: np.ndarray, size: np.ndarray, forward: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Packets in order of flow, and within in theirs, as rows of `kind` (`netgen.capture.flows.spill`)."""
    lowest, highest = int(flow.min()), int(flow.max())
    passes = -(-(highest - lowest).bit_length() // _DIGIT)
    both = np.empty(len(flow), kind), np.empty(len(flow), kind)
    columns = [np.ascontiguousarray(each) for each in (flow, time_ns, size, forward)]
    return both[call("by_flow", *columns, len(flow), lowest, passes, *both)]


def find(
    words: np.ndarray, mixed: np.ndarray, table: np.ndarray, bits: int, key: np.ndarray, hashes: np.ndarray
) -> np.ndarray:
    """The numbers of keys, -1 for those that are not there; the twin of what `netgen.capture.flows.key_index` does."""
    number = np.empty(len(words), np.int64)
    call("find", words, mixed, len(words), table, bits, key, hashes, number)
    return number
