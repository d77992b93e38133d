"""Group packets into flows, and check the packets of each TCP connection against one another."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from netgen.capture.headers import PROTOCOL_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN
from netgen.exporters.verify.issues import IssueList

_SYN_ACK = TCP_SYN | TCP_ACK


@dataclasses.dataclass(frozen=True)
class Streams:
    """Flows of a capture: the packets between two endpoints, in both directions; arrays of shape (packets,)."""

    packets: np.ndarray  # of PACKET, ordered by flow, and in each flow as in the file
    flow: np.ndarray
    up: np.ndarray  # from the endpoint that sent the flow's first packet

    @functools.cached_property
    def first(self) -> np.ndarray:
        """Row of each flow's first packet."""
        return np.flatnonzero(_is_first(self.flow))

    @property
    def last(self) -> np.ndarray:
        """Row of each flow's last packet."""
        return np.asarray(np.r_[self.first, len(self.packets)][1:] - 1)

    @property
    def flags(self) -> np.ndarray:
        """SYN, ACK, FIN and RST of each packet."""
        return np.asarray(self.packets["flags"] & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST))

    def has(self, flag: int) -> np.ndarray:
        """Tell which packets have a TCP flag."""
        return np.asarray((self.packets["flags"] & flag) > 0)

    @property
    def length(self) -> np.ndarray:
        """Length of each packet in sequence numbers: its payload, plus one for SYN and for FIN."""
        return np.asarray(self.packets["payload"].astype(np.int64) + self.has(TCP_SYN) + self.has(TCP_FIN))

    @property
    def is_tcp(self) -> np.ndarray:
        """Flows of TCP, shape (flows,)."""
        return np.asarray(self.packets["protocol"][self.first] == PROTOCOL_TCP)

    def tcp(self) -> Streams:
        """Select the flows of TCP."""
        rows = self.packets["protocol"] == PROTOCOL_TCP
        return Streams(self.packets[rows], np.cumsum(_is_first(self.flow[rows])) - 1, self.up[rows])

    @functools.cached_property
    def is_attempt(self) -> np.ndarray:
        """Flows that never became connections, shape (flows,).

        They hold one SYN and its repeats, and either refusals (RST-ACK) or SYN-ACKs that the client leaves
        unanswered or resets. All SYNs have one sequence number, and so have all SYN-ACKs. Refusals have 0, and no
        refusal comes before the SYN that it refuses.
        """
        flags, seq, first = self.flags, self.packets["seq"], self.first
        valid = np.zeros(len(flags), bool)
        for sender, opening in ((self.up, TCP_SYN), (~self.up, _SYN_ACK)):
            rows = np.flatnonzero(sender & (flags == opening))
            initial_seq = np.zeros(len(first), np.int64)
            initial_seq[self.flow[rows[::-1]]] = seq[rows[::-1]]  # the earliest is assigned last
            valid[rows] = seq[rows] == initial_seq[self.flow[rows]]
        accepted = np.zeros(len(first), bool)
        accepted[self.flow[~self.up & (flags == _SYN_ACK)]] = True
        refusal = ~self.up & (flags == TCP_RST | TCP_ACK)
        excess = _cumsum_within(np.where(self.up, 1, np.where(refusal, -1, 0)), _is_first(self.flow))
        valid |= refusal & ~accepted[self.flow] & (seq == 0) & (excess >= -1)  # the first SYN is not in the sum
        reset = self.last[self.up[self.last] & (flags[self.last] == TCP_RST) & accepted]
        valid[reset] = True
        return np.asarray(np.logical_and.reduceat(valid & (self.packets["payload"] == 0), first))


def group_streams(packets: np.ndarray) -> Streams:
    """Group packets into flows, in the order of their first packets."""
    source, target = (
        _hash(_hash(_hash(packets[f"{end}_high"]) + packets[f"{end}_low"]) + packets[f"{end}_port"])
        for end in ("src", "dst")
    )
    low, high = np.minimum(source, target), np.maximum(source, target)
    key = _hash(_hash(low) + high) ^ packets["protocol"].astype(np.uint64)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    flow = np.argsort(np.argsort(first))[inverse]
    order = np.argsort(flow, kind="stable")
    flow, source = flow[order], source[order]
    return Streams(packets[order], flow, source == source[np.flatnonzero(_is_first(flow))][flow])


def connection_states(streams: Streams) -> list[str | None]:
    """Name what became of each flow's connection, as the ground truth does; None if it is not TCP.

    A connection that breaks off counts as closed: `check_connections` reports it.
    """
    answered = np.logical_or.reduceat(~streams.up, streams.first)
    accepted = np.logical_or.reduceat(~streams.up & streams.has(TCP_SYN), streams.first)
    attempt = np.where(accepted, "half-open", np.where(answered, "refused", "unanswered"))
    state = np.where(streams.has(TCP_RST)[streams.last], "reset", "closed")
    state = np.where(streams.is_attempt, attempt, state)
    return [str(name) if is_tcp else None for name, is_tcp in zip(state, streams.is_tcp, strict=True)]


