"""What the packets of a TCP connection must say of each other."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from netgen.capture.headers import PROTOCOL_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from netgen.exporters.verify.issues import IssueList

_OPENING = TCP_SYN | TCP_ACK


@dataclasses.dataclass(frozen=True)
class Streams:
    """Flows of a capture: packets with equal ends, whichever way they go.

    Parameters
    ----------
    packets : ndarray of WIRE, shape (packets,)
        By flow, and in each in the file's order.
    flow : ndarray of int64, shape (packets,)
    first : ndarray of int64, shape (flows,)
        Where each flow begins; flows in the order of their first packets.
    up : ndarray of bool, shape (packets,)
        From the side that sent the flow's first packet.
    """

    packets: np.ndarray
    flow: np.ndarray
    first: np.ndarray
    up: np.ndarray

    @property
    def count(self) -> np.ndarray:
        """Packets of each flow."""
        return np.diff(np.r_[self.first, len(self.flow)])

    @functools.cached_property
    def tried(self) -> np.ndarray:
        """Which flows are attempts at a TCP connection that nobody answered or accepted, bool (flows,)."""
        return _attempts(self.packets, self.flow, self.up, self.first)


def talks(packets: np.ndarray) -> Streams:
    """Group packets into flows."""
    source, target = (_mixed(packets, *names) for names in (("src_high", "src_low", "src_port"),
                                                           ("dst_high", "dst_low", "dst_port")))  # fmt: skip
    low, high = np.minimum(source, target), np.maximum(source, target)
    key = _mix(_mix(low) + high) ^ packets["protocol"].astype(np.uint64)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    flow = rank[inverse]
    order = np.argsort(flow, kind="stable")
    flow, packets = flow[order], packets[order]
    begin = np.flatnonzero(np.r_[True, flow[1:] != flow[:-1]]) if len(flow) else np.zeros(0, np.int64)
    up = source[order] == source[order][begin][flow]
    return Streams(packets, flow, begin, up)


def _mix(words: np.ndarray) -> np.ndarray:
    """The finaliser of MurmurHash3 (Appleby), so that equal sums of words do not meet."""
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return words ^ (words >> np.uint64(33))


def _mixed(packets: np.ndarray, high: str, low: str, port: str) -> np.ndarray:
    return _mix(_mix(_mix(packets[high]) + packets[low]) + packets[port])


def check(all_talks: Streams, found: IssueList) -> None:
    """Look at all TCP connections."""
    tcp = all_talks.packets["protocol"] == PROTOCOL_TCP
    packets, flow, up = all_talks.packets[tcp], all_talks.flow[tcp], all_talks.up[tcp]
    if not len(packets):
        return
    flow = np.cumsum(np.r_[False, flow[1:] != flow[:-1]])
    begin = np.flatnonzero(np.r_[True, flow[1:] != flow[:-1]])
    place = np.arange(len(packets)) - begin[flow]
    flags, number = packets["flags"], packets["number"]
    syn, fin = (flags & TCP_SYN) > 0, (flags & TCP_FIN) > 0
    length = packets["payload"].astype(np.int64) + syn + fin
    tried = all_talks.tried[all_talks.flow[tcp][begin]]
    _handshake(packets, place, up, begin, tried, found)

    repeat = tried[flow] & syn  # of the SYN or SYN-ACK, with its number
    again = syn & ((flags & TCP_ACK) == 0) & (place > 0) & ~repeat
    found.rows("tuple", again, number, "another connection begins with the same addresses and ports")

    # numbers of each side counted on from its first, without wrapping
    sent = np.zeros(len(packets), np.int64)  # where each packet begins in its side's own count
    told = np.zeros(len(packets), np.int64)  # what it acknowledges, in the other side's count
    origin = np.zeros((len(begin), 2), np.int64)  # first number of each side
    spoke = np.zeros((len(begin), 2), bool)
    for side, mine in enumerate((up, ~up)):
        rows = np.flatnonzero(mine)
        own = flow[rows]
        new = np.r_[True, own[1:] != own[:-1]][: len(rows)]
        step = _signed(np.diff(packets["seq"][rows], prepend=packets["seq"][rows[:1]]))
        step[new] = 0
        sent[rows] = _sums_within(step, new)
        origin[own[new], side] = packets["seq"][rows[new]]
        spoke[own[new], side] = True
        follows = np.r_[False, (sent[rows][1:] == (sent + length)[rows][:-1])][: len(rows)] | new | repeat[rows]
        found.rows("sequence", ~follows, number[rows], "it does not begin where its side's last segment ended")
    ends = sent + length
    most = [_running_max(np.where(side, ends, 0), flow) for side in (up, ~up)]  # sent so far, this packet counted
    heard = np.where(up, most[1], most[0])  # by the other side; this packet is not its
    other = np.where(up, 1, 0)
    acks = (flags & TCP_ACK) > 0
    ahead = _signed((packets["ack"].astype(np.int64) - origin[flow, other] - heard).astype(np.uint32))
    known = acks & spoke[flow, other]
    told = np.where(known, heard + ahead, 0)
    reset = (flags & TCP_RST) > 0
    asked = (flags[begin] & _OPENING) == TCP_SYN
    answers = ~up & acks & (syn | tried[flow]) & asked[flow]
    wrong = answers & (packets["ack"] != (origin[flow, 0] + 1 & 0xFFFFFFFF))
    found.rows("acknowledgement", wrong, number, "it answers a SYN of another number")
    found.rows("acknowledgement", known & (ahead > 0), number, "it acknowledges what was not sent before it")
    for mine in (up, ~up):
        rows = np.flatnonzero(mine & known)
        same = np.r_[False, flow[rows][1:] == flow[rows][:-1]][: len(rows)]
        step = np.diff(told[rows], prepend=0)
        found.rows("acknowledgement", same & (step < 0), number[rows], "it acknowledges less than the one before")
        bare = (length[rows] == 0) & ~reset[rows]
        window = packets["window"][rows]
        repeat = same & bare & (step == 0) & (np.diff(window.astype(np.int64), prepend=-1) == 0)
        found.rows("duplicate", repeat, number[rows], "it is a duplicate acknowledgement")
    _windows(packets, flow, up, begin, ends, told, known, found)
    _stamps(packets, flow, up, found)
    _closing(packets, flow, up, begin, ends, told, tried, found)


def connections(all_talks: Streams) -> list[str | None]:
    """What became of each flow's connection, as the truth calls it; none: not TCP.

    One that breaks off is called closed here: that it is not is for `check` to find.

    Returns
    -------
    list of str or None, length flows
    """
    packets, up, begin = all_talks.packets, all_talks.up, all_talks.first
    if not len(begin):
        return []
    flags = packets["flags"]
    last = np.r_[begin[1:], len(packets)] - 1
    answered = np.logical_or.reduceat(~up, begin)
    accepted = np.logical_or.reduceat(~up & ((flags & TCP_SYN) > 0), begin)
    tried = np.where(accepted, "half-open", np.where(answered, "refused", "unanswered"))
    names = np.where(all_talks.tried, tried, np.where((flags[last] & TCP_RST) > 0, "reset", "closed"))
    tcp = packets["protocol"][begin] == PROTOCOL_TCP
    return [str(name) if known else None for name, known in zip(names, tcp, strict=True)]


def _attempts(packets: np.ndarray, flow: np.ndarray, up: np.ndarray, begin: np.ndarray) -> np.ndarray:
    """Flows that never became connections: a SYN and its repeats, and what refuses them or, in vain, accepts them.

    The client may reset the latter with its last packet. SYNs and SYN-ACKs each have one number, refusals have 0, and
    there are no more of these than SYNs before them.
    """
    kind = packets["flags"] & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)
    first = np.zeros((2, len(begin)), np.int64)
    last = np.r_[begin[1:], len(packets)] - 1
    right = np.zeros(len(packets), bool)
    for side, (mine, opens) in enumerate(((up, TCP_SYN), (~up, _OPENING))):
        rows = np.flatnonzero(mine & (kind == opens))[::-1]
        first[side, flow[rows]] = packets["seq"][rows]  # the earliest stays
        right |= mine & (kind == opens) & (packets["seq"] == first[side, flow])
    accepted = np.zeros(len(begin), bool)
    accepted[flow[~up & (kind == _OPENING)]] = True
    refuses = ~up & (kind == TCP_RST | TCP_ACK)
    new = np.zeros(len(packets), bool)
    new[begin] = True
    more = _sums_within(np.where(up, 1, np.where(refuses, -1, 0)), new)  # SYNs than refusals, but for the first SYN
    right |= refuses & ~accepted[flow] & (packets["seq"] == 0) & (more >= -1)
    ends = last[up[last] & (kind[last] == TCP_RST) & accepted]
    right[ends] = True
    right &= packets["payload"] == 0
    return np.asarray(np.logical_and.reduceat(right, begin))


def _signed(words: np.ndarray) -> np.ndarray:
    """32-bit differences as signed numbers: the nearer way around."""
    return words.astype(np.uint32).view(np.int32).astype(np.int64)


def _sums_within(step: np.ndarray, new: np.ndarray) -> np.ndarray:
    total = step.cumsum()
    first = np.flatnonzero(new)
    return total - np.repeat(total[first], np.diff(np.r_[first, len(step)]))


def _running_max(values: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Largest value so far in each flow; values from 0 up to 2**40."""
    lifted = values + (flow << 40)
    return np.maximum.accumulate(lifted) - (flow << 40)


