"""Sizes and times of packets: TCP as a byte stream, datagrams as in their class's profile.

A *cell* is a (flow, bin, direction) with packets, and the sizes of its packets add up to its bytes
exactly. Its *bare* packets (SYN, SYN-ACK, the last acknowledgement or RST) are headers only; the
others, its *free* packets, share the rest of its bytes.

Parameters of the functions on sizes, all int64 unless stated otherwise:

* of shape (cells,): `size`, bytes; `count`, packets; `free`, free packets; `headers`, header bytes of
  a free packet; `mtu`, bytes of the largest packet; `data`, payload bytes; `room`, payload bytes that a
  packet can carry; `keys`, uint64 from `counter_rng`;
* of shape (packets,): `cell`, and `index`, the packet's position in it; packets of a cell are
  consecutive, in order of time.

A gap between two packets has a fixed component: a round trip from what the client sends to what the
server answers, a reaction between what comes in and what goes out, the time on the wire within a
train. The rest of a bin is think time: before the bin's first packet, between bursts, before the
closing, and after the last packet.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netgen.capture.errors import OutputError
from netgen.capture.headers import PROTOCOL_UDP
from netgen.capture.series.profile import GAP_QUANTILES, SIZE_QUANTILES, read_profiles
from netgen.capture.series.spec import GAP_NS
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.addresses import FIRST_PORT, SERVER_PORT
from netgen.exporters.pcap.counter_rng import Words, random_bits, uniform
from netgen.exporters.pcap.packets import (
    MAX_BARE_SIZE,
    SYN_SIZE,
    TCP_HEADERS,
    TIMESTAMP_HEADERS,
    TIMESTAMP_SYN_SIZE,
    UDP_HEADERS,
    Bools,
    Ints,
    cumsum_in_runs,
    run_starts,
)

#: Server ports kept as they are, like dynamic ones: there no tool takes zeros or random bytes for a damaged protocol.
KNOWN_PORTS = (443, 3478, 8801)

RTT_NS = 20_000_000  # median round trip
RTT_SPREAD = 0.8  # standard deviation of its logarithm
RTT_RANGE_NS = (500_000, 300_000_000)
REACTION_NS = 25_000  # mean, of the client's kernel
RATE = 100e6  # bits per second at the bottleneck, median
RATE_SPREAD = 1.0  # standard deviation of its logarithm

_GAP, _JITTER, _REST, _PATH, _PORT, _SIZE = 32, 33, 35, 40, 100, 101  # streams of `random_bits`
_TILTS = np.exp(np.linspace(-3, 3, 41))  # exponents of the uniform numbers that choose a quantile
_GRID = 256  # points at which the mean of a tilted distribution is computed
_SCALE = 1 << 16  # exponential numbers as integers, since the sum of floats depends on their order


@dataclasses.dataclass(frozen=True)
class Profiles:
    """Profiles of the classes of flows (`netgen.capture.series.profile`), as tables."""

    row: Ints  # (flows,): profile of each flow; -1 if none, as for all protocols but UDP
    sizes: Ints  # (profiles, 2, SIZE_QUANTILES): quantiles of the packets' IP bytes, up and down
    gaps: Ints  # (profiles, GAP_QUANTILES): quantiles of the gaps, ns; all zero where none are known
    ports: list[Ints]  # of each profile, server ports, repeated by how often they occur
    means: NDArray[np.float64]  # (profiles, 2, tilts): mean of the sizes sampled with each of `_TILTS`

    def take(self, rows: Ints) -> Profiles:
        """Select flows, in the order given."""
        return dataclasses.replace(self, row=self.row[rows])

    def server_ports(self, keys: Words) -> Ints:
        """Choose a server port for each flow, shape (flows,)."""
        out = np.full(len(keys), SERVER_PORT, dtype=np.int64)
        for index, ports in enumerate(self.ports):
            rows = np.flatnonzero(self.row == index)
            out[rows] = ports[(random_bits(keys[rows], _PORT) % np.uint64(len(ports))).astype(np.int64)]
        return out


def load_profiles(table: FlowTable) -> Profiles:
    """Read the profiles of a table's UDP flows from its metadata; what is not a profile is ignored."""
    sizes: list[tuple[Ints, Ints]] = []
    gaps: list[Ints] = []
    ports: list[Ints] = []
    udp = table.table["protocol"].fill_null(0).to_numpy() == PROTOCOL_UDP
    labels = np.array(table.table["label"].to_pylist(), dtype=object)
    row = np.full(len(table), -1, dtype=np.int64)
    for name, profile in read_profiles(table.metadata).items():
        members = udp & (labels == name)
        up, down = profile.get("up_sizes"), profile.get("down_sizes")
        if members.any() and (up or down):
            row[members] = len(sizes)
            sizes.append((_resample(up or down, SIZE_QUANTILES), _resample(down or up, SIZE_QUANTILES)))
            gaps.append(_resample(profile.get("gaps_ns") or [0], GAP_QUANTILES))
            ports.append(_server_ports(profile))
    size_table = np.array(sizes, dtype=np.int64).reshape(-1, 2, SIZE_QUANTILES)
    gap_table = np.array(gaps, dtype=np.int64).reshape(-1, GAP_QUANTILES)
    tilted = (((np.arange(_GRID) + 0.5) / _GRID)[:, None] ** _TILTS * SIZE_QUANTILES).astype(np.int64)
    return Profiles(row, size_table, gap_table, ports, size_table[:, :, tilted].mean(axis=2))