def check_connections(streams: Streams, issues: IssueList) -> None:
    """Check all TCP connections."""
    tcp = streams.tcp()
    if not len(tcp.packets):
        return
    _check_handshakes(tcp, issues)
    end, origin, has_sent = _check_sequence(tcp, issues)
    acked, has_ack = _check_acknowledgements(tcp, end, origin, has_sent, issues)
    _check_windows(tcp, end, acked, has_ack, issues)
    _check_timestamps(tcp, issues)
    _check_closing(tcp, end, acked, issues)


def _check_handshakes(tcp: Streams, issues: IssueList) -> None:
    flags, number = tcp.flags, tcp.packets["number"]
    wrong = np.zeros(len(tcp.first), bool)
    for index, (wanted, from_client) in enumerate(((TCP_SYN, True), (_SYN_ACK, False), (TCP_ACK, True))):
        row = np.minimum(tcp.first + index, len(flags) - 1)
        right = (flags[row] == wanted) | ((index == 2) & (flags[row] == TCP_ACK | TCP_FIN))
        wrong |= (tcp.first + index > tcp.last) | ~right | (tcp.up[row] != from_client)
    message = "its connection does not begin with a handshake"
    issues.add_rows("handshake", wrong & ~tcp.is_attempt, number[tcp.first], message)
    again = tcp.has(TCP_SYN) & ~tcp.has(TCP_ACK) & ~_is_first(tcp.flow) & ~tcp.is_attempt[tcp.flow]
    issues.add_rows("tuple", again, number, "another connection begins with the same addresses and ports")


def _check_sequence(tcp: Streams, issues: IssueList) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check that each segment begins where its side's last one ended.

    Returns where each segment ends, counted from its side's first number without wrapping, shape (packets,); and the
    first sequence number of each side, and whether there is one, shape (flows, 2).
    """
    packets, flow, length = tcp.packets, tcp.flow, tcp.length
    start = np.zeros(len(packets), np.int64)
    origin = np.zeros((len(tcp.first), 2), np.int64)
    has_sent = np.zeros((len(tcp.first), 2), bool)
    repeat = tcp.is_attempt[flow] & tcp.has(TCP_SYN)  # a SYN or SYN-ACK sent again, with the same number
    for side, sender in enumerate((tcp.up, ~tcp.up)):
        rows = np.flatnonzero(sender)
        seq, new = packets["seq"][rows], _is_first(flow[rows])
        step = _signed(np.diff(seq, prepend=seq[:1]))
        step[new] = 0
        start[rows] = _cumsum_within(step, new)
        origin[flow[rows[new]], side] = seq[new]
        has_sent[flow[rows], side] = True
        follows = start[rows] == np.r_[0, (start + length)[rows]][:-1]
        message = "it does not begin where its side's last segment ended"
        issues.add_rows("sequence", ~(follows | new | repeat[rows]), packets["number"][rows], message)
    return start + length, origin, has_sent


def _check_acknowledgements(
    tcp: Streams, end: np.ndarray, origin: np.ndarray, has_sent: np.ndarray, issues: IssueList
) -> tuple[np.ndarray, np.ndarray]:
    """Check acknowledgement numbers, and that none is repeated without need.

    Returns where in the other side's sequence each acknowledgement points, counted as `end`, and which packets have
    one; shape (packets,).
    """
    packets, flow, number = tcp.packets, tcp.flow, tcp.packets["number"]
    sent_up, sent_down = (_running_max(np.where(sender, end, 0), flow) for sender in (tcp.up, ~tcp.up))
    sent = np.where(tcp.up, sent_down, sent_up)  # by the other side, up to this packet
    peer = np.where(tcp.up, 1, 0)
    ahead = _signed((packets["ack"].astype(np.int64) - origin[flow, peer] - sent).astype(np.uint32))
    is_ack = tcp.has(TCP_ACK)
    has_ack = is_ack & has_sent[flow, peer]
    acked = np.where(has_ack, sent + ahead, 0)
    opened = (packets["flags"][tcp.first] & _SYN_ACK) == TCP_SYN
    answers_syn = ~tcp.up & is_ack & (tcp.has(TCP_SYN) | tcp.is_attempt[flow]) & opened[flow]
    wrong = answers_syn & (packets["ack"] != (origin[flow, 0] + 1 & 0xFFFFFFFF))
    issues.add_rows("acknowledgement", wrong, number, "it answers a SYN that has another sequence number")
    message = "it acknowledges data that was not sent before it"
    issues.add_rows("acknowledgement", has_ack & (ahead > 0), number, message)
    for sender in (tcp.up, ~tcp.up):
        rows = np.flatnonzero(sender & has_ack)
        later = ~_is_first(flow[rows])
        step = np.diff(acked[rows], prepend=0)
        message = "it acknowledges less than the segment before it"
        issues.add_rows("acknowledgement", later & (step < 0), number[rows], message)
        bare = (tcp.length[rows] == 0) & ~tcp.has(TCP_RST)[rows]
        same_window = np.diff(packets["window"][rows].astype(np.int64), prepend=-1) == 0
        duplicate = later & bare & (step == 0) & same_window
        issues.add_rows("duplicate", duplicate, number[rows], "it is a duplicate acknowledgement")
    return acked, has_ack


def _check_windows(tcp: Streams, end: np.ndarray, acked: np.ndarray, has_ack: np.ndarray, issues: IssueList) -> None:
    """Check that no data exceeds the other side's window, in connections whose SYN and SYN-ACK were captured."""
    packets, flow, syn = tcp.packets, tcp.flow, tcp.has(TCP_SYN)
    side = np.where(tcp.up, 0, 1)
    shift = np.full((len(tcp.first), 2), -2)  # -2: no SYN; -1: a SYN that does not offer to scale the window
    shift[flow[syn], side[syn]] = packets["shift"][syn]
    opened = np.asarray((shift > -2).all(1))
    scale = np.where((shift >= 0).all(1, keepdims=True), shift, 0)
    window = packets["window"].astype(np.int64) << np.where(syn, 0, scale[flow, side])
    edge = np.where(has_ack, np.maximum(acked + window, 0), 0)
    for sender in (tcp.up, ~tcp.up):
        limit = _running_max(np.where(sender, 0, edge), flow)
        beyond = sender & opened[flow] & (limit > 0) & (packets["payload"] > 0) & (end > limit)
        issues.add_rows("window", beyond, packets["number"], "its data exceeds the other side's window")


