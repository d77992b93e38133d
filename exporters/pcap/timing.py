"""Times of packets within their bins, as a host sees them that captures its own traffic.

A gap between two packets has a fixed part: a round trip from what the client sends to what the
server answers, a reaction between what comes in and what goes out, the time on the wire within a
train. What the fixed parts leave of a bin goes to the gaps in which somebody thinks: before the
bin's first packet, between bursts, before the closing, and after the last packet.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture.errors import OutputError
from netgen.capture.series.spec import GAP_NS
from netgen.exporters.pcap.counter_rng import Words, random_bits, uniform
from netgen.exporters.pcap.packets import Bools, Ints

RTT_NS = 20_000_000  # median of the round trips drawn
RTT_SPREAD = 0.8  # standard deviation of their logarithm
RTT_RANGE_NS = (500_000, 300_000_000)
REACTION_NS = 25_000  # of the client's kernel, in the mean
RATE = 100e6  # bits a second of the bottleneck, in the median
RATE_SPREAD = 1.0

_PATH, _GAP, _REST = 40, 32, 35  # streams of `random_bits`
_SCALE = 1 << 16  # exponential numbers as integers, since sums of floats depend on what was summed before


@dataclasses.dataclass(frozen=True)
class Paths:
    """What lies between client and server; shape (flows,).

    Parameters
    ----------
    rtt_ns : ndarray of int64
        Round trip.
    byte_ns : ndarray of int64
        Time of a byte at the bottleneck, in 1/1024 ns.
    """

    rtt_ns: Ints
    byte_ns: Ints


def paths(keys: Words, width_ns: int) -> Paths:
    """A round trip and a bottleneck for each flow, drawn log-normally.

    A round trip is at most a quarter of a bin: longer ones are in the series themselves.
    """
    low, high = RTT_RANGE_NS
    high = max(min(high, width_ns // 4), 1)
    rtt = RTT_NS * np.exp(RTT_SPREAD * _normal(keys, 0))
    rate = RATE * np.exp(RATE_SPREAD * _normal(keys, 1))
    return Paths(
        np.clip(rtt, min(low, high), high).astype(np.int64),
        np.maximum(8e9 * 1024 / rate, 1).astype(np.int64),
    )


def _normal(keys: Words, number: int) -> np.ndarray:
    """Standard normal numbers (Box and Muller 1958)."""
    first, second = (uniform(random_bits(keys, _PATH + number, each)) for each in (0, 1))
    return np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)


@dataclasses.dataclass(frozen=True)
class Sequence:
    """Packets in order of time, as far as their times need; all of shape (packets,).

    Parameters
    ----------
    flow, bin : ndarray of int64
    start : ndarray of int64
        Where the packets of the bin begin.
    up, asks : ndarray of bool
        From the client; has data, SYN or FIN, which the other side answers.
    pause : ndarray of int64
        0: follows on the packet before; more: how much somebody thinks before it, in 1/16.
    answers : ndarray of bool
        From the server, and with it begins to answer: a round trip later, if the packet before asks.
    size : ndarray of int64
    gaps : ndarray of int64
        Row of the gaps from which those within a bin are drawn; -1: none.
    """

    flow: Ints
    bin: Ints
    start: Ints
    up: Bools
    asks: Bools
    pause: Ints
    answers: Bools
    size: Ints
    gaps: Ints


def offsets(packets: Sequence, keys: Words, path: Paths, gaps: Ints, width_ns: int) -> Ints:
    """Times since the flow's first packet, strictly inside the bins, strictly increasing; shape (packets,)."""
    flow, where, start = packets.flow, packets.bin, packets.start
    total = len(flow)
    if not total:
        return flow
    rank = np.arange(total) - start
    ends = np.flatnonzero(np.r_[start[1:] != start[:-1], True])
    group = np.repeat(np.arange(len(ends)), np.diff(np.r_[-1, ends]))
    count = rank[ends] + 1
    zero = where == 0  # there the first packet is at 0 and the rest begin after it

    word = random_bits(keys[flow], _GAP, where * (1 << 32) + rank)
    thought = (-np.log1p(-uniform(word)) * (_SCALE >> 4)).astype(np.int64) * packets.pause
    thought[zero & (rank == 0)] = 0
    jitter = 768 + (word & np.uint64(511)).astype(np.int64)  # 0.75 to 1.25, in 1/1024
    turned = np.r_[False, packets.up[1:] != packets.up[:-1]]
    asked = np.r_[False, packets.asks[:-1]] & turned & packets.answers
    wire = packets.size * path.byte_ns[flow] >> 10
    fixed = np.where(asked, path.rtt_ns[flow], np.where(turned & packets.up, REACTION_NS, wire))
    fixed = fixed * jitter >> 10
    if gaps.any():  # as between the packets of real flows; nobody is asked
        like = packets.gaps >= 0
        known = gaps[packets.gaps[like], (uniform(word[like]) * gaps.shape[1]).astype(np.int64)]
        fixed[like] = np.minimum(known, width_ns)
        thought[like & (rank > 0)] = 0
    fixed[rank == 0] = 0

    spent, paused = _running(fixed, start), _running(thought, start)
    last = random_bits(keys[flow[ends]], _REST, where[ends])
    thinking = paused[ends] + (-np.log1p(-uniform(last)) * _SCALE).astype(np.int64) + 1
    room = width_ns - 1 - (count - zero[ends])  # every packet has a nanosecond of its own
    used = np.minimum(spent[ends], room - (room >> 3))
    inside = spent * (used / np.maximum(spent[ends], 1))[group] + paused * ((room - used) / thinking)[group]
    inside = np.minimum(inside.astype(np.int64), room[group]) + rank + 1 - zero
    return where * width_ns + np.where(zero & (rank == 0), 0, inside)


def given_times(flow: Ints, begin: Ints, number: Ints) -> Ints:
    """Times of packets that say themselves when they come; those of the same time a nanosecond apart, as they stand.

    Parameters
    ----------
    flow, begin : ndarray of int64, shape (packets,)
        Flow, and time since its first packet in ns; in order of time in each flow.
    number : ndarray of int64, shape (flows,)
        What the flows are called in the table.

    Raises
    ------
    OutputError
        If a thousand packets come in one microsecond, so that they cannot all have a time in it.
    """
    first = np.r_[True, (flow[1:] != flow[:-1]) | (begin[1:] != begin[:-1])][: len(flow)]
    start = np.flatnonzero(first)
    rank = np.arange(len(flow)) - np.repeat(start, np.diff(start, append=len(flow)))
    if len(rank) and rank.max() >= GAP_NS:
        at = int(rank.argmax())
        raise OutputError(
            f"flow {int(number[flow[at]])} has over {GAP_NS} packets {int(begin[at]) // GAP_NS} microseconds after its "
            "first, counting those into which packets over 1500 bytes are split: they cannot all have their own time",
            "Leave that flow out, or extract it in bins: --kind bins",
        )
    return begin + rank


def _running(values: Ints, start: Ints) -> Ints:
    """Sums so far within each bin."""
    reached = values.cumsum()
    return reached - (reached - values)[start]
