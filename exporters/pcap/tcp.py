"""What a TCP connection's headers say of each other: sequence numbers, acknowledgements, windows, time stamps.

All follow from the packets in order of time: what was sent before is what a packet acknowledges.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture.headers import TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from netgen.exporters.pcap.attempts import NONE
from netgen.exporters.pcap.counter_rng import random_bits
from netgen.exporters.pcap.packets import SYN_WINDOW, TCP_HEADERS, Bools, Ints, Packets
from netgen.exporters.pcap.plan import Plan

WINDOW_SHIFT = 7
SYN_ACK_WINDOW = 65_160  # what Linux offers at a maximum segment size of 1460
WINDOW = 502  # in units of 128 bytes
UPDATES = 64  # window updates before the window begins anew
MAX_WINDOW = 65535 - UPDATES

_ISN, _STAMP, _WINDOW = 48, 50, 52  # streams of `random_bits`


@dataclasses.dataclass(frozen=True)
class TcpFields:
    """Header fields that depend on the packets before; int64 of shape (packets,) where nothing else is said.

    Parameters
    ----------
    seq, ack : ndarray
        Modulo 2**32.
    window : ndarray
        As it stands in the header, that is, before scaling.
    scaled : ndarray of bool, shape (flows of the plan,)
        SYN and SYN-ACK offer window scaling: both have room for the option.
    first_seq : ndarray of int64, shape (flows of the plan, 2)
        Sequence number of the first payload byte, up and down.
    stamp, echo : ndarray
        TSval and TSecr of RFC 7323, in milliseconds.
    """

    seq: Ints
    ack: Ints
    window: Ints
    scaled: Bools
    first_seq: Ints
    stamp: Ints
    echo: Ints


def tcp_fields(plan: Plan, packets: Packets) -> TcpFields:
    """Sequence numbers and all that goes with them.

    Parameters
    ----------
    plan : Plan
    packets : Packets
        Whole flows, each in order of time. Fields of UDP packets have no meaning.
    """
    flow, up = packets.flow, packets.up
    total = len(flow)
    starts = np.flatnonzero(np.r_[True, flow[1:] != flow[:-1]]) if total else np.zeros(0, dtype=np.int64)
    run = np.repeat(starts, np.diff(np.r_[starts, total]))  # where the packet's flow begins
    syn = (packets.flags & TCP_SYN) > 0
    fin = (packets.flags & TCP_FIN) > 0
    payload = packets.size - packets.headers
    length = payload + syn + fin  # in sequence space
    sent = [np.cumsum(np.where(side, length, 0)) for side in (up, ~up)]
    before = [total - np.where(side, length, 0) for total, side in zip(sent, (up, ~up), strict=True)]
    before = [numbers - numbers[run] for numbers in before] if total else before
    first = np.stack([random_bits(plan.keys, _ISN + side) & np.uint64(0xFFFFFFFF) for side in (0, 1)], axis=1)
    first = first.astype(np.int64)
    isn = first[flow]
    seq = np.where(up, before[0] + isn[:, 0], before[1] + isn[:, 1])
    ack = np.where(up, before[1] + isn[:, 1], before[0] + isn[:, 0])
    tried = plan.shape.attempt[flow] > NONE
    reset = (packets.flags & TCP_RST) > 0
    # RFC 9293, 3.10.7: what refuses a SYN has number 0; what resets a SYN-ACK has the number that it acknowledged
    seq = np.where(tried & syn, np.where(up, isn[:, 0], isn[:, 1]), np.where(tried & reset & up, isn[:, 0] + 1, seq))
    seq = np.where(tried & reset & ~up, 0, seq)
    ack = np.where(tried & ~up, isn[:, 0] + 1, ack)
    ack[(packets.flags & TCP_ACK) == 0] = 0

    # both sides scale their windows or neither does
    scaled = np.ones(len(plan), dtype=bool)
    scaled[flow[syn & (packets.headers - plan.shape.extra[flow] < TCP_HEADERS + 8)]] = False
    window = np.zeros(total, dtype=np.int64)
    for side, mine in enumerate((up, ~up)):
        other = 1 - side
        # a FIN does not move the window's edge for Suricata 7, so what came before it must suffice
        needed = _most_in_flight(before[other], length, mine & ~fin, starts)
        drawn = WINDOW + (random_bits(plan.keys, _WINDOW + side) % np.uint64(1500)).astype(np.int64)[flow]
        base = np.where(scaled[flow], np.maximum(drawn, (needed >> WINDOW_SHIFT) + 2), MAX_WINDOW)
        news = _no_news(flow, ack, mine & (payload == 0) & ~syn & ~fin, mine)
        window[mine] = (np.minimum(base, MAX_WINDOW) + news)[mine]
    window[syn] = np.where(up, SYN_WINDOW, SYN_ACK_WINDOW)[syn]
    window[reset] = 0

    # the other side's clock as its latest packet told it; each side's clock began at its own time
    tick = packets.offset_ns // 1_000_000
    clock = [(random_bits(plan.keys, _STAMP + side) >> np.uint64(33)).astype(np.int64)[flow] for side in (0, 1)]
    stamp = tick + np.where(up, clock[0], clock[1])
    index = np.arange(total)
    heard = np.where(up, _latest(np.where(~up, index, -1)), _latest(np.where(up, index, -1)))
    echo = np.where((heard >= run) & ~(syn & up), stamp[np.maximum(heard, 0)], 0) if total else stamp
    words = (seq, ack, first + 1, stamp, echo)
    seq, ack, first, stamp, echo = (each & 0xFFFFFFFF for each in words)
    return TcpFields(seq, ack, window, scaled, first, stamp, echo)


def _latest(marks: Ints) -> Ints:
    """The largest mark so far."""
    return np.maximum.accumulate(marks) if len(marks) else marks


def _most_in_flight(sent: Ints, length: Ints, receiver: Bools, starts: Ints) -> Ints:
    """Most bytes that the flow's sender had under way to `receiver` without an acknowledgement, shape (packets,)."""
    if not len(sent):
        return sent
    # within a flow `sent` only grows, so an offset a flow makes one running maximum serve all
    step = np.cumsum(np.where(np.isin(np.arange(len(sent)), starts), np.r_[0, sent[:-1]] + np.r_[0, length[:-1]], 0))
    told = _latest(np.where(receiver, sent + step, step)) - step
    under_way = np.where(receiver, 0, sent + length - told)
    most = np.maximum.reduceat(under_way, starts)
    return np.repeat(most, np.diff(np.r_[starts, len(sent)]))


def _no_news(flow: Ints, ack: Ints, bare: Bools, mine: Bools) -> Ints:
    """What to add to the window so that a bare packet that acknowledges nothing new is a window update.

    Such a packet with the same window would be a duplicate acknowledgement, the sign of a loss.
    """
    own = np.flatnonzero(mine)
    out = np.zeros(len(flow), dtype=np.int64)
    if not len(own):
        return out
    new_flow = np.r_[True, flow[own][1:] != flow[own][:-1]]
    stale = bare[own] & ~new_flow & (ack[own] == np.r_[0, ack[own][:-1]])
    grown = stale.cumsum()
    first = np.flatnonzero(new_flow)
    grown -= np.repeat(grown[first], np.diff(np.r_[first, len(own)]))
    out[own] = grown % UPDATES
    return out