def _handshake(
    packets: np.ndarray, place: np.ndarray, up: np.ndarray, begin: np.ndarray, tried: np.ndarray, found: IssueList
) -> None:
    flags = packets["flags"] & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)
    bad = np.zeros(len(begin), bool)
    count = np.diff(np.r_[begin, len(packets)])
    for turn, (wanted, from_up) in enumerate(((TCP_SYN, True), (_OPENING, False), (TCP_ACK, True))):
        at = np.minimum(begin + turn, len(packets) - 1)
        right = (flags[at] == wanted) | ((turn == 2) & (flags[at] == TCP_ACK | TCP_FIN))
        bad |= (count <= turn) | ~right | (up[at] != from_up)
    found.rows("handshake", bad & ~tried, packets["number"][begin], "its connection begins otherwise")


def _windows(
    packets: np.ndarray,
    flow: np.ndarray,
    up: np.ndarray,
    begin: np.ndarray,
    ends: np.ndarray,
    told: np.ndarray,
    known: np.ndarray,
    found: IssueList,
) -> None:
    """Data beyond the window that the other side has opened, in connections whose SYNs were seen."""
    syn = (packets["flags"] & TCP_SYN) > 0
    shift = np.full((len(begin), 2), -2)
    rows = np.flatnonzero(syn)
    shift[flow[rows], np.where(up[rows], 0, 1)] = packets["shift"][rows]
    opened = np.asarray((shift > -2).all(1))
    both = np.asarray((shift >= 0).all(1))
    scale = np.where(both[:, None], shift, 0)
    window = packets["window"].astype(np.int64)
    side = np.where(up, 0, 1)
    edge = np.where(known, told + (window << np.where(syn, 0, scale[flow, side])), 0)
    for mine in (up, ~up):
        reach = _running_max(np.where(~mine, np.maximum(edge, 0), 0), flow)
        over = mine & opened[flow] & (reach > 0) & (packets["payload"] > 0) & (ends > reach)
        found.rows("window", over, packets["number"], "it has more data than the other side has room for")


