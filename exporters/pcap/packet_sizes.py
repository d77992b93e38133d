"""Sizes of packets: in every bin and direction they add up to the bytes of the series, exactly.

A *cell* is a (flow, bin, direction) with packets. Its *small* packets (SYN, SYN-ACK, the last
acknowledgement) are headers only; the others, its *free* packets, share the rest of its bytes.
"""

from __future__ import annotations

import dataclasses

import numpy as np

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
)

_JITTER = 33  # stream of `random_bits`


@dataclasses.dataclass(frozen=True)
class Share:
    """How the bytes of cells are shared; all int64 of shape (cells,).

    Parameters
    ----------
    first, last : ndarray
        Bytes of the small packets at the cell's beginning and end, 0 where there is none.
    rest : ndarray
        Bytes of the free packets, headers included.
    """

    first: Ints
    last: Ints
    rest: Ints


def share(size: Ints, free: Ints, first: Ints, last: Ints, headers: Ints, last_least: Ints, mtu: Ints) -> Share:
    """Give the small packets their bytes: the usual number, or as many as the free ones leave over.

    Parameters
    ----------
    size, free : ndarray of int64, shape (cells,)
        Bytes, and number of free packets.
    first, last : ndarray of int64, shape (cells,)
        Number of small packets at the beginning and the end, 0 or 1.
    headers : ndarray of int64, shape (cells,)
        Header bytes of a free packet.
    last_least : ndarray of int64, shape (cells,)
        Bytes of the smallest small packet at the end: its headers, an RST's without time stamps.
    mtu : ndarray of int64, shape (cells,)
        Bytes of the largest packet.
    """
    stamped = headers == TIMESTAMP_HEADERS
    first_default = np.where(stamped, TIMESTAMP_SYN_SIZE, SYN_SIZE)
    first_least = np.where(stamped, TIMESTAMP_SYN_SIZE, TCP_HEADERS)
    rest = size - first * first_default - last * headers

    # small packets shrink where the others would fall short of their headers, and grow where they burst
    lack = -(-np.maximum(headers * free - rest, 0) // 4) * 4
    burst = -(-np.maximum(rest - mtu * free, 0) // 4) * 4
    first_size = first * np.clip(first_default - lack + burst, first_least, MAX_BARE_SIZE)
    lack = -(-np.maximum(headers * free - (size - first_size - last * headers), 0) // 4) * 4
    least = np.maximum(headers - lack, last_least)
    last_size = last * np.clip(size - first_size - mtu * free + 3 & ~3, least, MAX_BARE_SIZE)
    # with no free packet in the cell the two share its bytes
    alone = (free == 0) & (first > 0)
    first_size = np.where(
        alone & (last > 0),
        np.clip(first_default, size - MAX_BARE_SIZE, size - last_least),
        np.where(alone, size, first_size),
    )
    last_size = np.where((free == 0) & (last > 0), size - first_size, last_size)
    return Share(first_size, last_size, size - first_size - last_size)


def data_packets(free: Ints, data: Ints, room: Ints, other: Ints, other_free: Ints, other_data: Ints) -> Ints:
    """How many of a cell's free packets carry data; the others are bare acknowledgements.

    As few as their bytes allow, but no more acknowledgements than the other side has data packets
    to be acknowledged.

    Parameters
    ----------
    free, data : ndarray of int64, shape (cells,)
        Free packets and payload bytes.
    room : ndarray of int64, shape (cells,)
        Payload bytes that a packet can carry.
    other, other_free, other_data : ndarray of int64, shape (cells,)
        Least number of data packets, free packets and payload bytes in the bin's other direction.
    """
    least = -(-data // room)
    most, other_most = np.minimum(free, data), np.minimum(other_free, other_data)
    # up and down together need as many data packets as the busier side has packets
    lack = np.maximum(np.maximum(free, other_free) - least - other, 0)
    spare, other_spare = most - least, other_most - other
    mine = np.where(spare + other_spare > 0, -(-lack * spare // np.maximum(spare + other_spare, 1)), 0)
    return least + np.minimum(mine, spare)


def stream_sizes(index: Ints, cell: Ints, carriers: Ints, data: Ints, room: Ints) -> Ints:
    """Payload of the data packets of a byte stream: full ones as long as there are bytes, the rest alike.

    Parameters
    ----------
    index, cell : ndarray of int64, shape (packets,)
        Number of the data packet in its cell, in order of time, and the cell.
    carriers, data, room : ndarray of int64, shape (cells,)
        Data packets, payload bytes, and payload bytes that a packet can carry.
    """
    full = np.minimum(data // room, (data - carriers) // np.maximum(room - 1, 1))
    full = np.where(carriers > 0, full, 0)
    others = np.maximum(carriers - full, 1)
    each, more = np.divmod(data - full * room, others)
    return np.where(index < full[cell], room[cell], each[cell] + (index - full[cell] < more[cell]))


def datagram_sizes(index: Ints, cell: Ints, many: Ints, rest: Ints, mtu: Ints, keys: Words) -> Ints:
    """Sizes of a datagram protocol of which nothing is known: alike but for a jitter that cancels out in pairs.

    Parameters
    ----------
    index, cell : ndarray of int64, shape (packets,)
        Number of the packet in its cell, and the cell.
    many, rest, mtu : ndarray of int64, shape (cells,)
        Packets of the cell, their bytes, and the bytes of the largest packet.
    keys : ndarray of uint64, shape (cells,)
    """
    mean, more = rest // np.maximum(many, 1), rest % np.maximum(many, 1)
    size = mean[cell] + (index < more[cell])
    pair = index >> 1
    both: Bools = (pair * 2 + 1 < many[cell]) & (index >= 0)
    # the larger of a pair must still fit, and the smaller keep its headers
    room = np.minimum(np.minimum(mean - UDP_HEADERS, mtu - 1 - mean), mean >> 3)
    word = random_bits(keys[cell], _JITTER, pair + 1)
    shift = (uniform(word) * (np.maximum(room, 0)[cell] + 1)).astype(np.int64)
    return size + np.where(both, np.where(index & 1, -shift, shift), 0)
