"""The packets of a plan's flows: by (flow, bin, direction) first, then put in order of time.

A *cell* is a (flow, bin, direction) with packets; its *twin* is the same bin's other direction. Its
packets are, in order: those of the handshake (head), the others (middle), those of the closing
(tail). The middle of a bin is sent in bursts: first what the client asks, then what the server
answers, with acknowledgements among and behind it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from netgen.capture.headers import TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN
from netgen.capture.series.counters import count_packets
from netgen.exporters.pcap.counter_rng import random_bits
from netgen.exporters.pcap.packets import DOWN, MTU, TCP_HEADERS, UP, Bools, Ints, Packets, cumsum_in_runs, run_starts
from netgen.exporters.pcap.plan import Plan
from netgen.exporters.pcap.sizes_and_times import (
    Sequence,
    bare_sizes,
    data_packets,
    datagram_sizes,
    profile_sizes,
    sample_paths,
    sample_times,
    space_out,
    stream_sizes,
)
from netgen.exporters.pcap.tcp_lifecycle import HALF_OPEN, REFUSED, attempt_sizes, bare_packets

_CELL, _BURSTS = 34, 36  # streams of `random_bits`
_TRAIN = 10  # packets of one direction that are sent together where the other side is silent
_UPLOAD = 16  # packets in a burst of a client from which on it is an upload, not a question
_MAX_BURSTS = 1 << 12
_CLOSING = 1 << 31  # burst number of the closing; that of the handshake is -1
_FINE = 20  # bits of the position within a burst


@dataclasses.dataclass(frozen=True)
class _Cells:
    """Cells, ordered by flow, bin and direction; arrays of shape (cells,)."""

    flow: Ints
    bin: Ints
    side: Ints
    count: Ints  # packets
    heads: Ints  # packets of the handshake
    tails: Ints  # packets of the closing
    first: Ints  # 1 if the cell begins with a bare packet, else 0
    last: Ints  # 1 if it ends with one
    twin: Ints  # index of the twin, -1 if the other direction has no packets
    group: Ints  # index of the bin among all bins with packets
    start: Ints  # index of the bin's first packet
    closing: Bools  # has the flow's last packet
    headers: Ints  # bytes of a packet's headers
    mtu: Ints  # bytes of the largest packet

    def __len__(self) -> int:
        return len(self.flow)

    @property
    def middle(self) -> Ints:
        """Packets of neither handshake nor closing."""
        return self.count - self.heads - self.tails

    def of_twin(self, values: Ints) -> Ints:
        """Return the values of the twins, 0 where there is none."""
        return np.where(self.twin >= 0, values[self.twin], 0) if len(values) else values


@dataclasses.dataclass(frozen=True)
class _Load:
    """Bytes of cells (cells,), and which packets carry them (packets,)."""

    first_size: Ints  # bytes of the bare packet at the beginning of a cell
    last_size: Ints  # of that at the end
    rest: Ints  # of all others
    data: Ints  # payload bytes
    carriers: Ints  # packets that carry them
    middle_data: Ints  # those of them in the middle
    index: Ints  # position of a data packet among those of its cell
    carries: Bools  # the packet carries data
    bare: Bools  # it is one of the cell's bare packets


@dataclasses.dataclass(frozen=True)
class _Slots:
    """Packets in the order of their cells; arrays of shape (packets,)."""

    cell: Ints
    index: Ints  # position in the cell
    in_middle: Bools
    is_last: Bools  # of its cell
    is_rst: Bools  # ends a connection or an attempt


def lay_out(plan: Plan, rows: Ints) -> Packets:
    """Make the packets of the flows in `rows` of a plan, in that order."""
    flows = plan.take(rows)
    keys = flows.keys
    paths = sample_paths(keys, flows.spec.bin_ns)
    cells = _find_cells(flows)
    slots = _find_slots(flows, cells)
    load = _load_packets(flows, cells, slots)
    burst, middle_rank = _sample_bursts(flows, cells, slots, load, keys, paths[0])
    size, headers = _packet_sizes(flows, cells, slots, load, keys)
    flags = _tcp_flags(flows, cells, slots, size, headers)

    order = np.empty(len(slots.cell), dtype=np.int64)
    order[cells.start[slots.cell] + _rank_in_bin(flows, cells, slots, middle_rank)] = np.arange(len(order))
    cell, burst, flags = slots.cell[order], burst[order], flags[order]
    flow, start, up = cells.flow[cell], cells.start[cell], cells.side[cell] == UP
    size, headers = size[order] + flows.ip_overhead[flow], headers[order] + flows.ip_overhead[flow]
    pause = _pauses(burst, start)
    # a kernel that knows nothing of the SYN resets its answer at once
    pause[slots.is_rst[order] & flows.is_attempt[flow] & (start < np.arange(len(start)))] = 0
    if flows.times is None:
        sequence = Sequence(
            flow=flow,
            bin=cells.bin[cell],
            start=start,
            up=up,
            asks=(size > headers) | ((flags & (TCP_SYN | TCP_FIN)) > 0),
            pause=pause,
            answers=_answers(burst, start, up),
            size=size,
            profile=flows.profiles.row[flow],
        )
        times = sample_times(sequence, keys, paths, flows.profiles.gaps, flows.spec.bin_ns)
    else:
        times = space_out(flow, flows.times[flow, cells.bin[cell]], flows.number)
    return Packets(flow=rows[flow], offset_ns=times, up=up, size=size, headers=headers, flags=flags)


def written_series(plan: Plan) -> Ints:
    """Compute the series that the capture will have, shape (flows, channels, length)."""
    if plan.times is None:
        return plan.series
    packets = lay_out(plan, np.arange(len(plan)))
    return count_packets(packets.flow, packets.offset_ns, packets.size, packets.up, len(plan), plan.spec)[0]


def _find_cells(flows: Plan) -> _Cells:
    head, tail = _roles(flows)
    first, last = bare_packets(flows.count.shape, flows.opened, flows.syn_ack_bin, flows.closer, flows.closing_bin)
    # the direction varies fastest: the two cells of a bin are neighbours
    flow, bins, side = np.nonzero(flows.count.transpose(0, 2, 1))
    where = (flow, side, bins)
    number, count = np.arange(len(flow)), flows.count[where]
    same_bin = (flow[1:] == flow[:-1]) & (bins[1:] == bins[:-1])
    before_twin, after_twin = np.r_[same_bin, False][: len(flow)], np.r_[False, same_bin][: len(flow)]
    cells = _Cells(
        flow=flow,
        bin=bins,
        side=side,
        count=count,
        heads=head[where],
        tails=tail[where],
        first=first[where],
        last=last[where],
        twin=np.where(before_twin, number + 1, np.where(after_twin, number - 1, -1)),
        group=np.cumsum(~after_twin) - 1,
        start=count.cumsum() - count,
        closing=(side == flows.closer[flow]) & (bins == flows.closing_bin[flow]),
        headers=flows.headers[flow],
        mtu=MTU - flows.ip_overhead[flow],
    )
    cells.start[after_twin] -= count[:-1][same_bin]
    return cells


def _roles(flows: Plan) -> tuple[Ints, Ints]:
    """Count the packets of the handshake and of the closing, shape (flows, 2, bins) each."""
    head, tail = np.zeros_like(flows.count), np.zeros_like(flows.count)
    closer = flows.closer
    head[:, UP, 0] += 1
    rows = np.flatnonzero(flows.opened)
    head[rows, DOWN, flows.syn_ack_bin[rows]] += 1
    head[rows, UP, flows.third_bin[rows]] += 1
    rows = np.flatnonzero(flows.opened | flows.reset)
    tail[rows, closer[rows], flows.closing_bin[rows]] += 1
    rows = np.flatnonzero(flows.opened & ~flows.reset)
    tail[rows, 1 - closer[rows], flows.second_fin_bin[rows]] += 1
    # with three client packets the handshake's third is also the first FIN, and stays a head
    rows = rows[flows.count[rows, closer[rows]].sum(1) > 3 - closer[rows]]
    tail[rows, closer[rows], flows.first_fin_bin[rows]] += 1
    return head, tail


def _find_slots(flows: Plan, cells: _Cells) -> _Slots:
    cell = np.repeat(np.arange(len(cells)), cells.count)
    index = np.arange(len(cell)) - (cells.count.cumsum() - cells.count)[cell]
    is_last = index == cells.count[cell] - 1
    in_middle = (index >= cells.heads[cell]) & (index < (cells.count - cells.tails)[cell])
    return _Slots(cell, index, in_middle, is_last, is_last & (cells.closing & flows.reset[cells.flow])[cell])


def _load_packets(flows: Plan, cells: _Cells, slots: _Slots) -> _Load:
    """Choose the packets that carry data: those of the middle first, then the handshake's third, then a FIN."""
    flow, first, last, headers = cells.flow, cells.first, cells.last, cells.headers
    size, free, room = flows.size[flow, cells.side, cells.bin], cells.count - first - last, cells.mtu - headers
    min_last = np.where(flows.reset[flow], TCP_HEADERS, headers)
    first_size, last_size = bare_sizes(size, free, first, last, headers, min_last, cells.mtu)
    rest = size - first_size - last_size
    data = np.where(flows.is_attempt[flow], 0, rest - headers * free)
    fewest = -(-data // room)
    # the handshake's third packet is bare where the others have room for the data
    early = cells.heads - first  # free packets before the middle
    spared = flows.opened[flow] & (fewest <= free - early) & (free > early)
    free = np.where(spared, free - early, free)
    of_twin = [cells.of_twin(values) for values in (fewest, free, data)]
    carriers = np.where(flows.tcp[flow], data_packets(free, data, room, *of_twin), free)
    middle_data = np.minimum(carriers, cells.middle)
    outside = carriers - middle_data
    third = np.minimum(outside, early)

    cell = slots.cell
    index = slots.index - cells.heads[cell]  # in the middle
    bare = (slots.index < first[cell]) | (slots.is_last & (last > 0)[cell])
    carries = ~bare & np.where(
        slots.in_middle, index < middle_data[cell], np.where(index < 0, third[cell] > 0, (outside - third)[cell] > 0)
    )
    data_index = np.where(index < 0, 0, np.where(slots.in_middle, third[cell] + index, carriers[cell] - 1))
    return _Load(first_size, last_size, rest, data, carriers, middle_data, data_index, carries, bare)


def _sample_bursts(
    flows: Plan, cells: _Cells, slots: _Slots, load: _Load, keys: NDArray[np.uint64], rtt_ns: Ints
) -> tuple[Ints, Ints]:
    """Sample the burst of each packet (-1: handshake, `_CLOSING`), and find its rank in the bin's middle."""
    data = load.middle_data
    up_data, down_data = (np.where(cells.side == side, data, cells.of_twin(data)) for side in (UP, DOWN))
    most = np.where(up_data * down_data > 0, np.minimum(up_data, down_data), -(-(up_data + down_data) // _TRAIN))
    most = np.clip(np.minimum(most, flows.spec.bin_ns // (2 * rtt_ns[cells.flow])), 1, _MAX_BURSTS)
    bursts = 1 + (random_bits(keys[cells.flow], _BURSTS, cells.bin) >> np.uint64(1)).astype(np.int64) % most

    rows = np.flatnonzero(slots.in_middle)
    cell = slots.cell[rows]
    up = (cells.side == UP)[cell]
    inside = slots.index[rows] - cells.heads[cell]
    is_data = inside < data[cell]
    count = np.where(is_data, data[cell], (cells.middle - data)[cell])
    index, turns = np.where(is_data, inside, inside - data[cell]), bursts[cell]
    burst = index * turns // count
    begin, end = -(-burst * count // turns), -(-(burst + 1) * count // turns)
    index, count = index - begin, end - begin
    # data packet i of n is at (i + 1/2) / n; an acknowledgement follows what it acknowledges
    fine = np.where(is_data, ((2 * index + 1) << (_FINE - 1)) // count, ((index + 1) << _FINE) // count)
    # during an upload the server answers at once, then now and then
    upload = (up_data // bursts)[cell] > _UPLOAD
    meanwhile = (index << _FINE) // count + (3 << (_FINE - 1)) // np.maximum(-(-up_data // bursts)[cell], 2)
    fine = np.where(upload & is_data & ~up, np.minimum(meanwhile, (1 << _FINE) - 1), fine)
    second = np.where(is_data, ~up & ~upload, up | (up_data[cell] == 0))
    is_attempt = flows.is_attempt[cells.flow][cell]
    burst = np.where(is_attempt, inside + _attempt_bursts(flows, cells)[cell], burst)
    second = np.where(is_attempt, ~up, second)
    key = (cells.group[cell] << 12 | burst) << (_FINE + 3)
    key |= second.astype(np.int64) << (_FINE + 2) | fine << 1 | ~is_data

    all_bursts = np.where(slots.index < cells.heads[slots.cell], -1, _CLOSING)
    all_bursts[rows] = burst
    rank = np.zeros(len(slots.cell), dtype=np.int64)
    rank[rows[np.argsort(key, kind="stable")]] = np.arange(len(rows))
    # less the packets in the middles of the bins before
    middles = np.bincount(cells.group, cells.middle).astype(np.int64)
    rank[rows] -= (middles.cumsum() - middles)[cells.group[cell]]
    return all_bursts, rank


def _attempt_bursts(flows: Plan, cells: _Cells) -> Ints:
    """Return what to add to the bursts of attempts: each RST follows its SYN, and SYNs precede SYN-ACKs."""
    flow, side, bins = cells.flow, cells.side, cells.bin
    sent = flows.count.cumsum(2) - flows.count
    sent[:, UP, 0] += 1  # the first SYN is no packet of the middle
    unanswered = sent[:, UP] > sent[:, DOWN]
    half_open = flows.attempt[flow] == HALF_OPEN
    syns_before = np.where(side == UP, 0, cells.of_twin(cells.middle))
    return np.where(half_open, syns_before, (side == UP) & unanswered[flow, bins])


def _rank_in_bin(flows: Plan, cells: _Cells, slots: _Slots, middle_rank: Ints) -> Ints:
    """Find the position of each packet among those of its bin: heads, then the middle, then tails."""
    cell, index = slots.cell, slots.index
    heads = (cells.heads + cells.of_twin(cells.heads))[cell]
    middle = (cells.middle + cells.of_twin(cells.middle))[cell]

    # the client's second packet comes after the SYN-ACK, that after the SYN
    syn = (cells.bin == 0)[cell]
    head = np.where((cells.side == UP)[cell], np.where(syn & (index == 0), 0, heads - 1), syn)

    # X's FIN, Y's FIN, X's last packet
    flow, tails_of_twin = cells.flow, cells.of_twin(cells.tails)
    last_in_twin = flows.opened[flow] & (cells.side != flows.closer[flow]) & (cells.bin == flows.closing_bin[flow])
    second_fin = np.where(cells.side == flows.closer[flow], 0, tails_of_twin - last_in_twin)
    last = slots.is_last & (cells.last > 0)[cell]
    tail = heads + middle + np.where(last, (cells.tails + tails_of_twin)[cell] - 1, second_fin[cell])
    return np.where(index < cells.heads[cell], head, np.where(slots.in_middle, heads + middle_rank, tail))


def _packet_sizes(
    flows: Plan, cells: _Cells, slots: _Slots, load: _Load, keys: NDArray[np.uint64]
) -> tuple[Ints, Ints]:
    """Find size and header bytes of each packet; the sizes of a cell add up to its bytes."""
    cell, headers = slots.cell, cells.headers[slots.cell]
    stream = stream_sizes(load.index, cell, load.carriers, load.data, cells.mtu - cells.headers)
    size = headers + np.where(load.carries, stream, 0)
    for has_profile in (False, True):
        datagrams = ~flows.tcp[cells.flow] & ((flows.profiles.row[cells.flow] >= 0) == has_profile)
        chosen, rows = np.flatnonzero(datagrams), np.flatnonzero(datagrams[cell])
        if not len(chosen):
            continue
        cell_keys = random_bits(keys[cells.flow[chosen]], _CELL, (cells.bin * 2 + cells.side)[chosen])
        position = (datagrams.cumsum() - 1)[cell[rows]]
        given = (slots.index[rows], position, cells.count[chosen], load.rest[chosen], cells.mtu[chosen], cell_keys)
        if has_profile:
            profile = flows.profiles.row[cells.flow[chosen]]
            size[rows] = profile_sizes(flows.profiles, profile, cells.side[chosen], *given)
        else:
            size[rows] = datagram_sizes(*given)
    opening = (slots.index == 0) & (cells.first > 0)[cell]
    size = np.where(load.bare, np.where(opening, load.first_size[cell], load.last_size[cell]), size)
    of_attempt = flows.is_attempt[cells.flow][cell]
    chosen = cell[of_attempt]
    aborted = (cells.closing & flows.reset[cells.flow])[chosen]
    size[of_attempt] = attempt_sizes(load.rest[chosen], cells.count[chosen], slots.index[of_attempt], aborted)
    return size, np.where(load.bare | of_attempt, size, headers)


def _tcp_flags(flows: Plan, cells: _Cells, slots: _Slots, size: Ints, headers: Ints) -> NDArray[np.uint8]:
    """Find the TCP flags of each packet."""
    cell = slots.cell
    flow, side = cells.flow[cell], cells.side[cell]
    tcp, is_attempt = flows.tcp[flow], flows.is_attempt[flow]
    reset = slots.is_rst | ((flows.attempt[flow] == REFUSED) & (side == DOWN))
    syn = tcp & np.where(is_attempt, ~reset, (cells.first > 0)[cell] & (slots.index == 0))
    # a SYN has nothing to acknowledge yet, and the RST after a SYN-ACK takes its number from there
    no_ack = (side == UP) & (syn | (is_attempt & reset))
    flags = np.where(tcp & ~no_ack, TCP_ACK, 0) | np.where(syn, TCP_SYN, 0) | np.where(reset, TCP_RST, 0)
    # a full packet is one of a train; what follows a short one waits
    flags |= np.where(tcp & (size > headers) & (size < cells.mtu[cell]), TCP_PSH, 0)

    by_closer, bins = side == flows.closer[flow], cells.bin[cell]
    first_fin = by_closer & (flows.first_fin_bin[flow] == bins)
    first_fin &= slots.index == (cells.count - 1 - cells.last)[cell]
    second_fin = ~by_closer & (flows.second_fin_bin[flow] == bins) & slots.is_last
    closed = flows.opened[flow] & ~flows.reset[flow]
    return (flags | np.where(closed & (first_fin | second_fin), TCP_FIN, 0)).astype(np.uint8)


def _pauses(burst: Ints, start: Ints) -> Ints:
    """Return the think time before each packet in sixteenths: before a bin's first and a burst's first.

    There is none within handshake, closing and bursts, and little between the handshake and the first burst.
    """
    before = np.r_[-1, burst][: len(burst)]
    first = np.r_[True, start[1:] != start[:-1]][: len(burst)]
    return np.where(first, 16, np.where(burst != before, np.where(before < 0, 1, 16), 0))


def _answers(burst: Ints, start: Ints, up: Bools) -> Bools:
    """Find the packets with which the server begins to answer: the first of a burst, any of handshake and closing."""
    first = cumsum_in_runs(~up, run_starts(start, burst)) == 1
    return np.asarray(~up & (first | (burst < 0) | (burst == _CLOSING)))
