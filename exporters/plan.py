"""Series -> packets, spending in every bin and direction exactly the packets and bytes of the series.

The closed loop: what is extracted from the capture is the series that went in, integer for
integer. `plan` mends the series of a whole table (see `exporters.mend`); `Plan.packets` then
lays out the packets of any of its flows. No loop runs over flows or packets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from capture.errors import OutputError
from capture.flows import FlowTable
from capture.headers import PROTOCOL_TCP, PROTOCOL_UDP, TCP_ACK, TCP_FIN, TCP_PSH, TCP_SYN
from capture.series import SeriesSpec
from exporters.draws import Words, draw, flow_keys, occurrences, uniform
from exporters.mend import (
    DOWN,
    MTU,
    SMALL_MAX,
    STAMPED_HEADERS,
    STAMPED_SYN,
    SYN_SIZE,
    TCP_HEADERS,
    UDP_HEADERS,
    UP,
    Bools,
    Ints,
    Shape,
    mend,
    small_packets,
)

OTHER_PROTOCOL = "neither TCP nor UDP: written as UDP"

_GAP, _JITTER = 32, 33  # streams of `draw`
_MEND_BLOCK = 4096  # flows mended at a time: 4 KB each and a dozen copies


@dataclasses.dataclass(frozen=True)
class Packets:
    """Packets in columns, in the order of the flows and, in each, of time; all of shape (packets,).

    Parameters
    ----------
    flow : ndarray of int64
        Row of the plan.
    offset_ns : ndarray of int64
        Time since the flow's first packet.
    up : ndarray of bool
        From the initiator.
    size : ndarray of int64
        IP bytes.
    headers : ndarray of int64
        Of those, the IP and TCP or UDP headers with their options.
    flags : ndarray of uint8
        TCP flags; 0 for UDP.
    """

    flow: Ints
    offset_ns: Ints
    up: Bools
    size: Ints
    headers: Ints
    flags: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.flow)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What will be written for every flow of a table.

    Parameters
    ----------
    spec : SeriesSpec
    shape : Shape
        The mended series and the places of packets with a role.
    seed : int
    number, occurrence : ndarray of int64, shape (flows,)
        The flow's number in the table and how often it came before; with the seed, all that a
        flow's random draws depend on.
    """

    spec: SeriesSpec
    shape: Shape
    seed: int
    number: Ints
    occurrence: Ints

    def __len__(self) -> int:
        return len(self.number)

    @property
    def series(self) -> Ints:
        """The series as the capture will have it, shape (flows, 4, bins)."""
        return self.shape.series

    @property
    def mended(self) -> dict[str, int]:
        """Reason -> flows whose series or protocol had to be changed for it."""
        return {reason: int(flows.sum()) for reason, flows in self.shape.reasons.items()}

    @property
    def keys(self) -> Words:
        """Keys of the flows' random draws, shape (flows,)."""
        return flow_keys(self.seed, self.number, self.occurrence)

    @property
    def packet_counts(self) -> Ints:
        """Packets of each flow, shape (flows,)."""
        counts: Ints = self.shape.count.sum((1, 2))
        return counts

    def blocks(self, order: Ints, packets: int) -> Iterator[Ints]:
        """Cut the flows of `order` into blocks of about `packets` packets, at least one flow each."""
        block = self.packet_counts[order].cumsum() // packets
        yield from np.split(order, np.flatnonzero(np.diff(block)) + 1) if len(order) else ()

    def packets(self, rows: Ints) -> Packets:
        """The packets of the flows in `rows`, in that order."""
        return _Layout(self, rows).packets()


def plan(table: FlowTable, *, seed: int = 0) -> Plan:
    """Mend the series of all flows and fix what every packet will be.

    A flow without a protocol becomes TCP. Same seed and flow, same packets, whatever other flows
    the table has.

    Raises
    ------
    OutputError
        If a bin has more packets than nanoseconds.
    """
    protocol = table.table["protocol"].fill_null(PROTOCOL_TCP).to_numpy().astype(np.int64)
    tcp = protocol == PROTOCOL_TCP
    series = table.series()
    parts = [
        mend(series[at : at + _MEND_BLOCK], tcp[at : at + _MEND_BLOCK], table.spec.bin_ns)
        for at in range(0, max(len(series), 1), _MEND_BLOCK)
    ]
    shape = _join(parts)
    foreign = ~tcp & (protocol != PROTOCOL_UDP)
    if foreign.any():
        shape.reasons[OTHER_PROTOCOL] = foreign
    crowded = shape.count.sum(1) >= table.spec.bin_ns
    if crowded.any():
        row, where = (int(index[0]) for index in np.nonzero(crowded))
        raise OutputError(
            f"flow {row} has {int(shape.count[row, :, where].sum())} packets in bin {where}, "
            f"which is {table.spec.bin_ns} ns wide: no two packets can have their own time",
            "Extract it with wider bins: --bin 1ms",
        )
    number = table.table["flow"].to_numpy().astype(np.int64)
    return Plan(table.spec, shape, seed, number, occurrences(number))