def _resample(values: list[int], number: int) -> Ints:
    """Turn quantiles into `number` quantiles."""
    ordered = np.sort(np.array(values, dtype=np.int64))
    return ordered[np.arange(number) * len(ordered) // number]


def _server_ports(profile: dict[str, Any]) -> Ints:
    counts = {int(port): int(number) for port, number in (profile.get("ports") or {}).items()}
    total = max(sum(counts.values()), 1)
    ports = [
        port if port in KNOWN_PORTS or port >= FIRST_PORT else SERVER_PORT
        for port, number in counts.items()
        for _ in range(max(round(64 * number / total), 1))
    ]
    return np.array(ports or [SERVER_PORT], dtype=np.int64)


def profile_sizes(
    table: Profiles, profile: Ints, side: Ints, index: Ints, cell: Ints, count: Ints, size: Ints, mtu: Ints, keys: Words
) -> Ints:
    """Sample sizes of datagrams like those of their class, which add up to the bytes of each cell.

    The chosen quantiles are tilted so that their mean is near the cell's mean; the difference that
    is left changes as few packets as possible. `profile` and `side` have the profile's index and the direction of
    each cell.
    """
    tilt = np.abs(table.means[profile, side] - (size / count)[:, None]).argmin(1)
    level = uniform(random_bits(keys[cell], _SIZE, index)) ** _TILTS[tilt][cell]
    quantile = np.minimum((level * SIZE_QUANTILES).astype(np.int64), SIZE_QUANTILES - 1)
    sizes = np.clip(table.sizes[profile[cell], side[cell], quantile], UDP_HEADERS, mtu[cell])
    lack = size - np.bincount(cell, sizes, len(count)).astype(np.int64)
    grow = lack[cell] > 0
    room = np.where(grow, mtu[cell] - sizes, sizes - UDP_HEADERS)
    before = room.cumsum() - room
    before -= before[np.flatnonzero(index == 0)][cell]
    change = np.clip(np.abs(lack)[cell] - before, 0, room)
    return np.asarray(sizes + np.where(grow, change, -change))


def datagram_sizes(index: Ints, cell: Ints, count: Ints, size: Ints, mtu: Ints, keys: Words) -> Ints:
    """Sample sizes of a datagram protocol without a profile: equal but for a jitter that cancels out in pairs."""
    mean, remainder = np.divmod(size, np.maximum(count, 1))
    pair = index >> 1
    has_partner = (pair * 2 + 1 < count[cell]) & (index >= 0)
    # the larger of a pair must still fit, and the smaller keep its headers
    room = np.minimum(np.minimum(mean - UDP_HEADERS, mtu - 1 - mean), mean >> 3)
    shift = (uniform(random_bits(keys[cell], _JITTER, pair + 1)) * (np.maximum(room, 0)[cell] + 1)).astype(np.int64)
    return mean[cell] + (index < remainder[cell]) + np.where(has_partner, np.where(index & 1, -shift, shift), 0)


def bare_sizes(
    size: Ints, free: Ints, first: Ints, last: Ints, headers: Ints, min_last: Ints, mtu: Ints
) -> tuple[Ints, Ints]:
    """Give the bare packets their bytes: the usual number, or as many as the free packets leave over.

    `first` and `last` are 1 in cells that begin or end with a bare packet, else 0. `min_last` are the header bytes of
    that at the end, an RST's without timestamps. Returns the bytes of both, 0 where there is none.
    """
    has_timestamps = headers == TIMESTAMP_HEADERS
    usual = np.where(has_timestamps, TIMESTAMP_SYN_SIZE, SYN_SIZE)
    rest = size - first * usual - last * headers
    # bare packets shrink where the others would lack their headers, and grow where the others would exceed the MTU
    lack = -(-np.maximum(headers * free - rest, 0) // 4) * 4
    excess = -(-np.maximum(rest - mtu * free, 0) // 4) * 4
    min_first = np.where(has_timestamps, TIMESTAMP_SYN_SIZE, TCP_HEADERS)
    first_size = first * np.clip(usual - lack + excess, min_first, MAX_BARE_SIZE)
    lack = -(-np.maximum(headers * free - (size - first_size - last * headers), 0) // 4) * 4
    min_size = np.maximum(headers - lack, min_last)
    last_size = last * np.clip(size - first_size - mtu * free + 3 & ~3, min_size, MAX_BARE_SIZE)
    # without free packets the bare ones share all bytes
    both = np.clip(usual, size - MAX_BARE_SIZE, size - min_last)
    first_size = np.where((free == 0) & (first > 0), np.where(last > 0, both, size), first_size)
    return first_size, np.where((free == 0) & (last > 0), size - first_size, last_size)


def data_packets(free: Ints, data: Ints, room: Ints, other: Ints, other_free: Ints, other_data: Ints) -> Ints:
    """Choose how many of a cell's free packets carry data; the others are bare acknowledgements.

    As few as their bytes allow, but no more acknowledgements than the other side has data packets
    to be acknowledged. `other` is the smallest number of data packets in the bin's other direction.
    """
    fewest = -(-data // room)
    # up and down together need as many data packets as the busier side has packets
    lack = np.maximum(np.maximum(free, other_free) - fewest - other, 0)
    spare, other_spare = np.minimum(free, data) - fewest, np.minimum(other_free, other_data) - other
    both = spare + other_spare
    added = np.where(both > 0, -(-lack * spare // np.maximum(both, 1)), 0)
    return np.asarray(fewest + np.minimum(added, spare))


def stream_sizes(index: Ints, cell: Ints, carriers: Ints, data: Ints, room: Ints) -> Ints:
    """Divide the payload of a byte stream: full packets as long as there are bytes, the rest equal.

    `index` counts the data packets of a cell only; `carriers` is their number.
    """
    full = np.where(carriers > 0, np.minimum(data // room, (data - carriers) // np.maximum(room - 1, 1)), 0)
    quotient, remainder = np.divmod(data - full * room, np.maximum(carriers - full, 1))
    return np.where(index < full[cell], room[cell], quotient[cell] + (index - full[cell] < remainder[cell]))


def sample_paths(keys: Words, bin_ns: int) -> tuple[Ints, Ints]:
    """Sample a round trip in ns, and the time of a byte at the bottleneck in 1/1024 ns, for each flow, log-normally.

    A round trip is at most a quarter of a bin: longer ones are in the series themselves.
    """
    low, high = RTT_RANGE_NS
    high = max(min(high, bin_ns // 4), 1)
    rtt = RTT_NS * np.exp(RTT_SPREAD * _normal(keys, 0))
    rate = RATE * np.exp(RATE_SPREAD * _normal(keys, 1))
    return np.clip(rtt, min(low, high), high).astype(np.int64), np.maximum(8e9 * 1024 / rate, 1).astype(np.int64)


def _normal(keys: Words, stream: int) -> np.ndarray:
    """Sample standard normal numbers (Box and Muller 1958)."""
    first, second = (uniform(random_bits(keys, _PATH + stream, counter)) for counter in (0, 1))
    return np.asarray(np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second))


@dataclasses.dataclass(frozen=True)
class Sequence:
    """What the times of packets depend on; arrays of shape (packets,), in order of time."""

    flow: Ints
    bin: Ints
    start: Ints  # position of the first packet of the same bin
    up: Bools  # sent by the client
    asks: Bools  # has data, SYN or FIN, which the other side answers
    pause: Ints  # think time before the packet in sixteenths; 0 if it follows immediately
    answers: Bools  # the server begins to answer with it, a round trip later if the packet before asks
    size: Ints
    profile: Ints  # profile from which gaps within a bin are sampled; -1 if none


def sample_times(packets: Sequence, keys: Words, paths: tuple[Ints, Ints], gaps: Ints, bin_ns: int) -> Ints:
    """Sample times since the flow's first packet, strictly increasing and strictly inside the bins; shape (packets,).

    `gaps` are those of `Profiles`.
    """
    flow, bins, start = packets.flow, packets.bin, packets.start
    if not len(flow):
        return flow
    rtt_ns, byte_time = paths
    rank = np.arange(len(flow)) - start
    ends = np.flatnonzero(np.r_[start[1:] != start[:-1], True])
    group = np.repeat(np.arange(len(ends)), rank[ends] + 1)
    initial = bins == 0  # the first packet of bin 0 is at 0, and the rest of the bin follows it

    word = random_bits(keys[flow], _GAP, bins * (1 << 32) + rank)
    think = (-np.log1p(-uniform(word)) * (_SCALE >> 4)).astype(np.int64) * packets.pause
    think[initial & (rank == 0)] = 0
    jitter = 768 + (word & np.uint64(511)).astype(np.int64)  # 0.75 to 1.25, in 1/1024
    turned = np.r_[False, packets.up[1:] != packets.up[:-1]]
    is_answer = np.r_[False, packets.asks[:-1]] & turned & packets.answers
    wire = packets.size * byte_time[flow] >> 10
    fixed = np.where(is_answer, rtt_ns[flow], np.where(turned & packets.up, REACTION_NS, wire))
    fixed = fixed * jitter >> 10
    if gaps.any():  # as between the packets of real flows, without questions and answers
        rows = packets.profile >= 0
        sampled = gaps[packets.profile[rows], (uniform(word[rows]) * gaps.shape[1]).astype(np.int64)]
        fixed[rows] = np.minimum(sampled, bin_ns)
        think[rows & (rank > 0)] = 0
    fixed[rank == 0] = 0

    spent, paused = cumsum_in_runs(fixed, start), cumsum_in_runs(think, start)
    last = random_bits(keys[flow[ends]], _REST, bins[ends])
    thinking = paused[ends] + (-np.log1p(-uniform(last)) * _SCALE).astype(np.int64) + 1
    room = bin_ns - 1 - (rank[ends] + 1 - initial[ends])  # every packet has a nanosecond of its own
    used = np.minimum(spent[ends], room - (room >> 3))
    inside = spent * (used / np.maximum(spent[ends], 1))[group] + paused * ((room - used) / thinking)[group]
    inside = np.minimum(inside.astype(np.int64), room[group]) + rank + 1 - initial
    return bins * bin_ns + np.where(initial & (rank == 0), 0, inside)


def space_out(flow: Ints, times: Ints, number: Ints) -> Ints:
    """Put packets of the same time (ns since the flow's first) a nanosecond apart; `number` is the flows' in the table.

    An `OutputError` says that a microsecond has a thousand packets, too many for a nanosecond each.
    """
    rank = np.arange(len(flow)) - run_starts(flow, times)
    if len(rank) and rank.max() >= GAP_NS:
        at = int(rank.argmax())
        raise OutputError(
            f"flow {int(number[flow[at]])} has more than {GAP_NS} packets in one microsecond, "
            f"{int(times[at]) // GAP_NS} microseconds after its first: each packet needs a nanosecond of its own, and "
            "packets over 1500 bytes are split",
            "Leave this flow out, or extract it in bins: --view bins",
        )
    return times + rank