def _stamps(packets: np.ndarray, flow: np.ndarray, up: np.ndarray, found: IssueList) -> None:
    stamped = packets["stamped"]
    sides: tuple[np.ndarray, np.ndarray] = (up & stamped, ~up & stamped)
    for mine in sides:
        rows = np.flatnonzero(mine)
        same = np.r_[False, flow[rows][1:] == flow[rows][:-1]][: len(rows)]
        step = _signed(np.diff(packets["stamp"][rows], prepend=np.uint32(0)))
        found.rows("timestamps", same & (step < 0), packets["number"][rows], "its time stamp goes back")
    # what it echoes was said by the other side before: never later than the latest
    index = np.arange(len(packets))
    for mine, theirs in (sides, sides[::-1]):
        heard = np.maximum.accumulate(np.where(theirs, index, -1))
        rows = np.flatnonzero(mine & (heard >= 0) & ((packets["flags"] & TCP_ACK) > 0))
        rows = rows[flow[heard[rows]] == flow[rows]]
        late = _signed(packets["echo"][rows] - packets["stamp"][heard[rows]]) > 0
        found.rows("timestamps", late, packets["number"][rows], "it echoes a time stamp that was not sent before")


def _closing(
    packets: np.ndarray,
    flow: np.ndarray,
    up: np.ndarray,
    begin: np.ndarray,
    ends: np.ndarray,
    told: np.ndarray,
    tried: np.ndarray,
    found: IssueList,
) -> None:
    fin = (packets["flags"] & TCP_FIN) > 0
    whole = np.ones(len(begin), bool)
    for mine in (up, ~up):
        finished = np.zeros(len(begin), np.int64)
        np.maximum.at(finished, flow[mine & fin], ends[mine & fin])
        acknowledged = np.zeros(len(begin), np.int64)
        np.maximum.at(acknowledged, flow[~mine], told[~mine])
        whole &= (finished > 0) & (acknowledged >= finished)
    last = np.r_[begin[1:], len(packets)] - 1
    reset = (packets["flags"] & TCP_RST) > 0
    goes_on = np.r_[flow[1:] == flow[:-1], False]
    wrong = reset & ~tried[flow] & (goes_on | (packets["payload"] > 0))
    found.rows("closing", wrong, packets["number"], "it resets the connection, and is not the bare end of it")
    whole |= tried | reset[last]
    found.rows("closing", ~whole, packets["number"][last], "its connection is not closed from both sides by then")