def _check_timestamps(tcp: Streams, issues: IssueList) -> None:
    packets, flow = tcp.packets, tcp.flow
    stamped = packets["stamped"]
    sides: tuple[np.ndarray, np.ndarray] = (tcp.up & stamped, ~tcp.up & stamped)
    for sender in sides:
        rows = np.flatnonzero(sender)
        step = _signed(np.diff(packets["stamp"][rows], prepend=np.uint32(0)))
        decreases = ~_is_first(flow[rows]) & (step < 0)
        issues.add_rows("timestamps", decreases, packets["number"][rows], "its timestamp is lower than the one before")
    for sender, peer in (sides, sides[::-1]):  # an echo is never later than the latest timestamp of the other side
        latest = np.maximum.accumulate(np.where(peer, np.arange(len(packets)), -1))
        rows = np.flatnonzero(sender & (latest >= 0) & tcp.has(TCP_ACK))
        rows = rows[flow[latest[rows]] == flow[rows]]
        early = _signed(packets["echo"][rows] - packets["stamp"][latest[rows]]) > 0
        issues.add_rows("timestamps", early, packets["number"][rows], "it echoes a timestamp that was not sent before")


def _check_closing(tcp: Streams, end: np.ndarray, acked: np.ndarray, issues: IssueList) -> None:
    flow, number, last = tcp.flow, tcp.packets["number"], tcp.last
    fin, reset = tcp.has(TCP_FIN), tcp.has(TCP_RST)
    closed = np.ones(len(last), bool)
    for sender in (tcp.up, ~tcp.up):
        finished, acknowledged = np.zeros((2, len(last)), np.int64)
        np.maximum.at(finished, flow[sender & fin], end[sender & fin])
        np.maximum.at(acknowledged, flow[~sender], acked[~sender])
        closed &= (finished > 0) & (acknowledged >= finished)
    is_last = np.zeros(len(flow), bool)
    is_last[last] = True
    wrong = reset & ~tcp.is_attempt[flow] & (~is_last | (tcp.packets["payload"] > 0))
    issues.add_rows("closing", wrong, number, "it resets the connection, but has data or is not the last packet")
    closed |= tcp.is_attempt | reset[last]
    message = "it is the last packet, but its connection is not closed both ways"
    issues.add_rows("closing", ~closed, number[last], message)


def _hash(words: np.ndarray) -> np.ndarray:
    """Hash 64-bit words by the finaliser of MurmurHash3 (Appleby)."""
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    words = (words ^ (words >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.asarray(words ^ (words >> np.uint64(33)))


def _is_first(flow: np.ndarray) -> np.ndarray:
    """Tell which rows are the first of their flow; rows are ordered by flow."""
    return np.asarray(np.r_[True, flow[1:] != flow[:-1]][: len(flow)])


def _signed(words: np.ndarray) -> np.ndarray:
    """Read 32-bit differences as signed numbers."""
    return words.astype(np.uint32).view(np.int32).astype(np.int64)


def _cumsum_within(step: np.ndarray, is_first: np.ndarray) -> np.ndarray:
    """Sum up the steps since the first row of each flow, whose own step does not count."""
    total = step.cumsum()
    first = np.flatnonzero(is_first)
    return np.asarray(total - np.repeat(total[first], np.diff(np.r_[first, len(step)])))


def _running_max(values: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Find the largest value so far in each flow; values from 0 to 2**40."""
    lifted = values + (flow << 40)
    return np.asarray(np.maximum.accumulate(lifted) - (flow << 40))