def _join(parts: list[Shape]) -> Shape:
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in dataclasses.fields(Shape) if field.name != "reasons"]
    flows = [len(part.tcp) for part in parts]
    reasons = {
        reason: np.concatenate(
            [part.reasons.get(reason, np.zeros(n, dtype=bool)) for part, n in zip(parts, flows, strict=True)]
        )
        for reason in dict.fromkeys(reason for part in parts for reason in part.reasons)
    }
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Shape(**joined, reasons=reasons)


class _Layout:
    """The packets of some flows: first by (flow, bin, direction), then put in order of time.

    A *cell* is a (flow, bin, direction) with packets. Its packets are, in order: those of the
    handshake (head), the others, those of the closing (tail).
    """

    def __init__(self, plan: Plan, rows: Ints) -> None:
        shape = plan.shape
        self.plan, self.rows = plan, rows
        self.tcp, self.headers = shape.tcp[rows], shape.headers[rows]
        self.closer = shape.closer[rows]
        self.syn_ack_bin, self.third_bin = shape.syn_ack_bin[rows], shape.third_bin[rows]
        self.last_bin = shape.last_bin[rows]
        count = shape.count[rows]
        self.head, self.tail = self._roles(count, shape.first_fin_bin[rows], shape.second_fin_bin[rows])
        small = small_packets(count.shape, self.tcp, self.syn_ack_bin, self.closer, self.last_bin)

        # cells, the direction running fastest: the two cells of a bin are neighbours
        self.flow, self.bin, self.side = np.nonzero(count.transpose(0, 2, 1))
        where = (self.flow, self.side, self.bin)
        opposite = (self.flow, 1 - self.side, self.bin)
        self.count, self.size = count[where], shape.size[rows][where]
        self.count_opposite = count[opposite]
        self.heads, self.heads_opposite = self.head[where], self.head[opposite]
        self.tails, self.tails_opposite = self.tail[where], self.tail[opposite]
        self.first_small, self.last_small = small[where] & 1, small[where] >> 1

        self.cell = np.repeat(np.arange(len(self.count)), self.count)
        ends = self.count.cumsum()
        self.place = np.arange(len(self.cell)) - (ends - self.count)[self.cell]  # number in the cell
        # where the packets of the bin begin, for both of its cells
        self.bin_start = ends - self.count - np.where(self.side == DOWN, self.count_opposite, 0)

    def _roles(self, count: Ints, first_fin: Ints, second_fin: Ints) -> tuple[Ints, Ints]:
        """Packets of the handshake and of the closing in each (flow, direction, bin)."""
        head, tail = np.zeros_like(count), np.zeros_like(count)
        head[:, UP, 0] += 1
        rows = np.flatnonzero(self.tcp)
        head[rows, DOWN, self.syn_ack_bin[rows]] += 1
        head[rows, UP, self.third_bin[rows]] += 1
        tail[rows, self.closer[rows], self.last_bin[rows]] += 1
        tail[rows, 1 - self.closer[rows], second_fin[rows]] += 1
        # with three client packets the handshake's third is also the first FIN, and stays a head
        own = rows[count[rows, self.closer[rows]].sum(1) > 3 - self.closer[rows]]
        tail[own, self.closer[own], first_fin[own]] += 1
        return head, tail

    def packets(self) -> Packets:
        """Columns in order of time."""
        cell = self.cell
        target = self.bin_start[cell] + self._rank()
        size, headers = self._sizes()
        flags = self._flags(size, headers)
        order = np.empty(len(cell), dtype=np.int64)
        order[target] = np.arange(len(cell))
        side = self.side[cell][order]
        flow = self.flow[cell][order]
        return Packets(
            flow=self.rows[flow],
            offset_ns=self._offsets(flow, side, order),
            up=side == UP,
            size=size[order],
            headers=headers[order],
            flags=flags[order],
        )

    def _rank(self) -> Ints:
        """Place of each packet among those of its bin: heads, then both directions evenly mixed, then tails."""
        cell, place = self.cell, self.place
        up = (self.side == UP)[cell]
        heads, heads_both = self.heads[cell], (self.heads + self.heads_opposite)[cell]
        mine = self.count - self.heads - self.tails
        other = self.count_opposite - self.heads_opposite - self.tails_opposite

        # the client's second packet comes after the SYN-ACK, that after the SYN
        syn = (self.bin == 0)[cell]
        head = np.where(up, np.where(syn & (place == 0), 0, heads_both - 1), syn)

        # even mixing: packet i of m stands at (i + 1/2) / m; the client's come first where equal
        m, o, i = np.maximum(mine, 1)[cell], other[cell], place - heads
        ahead = np.where(up, -((m - (2 * i + 1) * o) // (2 * m)), ((2 * i + 1) * o - m) // (2 * m) + 1)
        middle = heads_both + i + np.clip(ahead, 0, o)

        # X's FIN, Y's FIN, X's last packet
        last = (self.last_small > 0)[cell] & (place == self.count[cell] - 1)
        closes = self.side[cell] == self.closer[self.flow[cell]]
        first_fin_here = self.tails_opposite - np.where(self._last_cell_opposite(), 1, 0)
        before = np.where(last, (self.tails + self.tails_opposite)[cell] - 1, np.where(closes, 0, first_fin_here[cell]))
        tail = heads_both + (mine + other)[cell] + before
        return np.where(place < heads, head, np.where(i < mine[cell], middle, tail))

    def _last_cell_opposite(self) -> Bools:
        """Cells beside which, in the other direction, the flow's last packet stands."""
        flow = self.flow
        beside: Bools = (self.side != self.closer[flow]) & (self.bin == self.last_bin[flow])
        return self.tcp[flow] & beside

    def _sizes(self) -> tuple[Ints, Ints]:
        """Size and header bytes of each packet, in cell order; a cell's sizes add up to its bytes."""
        headers = self.headers[self.flow]
        stamped = headers == STAMPED_HEADERS
        first, last = self.first_small, self.last_small
        free = self.count - first - last
        first_default = np.where(stamped, STAMPED_SYN, SYN_SIZE)
        first_least = np.where(stamped, STAMPED_SYN, TCP_HEADERS)
        rest = self.size - first * first_default - last * headers

        # small packets shrink where the others would fall short of their headers, and grow where they burst
        lack = -(-np.maximum(headers * free - rest, 0) // 4) * 4
        burst = -(-np.maximum(rest - MTU * free, 0) // 4) * 4
        first_size = first * np.clip(first_default - lack + burst, first_least, SMALL_MAX)
        last_size = last * np.clip(self.size - first_size - MTU * free + 3 & ~3, headers, SMALL_MAX)
        # with no other packet in the cell the two share its bytes
        alone = (free == 0) & (first > 0)
        first_size = np.where(
            alone & (last > 0),
            np.clip(first_default, self.size - SMALL_MAX, self.size - headers),
            np.where(alone, self.size, first_size),
        )
        last_size = np.where((free == 0) & (last > 0), self.size - first_size, last_size)
        rest = self.size - first_size - last_size

        cell, place = self.cell, self.place
        is_first = (first[cell] > 0) & (place == 0)
        is_last = (last[cell] > 0) & (place == self.count[cell] - 1)
        index, many = place - first[cell], np.maximum(free, 1)
        # the cell of a FIN ends in bare packets, any other in the rest of its data
        index = np.where((self.tails > 0)[cell], many[cell] - 1 - index, index)
        tcp = self.tcp[self.flow]
        bulk = _bulk_sizes(index, cell, many, rest, headers)
        even = self._even_sizes(index, many, rest) if not tcp.all() else bulk
        size = np.where(tcp[cell], bulk, even)
        size = np.where(is_first, first_size[cell], np.where(is_last, last_size[cell], size))
        return size, np.where(is_first | is_last, size, headers[cell])

    def _even_sizes(self, index: Ints, many: Ints, rest: Ints) -> Ints:
        """Sizes of a datagram protocol: alike but for a jitter that cancels out in pairs."""
        cell = self.cell
        mean, more = rest // many, rest % many
        size = mean[cell] + (index < more[cell])
        pair = index >> 1
        both = (pair * 2 + 1 < many[cell]) & (index >= 0)
        # the larger of a pair must still fit, and the smaller keep its headers
        room = np.minimum(np.minimum(mean - UDP_HEADERS, MTU - 1 - mean), mean >> 3)
        word = draw(self._cell_keys()[cell], _JITTER, pair + 1)
        shift = (uniform(word) * (np.maximum(room, 0)[cell] + 1)).astype(np.int64)
        return size + np.where(both, np.where(index & 1, -shift, shift), 0)

    def _cell_keys(self) -> Words:
        keys = self.plan.keys[self.rows][self.flow]
        return draw(keys, 34, self.bin * 2 + self.side)

    def _flags(self, size: Ints, headers: Ints) -> NDArray[np.uint8]:
        """TCP flags, in cell order."""
        cell, place = self.cell, self.place
        flow, side = self.flow[cell], self.side[cell]
        tcp, last = self.tcp[flow], place == self.count[cell] - 1
        syn = tcp & (self.first_small > 0)[cell] & (place == 0)
        flags = np.where(tcp & ~(syn & (side == UP)), TCP_ACK, 0) | np.where(syn, TCP_SYN, 0)
        # a full packet is one of a train; what follows a short one waits
        flags |= np.where(tcp & (size > headers) & (size < MTU), TCP_PSH, 0)

        shape, rows = self.plan.shape, self.rows
        closes = side == self.closer[flow]
        first_fin = shape.first_fin_bin[rows][flow] == self.bin[cell]
        final = (self.last_small > 0)[cell]
        first_fin &= closes & (place == self.count[cell] - 1 - final)
        second_fin = ~closes & (shape.second_fin_bin[rows][flow] == self.bin[cell]) & last
        return (flags | np.where(tcp & (first_fin | second_fin), TCP_FIN, 0)).astype(np.uint8)

    def _offsets(self, flow: Ints, side: Ints, order: Ints) -> Ints:
        """Times since the flow's first packet, strictly inside the bins, strictly increasing; in order of time."""
        cell = self.cell[order]
        where, start = self.bin[cell], self.bin_start[cell]
        rank = np.arange(len(flow)) - start
        bin_count = (self.count + self.count_opposite)[cell]
        zero = (where == 0).astype(np.int64)  # there the first packet is at 0 and the rest begin after it
        keys = self.plan.keys[self.rows]
        # exponential gaps, ten times shorter inside a train of one direction and in handshake and
        # closing; integers, since sums of floats would depend on the flows before
        gap = -np.log1p(-uniform(draw(keys[flow], _GAP, where * (1 << 32) + rank)))
        train = np.r_[False, (side[1:] == side[:-1]) & (start[1:] == start[:-1])][: len(flow)]
        train |= (rank < (self.heads + self.heads_opposite)[cell]) & (rank > 0)
        train |= rank >= bin_count - (self.tails + self.tails_opposite)[cell]
        weight = (gap * np.where(train, 1 << 14, 160 << 10)).astype(np.int64) + 1
        weight[(rank == 0) & (where == 0)] = 0
        reached = weight.cumsum()
        reached -= (reached - weight)[start]
        end = start + bin_count - 1
        rest = -np.log1p(-uniform(draw(keys[flow[end]], _GAP, where * (1 << 32) + bin_count)))
        whole = reached[end] + (rest * (320 << 10)).astype(np.int64) + 1
        width = self.plan.spec.bin_ns
        spare = width - 1 - (bin_count - zero)
        inside = np.minimum((reached / whole * spare).astype(np.int64), spare) + rank + 1 - zero
        return where * width + np.where((rank == 0) & (zero == 1), 0, inside)


def _bulk_sizes(index: Ints, cell: Ints, many: Ints, rest: Ints, headers: Ints) -> Ints:
    """Sizes of a byte stream: full packets and one remainder, spread among bare acknowledgements."""
    room = MTU - headers
    data = rest - headers * many
    full, short = np.divmod(data, room)
    busy = full + (short > 0)
    # packet i of n carries data where floor(i busy / n) steps: evenly spread, the last of them at the end
    turn = index * busy[cell] // many[cell]
    carries = (index + 1) * busy[cell] // many[cell] > turn
    return headers[cell] + np.where(carries, np.where(turn < full[cell], room[cell], short[cell]), 0)
