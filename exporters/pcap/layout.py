"""The packets of a plan's flows: by (flow, bin, direction) first, then put in order of time.

A *cell* is a (flow, bin, direction) with packets; its *twin* is the same bin's other direction. Its
packets are, in order: those of the handshake (head), the others (middle), those of the closing
(tail). The middle of a bin goes in bursts: what the client asks comes first, then what the server
answers, with acknowledgements among and behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from netgen.capture.headers import TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN
from netgen.exporters.pcap.attempts import HALF_OPEN, NONE, REFUSED, even_sizes
from netgen.exporters.pcap.counter_rng import random_bits
from netgen.exporters.pcap.packet_sizes import data_packets, datagram_sizes, share, stream_sizes
from netgen.exporters.pcap.packets import DOWN, MTU, TCP_HEADERS, UP, Bools, Ints, Packets
from netgen.exporters.pcap.profiles import profile_sizes
from netgen.exporters.pcap.repair import small_packets
from netgen.exporters.pcap.timing import Sequence, given_times, offsets, paths

if TYPE_CHECKING:
    from netgen.exporters.pcap.plan import Plan

_CELL, _BURSTS = 34, 36  # streams of `random_bits`
_TRAIN = 10  # packets of one direction that go out together where nobody asks
_UPLOAD = 16  # packets that a client sends in one go, from which on it is no question
_MOST_BURSTS = 1 << 12
_CLOSING = 1 << 31  # burst of the closing
_FINE = 20  # bits of the place within a burst


class Layout:
    """The packets of the flows in `rows` of a plan."""

    def __init__(self, plan: Plan, rows: Ints) -> None:
        shape = plan.shape
        self.plan, self.rows, self.keys = plan, rows, plan.keys[rows]
        self.tcp, self.opened, self.attempt = shape.tcp[rows], shape.opened[rows], shape.attempt[rows]
        self.closer, self.reset, self.last_bin = shape.closer[rows], shape.reset[rows], shape.last_bin[rows]
        self.first_fin_bin, self.second_fin_bin = shape.first_fin_bin[rows], shape.second_fin_bin[rows]
        self.profile = plan.profiles.row[rows]
        self.paths = paths(self.keys, plan.spec.bin_ns)
        count = shape.count[rows]
        head, tail = self._roles(count, shape.syn_ack_bin[rows], shape.third_bin[rows])
        small = small_packets(count.shape, self.opened, shape.syn_ack_bin[rows], self.closer, self.last_bin)

        # cells, the direction running fastest: the two cells of a bin are neighbours
        self.flow, self.bin, self.side = np.nonzero(count.transpose(0, 2, 1))
        where = (self.flow, self.side, self.bin)
        self.count, self.heads, self.tails = count[where], head[where], tail[where]
        self.first, self.last = small[where] & 1, small[where] >> 1
        self.cells = len(self.count)
        self.tried = self.attempt[self.flow] > NONE
        # of attempts: the client has sent more than the server has answered, as the middle of the bin begins
        sent = count.cumsum(2) - count
        self.owed = (sent[:, UP] + head[:, UP] > sent[:, DOWN])[self.flow, self.bin]
        beside = np.r_[(self.flow[1:] == self.flow[:-1]) & (self.bin[1:] == self.bin[:-1]), False][: self.cells]
        number = np.arange(self.cells)
        self.twin = np.where(beside, number + 1, np.where(np.r_[False, beside[:-1]][: self.cells], number - 1, -1))
        self.group = np.cumsum(~np.r_[False, beside[:-1]][: self.cells]) - 1  # number of the bin among all

        self.cell = np.repeat(number, self.count)
        ends = self.count.cumsum()
        self.place = np.arange(len(self.cell)) - (ends - self.count)[self.cell]  # number in the cell
        # where the packets of the bin begin, for both of its cells
        self.start = ends - self.count - np.where(self.side == DOWN, self._other(self.count), 0)

        self.headers = shape.headers[rows][self.flow]
        self.extra = shape.extra[rows][self.flow]
        self.mtu = MTU - self.extra
        free = self.count - self.first - self.last
        last_least = np.where(self.reset[self.flow], TCP_HEADERS, self.headers)
        self.share = share(shape.size[rows][where], free, self.first, self.last, self.headers, last_least, self.mtu)
        self._carry(free)

    def _other(self, values: Ints) -> Ints:
        """What the twin of each cell has; 0 where there is none."""
        return np.where(self.twin >= 0, values[self.twin], 0) if self.cells else values

    def _roles(self, count: Ints, syn_ack_bin: Ints, third_bin: Ints) -> tuple[Ints, Ints]:
        """Packets of the handshake and of the closing in each (flow, direction, bin)."""
        head, tail = np.zeros_like(count), np.zeros_like(count)
        head[:, UP, 0] += 1
        rows = np.flatnonzero(self.opened)
        head[rows, DOWN, syn_ack_bin[rows]] += 1
        head[rows, UP, third_bin[rows]] += 1
        rows = np.flatnonzero(self.opened | self.reset)
        tail[rows, self.closer[rows], self.last_bin[rows]] += 1
        rows = np.flatnonzero(self.opened & ~self.reset)
        tail[rows, 1 - self.closer[rows], self.second_fin_bin[rows]] += 1
        # with three client packets the handshake's third is also the first FIN, and stays a head
        own = rows[count[rows, self.closer[rows]].sum(1) > 3 - self.closer[rows]]
        tail[own, self.closer[own], self.first_fin_bin[own]] += 1
        return head, tail

    def _carry(self, free: Ints) -> None:
        """Which packets carry data: those of the middle first, then the handshake's third, then a FIN."""
        room = self.mtu - self.headers
        self.data = np.where(self.tried, 0, self.share.rest - self.headers * free)
        least = -(-self.data // room)
        # the handshake's third packet is bare where the others have room for the data
        early = self.heads - self.first  # free packets before the middle
        bare = self.opened[self.flow] & (least <= free - early) & (free > early)
        free = np.where(bare, free - early, free)
        other = [self._other(values) for values in (least, free, self.data)]
        self.carriers = np.where(self.tcp[self.flow], data_packets(free, self.data, room, *other), free)
        self.middle = self.count - self.heads - self.tails
        self.middle_data = np.minimum(self.carriers, self.middle)
        over = self.carriers - self.middle_data
        third = np.minimum(over, early)
        cell, index = self.cell, self.place - self.first[self.cell]  # number among the free packets
        inside = index - early[cell]
        in_middle = (inside >= 0) & (inside < self.middle[cell])
        is_small = (index < 0) | ((self.last > 0)[cell] & (self.place == self.count[cell] - 1))
        self.in_middle = in_middle
        self.is_small = is_small
        closes = (self.side == self.closer[self.flow]) & (self.bin == self.last_bin[self.flow])
        self.aborted = self.reset[self.flow] & closes
        self.resets = self.aborted[cell] & (self.place == self.count[cell] - 1)
        self.carries = ~is_small & np.where(
            in_middle,
            inside < self.middle_data[cell],
            np.where(inside < 0, third[cell] > 0, (over - third)[cell] > 0),
        )
        # number of the data packet in its cell
        self.data_index = np.where(inside < 0, 0, np.where(in_middle, third[cell] + inside, self.carriers[cell] - 1))

    def packets(self) -> Packets:
        """Columns in order of time."""
        cell = self.cell
        burst, middle_rank = self._bursts()
        target = self.start[cell] + self._rank(middle_rank)
        size, headers = self._sizes()
        flags = self._flags(size, headers)
        order = np.empty(len(cell), dtype=np.int64)
        order[target] = np.arange(len(cell))
        cell, burst = cell[order], burst[order]
        up = self.side[cell] == UP
        flow, start, extra = self.flow[cell], self.start[cell], self.extra[cell]
        pause = _pauses(burst, start)
        # a kernel that knows nothing of the SYN resets its answer at once
        pause[(self.resets & self.tried[self.cell])[order] & (start < np.arange(len(start)))] = 0
        size, headers, flags = size[order] + extra, headers[order] + extra, flags[order]
        sequence = Sequence(
            flow=flow,
            bin=self.bin[cell],
            start=start,
            up=up,
            asks=(size > headers) | ((flags & (TCP_SYN | TCP_FIN)) > 0),
            pause=pause,
            answers=_answers(burst, start, up),
            size=size,
            gaps=self.profile[flow],
        )
        if self.plan.begins is None:
            times = offsets(sequence, self.keys, self.paths, self.plan.profiles.gaps, self.plan.spec.bin_ns)
        else:
            times = given_times(flow, self.plan.begins[self.rows][flow, sequence.bin], self.plan.number[self.rows])
        return Packets(flow=self.rows[flow], offset_ns=times, up=up, size=size, headers=headers, flags=flags)

    def _bursts(self) -> tuple[Ints, Ints]:
        """The burst of each packet (-1: handshake, `_CLOSING`), and its rank in the bin's middle."""
        up = self.side == UP
        mine, other = self.middle_data, self._other(self.middle_data)
        asked, answered = np.where(up, mine, other), np.where(up, other, mine)
        most = np.where(asked * answered > 0, np.minimum(asked, answered), -(-(asked + answered) // _TRAIN))
        time = self.plan.spec.bin_ns // (2 * self.paths.rtt_ns[self.flow])
        most = np.clip(np.minimum(most, time), 1, _MOST_BURSTS)
        word = random_bits(self.keys[self.flow], _BURSTS, self.bin) >> np.uint64(1)
        bursts = 1 + word.astype(np.int64) % most

        rows = np.flatnonzero(self.in_middle)
        cell = self.cell[rows]
        inside = (self.place - self.heads[self.cell])[rows]
        data = inside < mine[cell]
        many = np.where(data, mine[cell], (self.middle - mine)[cell])
        index, turns = np.where(data, inside, inside - mine[cell]), bursts[cell]
        burst = index * turns // many
        begin, end = -(-burst * many // turns), -(-(burst + 1) * many // turns)
        index, many = index - begin, end - begin
        # data packet i of n stands at (i + 1/2) / n; an acknowledgement behind what it acknowledges
        fine = np.where(data, ((2 * index + 1) << (_FINE - 1)) // many, ((index + 1) << _FINE) // many)
        # where the client sends much, the server answers meanwhile: at once, then now and then
        upload = (asked // bursts)[cell] > _UPLOAD
        meanwhile = (index << _FINE) // many + (3 << (_FINE - 1)) // np.maximum(-(-asked // bursts)[cell], 2)
        fine = np.where(upload & data & ~up[cell], np.minimum(meanwhile, (1 << _FINE) - 1), fine)
        second = np.where(data, ~up[cell] & ~upload, up[cell] | (asked[cell] == 0))
        # each refusal comes behind its SYN; who is accepted asks no more
        tried = self.tried[cell]
        accepted = (self.attempt[self.flow] == HALF_OPEN)[cell]
        before = np.where(accepted, np.where(up, 0, self._other(self.middle))[cell], (up & self.owed)[cell])
        burst = np.where(tried, inside + before, burst)
        second = np.where(tried, ~up[cell], second)
        key = (self.group[cell] << 12 | burst) << (_FINE + 3)
        key |= second.astype(np.int64) << (_FINE + 2) | fine << 1 | ~data
        order = np.argsort(key, kind="stable")
        place = np.empty(len(rows), dtype=np.int64)
        place[order] = np.arange(len(rows))
        # less what stands in the middles of the bins before
        middles = np.bincount(self.group, self.middle, self.group[-1] + 1 if self.cells else 0).astype(np.int64)
        place -= (middles.cumsum() - middles)[self.group[cell]]

        all_bursts = np.where(self.place < self.heads[self.cell], -1, _CLOSING)
        all_bursts[rows] = burst
        rank = np.zeros(len(self.cell), dtype=np.int64)
        rank[rows] = place
        return all_bursts, rank

    def _rank(self, middle_rank: Ints) -> Ints:
        """Place of each packet among those of its bin: heads, then the middle, then tails."""
        cell, place = self.cell, self.place
        up = (self.side == UP)[cell]
        heads_both = (self.heads + self._other(self.heads))[cell]
        middle_both = (self.middle + self._other(self.middle))[cell]

        # the client's second packet comes after the SYN-ACK, that after the SYN
        syn = (self.bin == 0)[cell]
        head = np.where(up, np.where(syn & (place == 0), 0, heads_both - 1), syn)

        # X's FIN, Y's FIN, X's last packet
        tails_opposite = self._other(self.tails)
        last = (self.last > 0)[cell] & (place == self.count[cell] - 1)
        closes = self.side[cell] == self.closer[self.flow[cell]]
        first_fin_here = tails_opposite - np.where(self._last_beside(), 1, 0)
        before = np.where(last, (self.tails + tails_opposite)[cell] - 1, np.where(closes, 0, first_fin_here[cell]))
        tail = heads_both + middle_both + before
        return np.where(place < self.heads[cell], head, np.where(self.in_middle, heads_both + middle_rank, tail))

    def _last_beside(self) -> Bools:
        """Cells beside which, in the other direction, the flow's last packet stands."""
        flow = self.flow
        beside: Bools = (self.side != self.closer[flow]) & (self.bin == self.last_bin[flow])
        return self.opened[flow] & beside

    def _sizes(self) -> tuple[Ints, Ints]:
        """Size and header bytes of each packet, in cell order; a cell's sizes add up to its bytes."""
        cell, headers = self.cell, self.headers[self.cell]
        room = self.mtu - self.headers
        size = headers + np.where(
            self.carries, stream_sizes(self.data_index, cell, self.carriers, self.data, room), 0
        )  # fmt: skip
        if not self.tcp.all():
            size = self._datagrams(size)
        opening = (self.place == 0) & (self.first > 0)[cell]
        small = np.where(opening, self.share.first[cell], self.share.last[cell])
        size = np.where(self.is_small, small, size)
        bare = self.tried[cell]
        own = cell[bare]
        size[bare] = even_sizes(self.share.rest[own], self.count[own], self.place[bare], self.aborted[own])
        return size, np.where(self.is_small | bare, size, headers)

    def _datagrams(self, size: Ints) -> Ints:
        """Sizes, those of all packets but TCP's drawn: as the class's are, or alike."""
        keys = random_bits(self.keys[self.flow], _CELL, self.bin * 2 + self.side)
        profile = self.profile[self.flow]
        for like_class in (False, True):
            cells = np.flatnonzero(~self.tcp[self.flow] & ((profile >= 0) == like_class))
            if not len(cells):
                continue
            rows = np.flatnonzero(np.isin(self.cell, cells))
            place = np.zeros(self.cells, dtype=np.int64)
            place[cells] = np.arange(len(cells))
            cell = place[self.cell[rows]]
            share = (self.place[rows], cell, self.count[cells], self.share.rest[cells], self.mtu[cells], keys[cells])
            if like_class:
                size[rows] = profile_sizes(self.plan.profiles, profile[cells], self.side[cells], *share)
            else:
                size[rows] = datagram_sizes(*share)
        return size

    def _flags(self, size: Ints, headers: Ints) -> NDArray[np.uint8]:
        """TCP flags, in cell order."""
        cell, place = self.cell, self.place
        flow, side = self.flow[cell], self.side[cell]
        tcp, last = self.tcp[flow], place == self.count[cell] - 1
        tried = self.tried[cell]
        reset = self.resets | ((self.attempt[flow] == REFUSED) & (side == DOWN))
        syn = tcp & np.where(tried, ~reset, (self.first > 0)[cell] & (place == 0))
        # a SYN has nothing to acknowledge yet, and what resets a SYN-ACK takes its number from there
        no_ack = (side == UP) & (syn | (tried & reset))
        flags = np.where(tcp & ~no_ack, TCP_ACK, 0) | np.where(syn, TCP_SYN, 0) | np.where(reset, TCP_RST, 0)
        # a full packet is one of a train; what follows a short one waits
        flags |= np.where(tcp & (size > headers) & (size < self.mtu[cell]), TCP_PSH, 0)

        closes = side == self.closer[flow]
        closed = self.opened[flow] & ~self.reset[flow]
        first_fin = self.first_fin_bin[flow] == self.bin[cell]
        first_fin &= closes & (place == self.count[cell] - 1 - (self.last > 0)[cell])
        second_fin = ~closes & (self.second_fin_bin[flow] == self.bin[cell]) & last
        return (flags | np.where(closed & (first_fin | second_fin), TCP_FIN, 0)).astype(np.uint8)


def _pauses(burst: Ints, start: Ints) -> Ints:
    """How long somebody thinks before each packet, in 1/16: before a bin's first and a burst's first.

    Not within handshake, closing and bursts; hardly between the handshake and what it was made for.
    """
    if not len(burst):
        return burst
    before = np.r_[-1, burst[:-1]]
    first = np.r_[True, start[1:] != start[:-1]]
    return np.where(first, 16, np.where(burst != before, np.where(before < 0, 1, 16), 0))


def _answers(burst: Ints, start: Ints, up: Bools) -> Bools:
    """Packets with which the server begins to answer: the first of a burst, any of handshake and closing."""
    if not len(burst):
        return up
    new = np.r_[True, (start[1:] != start[:-1]) | (burst[1:] != burst[:-1])]
    down = np.cumsum(~up)
    first: Bools = down - (down - ~up)[np.flatnonzero(new)][np.cumsum(new) - 1] == 1
    return ~up & (first | (burst < 0) | (burst == _CLOSING))
