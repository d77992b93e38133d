"""Packets to flows (`flows.c`)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from netgen.capture.native import plain
from netgen.capture.native.layouts import Timeouts
from netgen.capture.native.library import addresses, call, with_fallback

_DIGIT_BITS = 11  # of a pass of the radix sort


@with_fallback(plain.assemble_flows)
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
    """Assign packets to flows by the rules of ``docs/flows.md``; return each one's flow, flows now, and repeats.

    `packets` are columns: of each packet the row of its key, clock, time, number, size, fingerprint, direction and TCP
    flags; rows of the SYNs, ascending, and their sequence numbers; the keys. `slot` is the row of each key in
    `open_flows` (`OPEN_COLUMNS`, changed in place): the flow of each key (number + 1; 0 is none), its clock, what was
    seen of it, sequence number + 1 of the last SYN in each direction, and fingerprint, size and time of the last
    packet. `grow_flows` returns `FLOW_COLUMNS` with room for so many flows, new ones zero; they are changed in place
    too.
    """
    packets = [np.ascontiguousarray(column) for column in packets]
    count, syns = len(packets[0]), len(packets[8])
    flow, state = np.empty(count, np.int64), np.array([0, 0, flow_count, 0])
    scratch = np.zeros((len(slot), call("open_flow_size")), np.uint8)
    packet_pointers, open_pointers = addresses([*packets, slot]), addresses(open_flows)
    limits = timeouts.idle, -1 if timeouts.active is None else timeouts.active, timeouts.repeat
    extra, done = len(slot) + 1, 0  # a flow for each key, mostly
    while not done:
        room = flow_count + min(extra, count)
        extra *= 2
        flow_pointers = addresses(grow_flows(room))
        counts = count, syns, len(slot)
        arguments = packet_pointers, *counts, open_pointers, flow_pointers, room, capture, *limits
        done = call("assemble_flows", *arguments, scratch, flow, state)
    return flow, int(state[2]), int(state[3])


@with_fallback(plain.advance_clock)
def advance_clock(
    time_ns: np.ndarray, number: np.ndarray, state: np.ndarray, *, block: int, never: int, slack_ns: int, stride_ns: int
) -> np.ndarray:
    """Return what the clock of a capture shows at each packet (`netgen.capture.flows.clock`).

    `state` (int64) is the latest time stamp, the block of packets, the latest stamp in it, and what the clock shows; it
    is changed in place. `never` stands for no time stamp, and the clock steps by `stride_ns` at most.
    """
    clock = np.empty(len(time_ns), np.int64)
    times, numbers = np.ascontiguousarray(time_ns), np.ascontiguousarray(number)
    call("advance_clock", times, numbers, len(clock), block, never, slack_ns, stride_ns, state, clock)
    return clock


@with_fallback(plain.sort_by_flow)
def sort_by_flow(
    flow: np.ndarray, time_ns: np.ndarray, size: np.ndarray, forward: np.ndarray, kind: np.dtype
) -> np.ndarray:
    """Return packets in order of flow, those of a flow in their own, as rows of `netgen.capture.flows.spill.ROW`."""
    lowest, highest = int(flow.min()), int(flow.max())
    passes = -(-(highest - lowest).bit_length() // _DIGIT_BITS)
    buffers = np.empty(len(flow), kind), np.empty(len(flow), kind)
    columns = [np.ascontiguousarray(column) for column in (flow, time_ns, size, forward)]
    return buffers[call("sort_by_flow", *columns, len(flow), lowest, passes, *buffers)]


@with_fallback(plain.find_keys)
def find_keys(
    words: np.ndarray,
    hashes: np.ndarray,
    table: np.ndarray,
    bits: int,
    known_words: np.ndarray,
    known_hashes: np.ndarray,
) -> np.ndarray:
    """Find the numbers of keys in the hash table of `netgen.capture.flows.key_index`; -1 for those not in it."""
    number = np.empty(len(words), np.int64)
    call("find_keys", words, hashes, len(words), table, bits, known_words, known_hashes, number)
    return number
