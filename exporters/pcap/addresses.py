"""5-tuples of exported flows: drawn from the capture's seed and the flow's number, never taken from the flow.

The capture's seed is made of the one that was given, and of what the table holds: the first flow of
netflix, drawn with the same seed as the first of youtube, is another 5-tuple. So captures can be
merged, and a labels file fits no capture but its own. That the two meet is as likely as that any two
numbers of 46 bits do; of flows without ports, of 32 bits.

Clients are in 198.18.0.0/16, servers in 198.19.0.0/16 (RFC 2544: reserved for benchmarks, routed
nowhere), or in 2001:db8:0:18::/112 and 2001:db8:0:19::/112 (RFC 3849: for documentation). So
neither does a replayed packet reach a real host, nor does an address tell the class, nor does a
capture of one's own leave the house with its addresses.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from netgen.capture.headers import PROTOCOL_IGMP
from netgen.exporters.pcap.counter_rng import random_bits
from netgen.exporters.pcap.packets import PORTLESS, Ints

CLIENT_NET = (198 << 24) | (18 << 16)
SERVER_NET = (198 << 24) | (19 << 16)
V6_PREFIX = bytes.fromhex("20010db80000")  # then 0018 or 0019, zeros, and the 16 bits that IPv4 has at its end
FIRST_PORT = 49152  # ephemeral ports of RFC 6335: 2**14 of them
SERVER_PORT = 443

_HALF = 23  # 16 + 16 + 14 bits of 5-tuples, in two halves
_PAIR_HALF = 16  # of pairs of addresses
_HOSTS = 254  # last bytes of addresses that are neither 0 nor 255
_OCCURRENCE_SHIFT = 26  # flow numbers under 2**26, each up to 10**6 times


@dataclasses.dataclass(frozen=True)
class Addresses:
    """Addresses and ports, one entry a flow, all of shape (flows,); an IPv6 address ends like the IPv4 one."""

    client: Ints
    server: Ints
    client_port: Ints
    server_port: Ints


def capture_seed(seed: int, rows: pa.Table, metadata: Mapping[str, Any]) -> int:
    """The same for tables of the same classes and captures, or drawn alike, however many flows they have.

    Parameters
    ----------
    seed : int
        The one that was given.
    rows : pyarrow.Table
        Of a flow table, with the columns ``label`` and ``source``.
    about : mapping
        The table's notes.
    """
    held = [sorted(map(json.dumps, rows[name].unique().to_pylist())) for name in ("label", "source")]
    drawn = [metadata.get(name) for name in ("weights_sha256", "guidance", "sampling_steps")]
    text = json.dumps([seed, drawn, *held]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def v6_addresses(address: Ints) -> NDArray[np.uint8]:
    """The IPv6 addresses that stand for IPv4 ones, shape (flows, 16)."""
    out = np.zeros((len(address), 16), dtype=np.uint8)
    out[:, :6] = np.frombuffer(V6_PREFIX, np.uint8)
    out[:, 7] = np.where(address >= SERVER_NET, 0x19, 0x18)
    out[:, 14], out[:, 15] = address >> 8 & 0xFF, address & 0xFF
    return out


def addresses(seed: int, number: Ints, occurrence: Ints, protocol: Ints, server_port: Ints) -> Addresses:
    """A 5-tuple for each flow, no two alike.

    The flow's number goes through a permutation of all (client, server, port) triples that the
    seed picks, so that two flows can not meet, whichever other flows there are. Flows without ports
    have pairs (client, server) to themselves, up to the 63rd time that a number comes.

    Parameters
    ----------
    seed : int
        As of `capture_seed`.
    number, occurrence : ndarray of int64, shape (flows,)
        The flow's number, and how often that number came before in the table.
    protocol : ndarray of int64, shape (flows,)
        As which the flow is written. An echo's two ports are its identifier, as in a flow table; IGMP's are 0.
    server_port : ndarray of int64, shape (flows,)
        Of what has ports.
    """
    place = number + (occurrence << _OCCURRENCE_SHIFT)
    triple, pair = _usable(place, seed, _HALF), _usable(place, seed, _PAIR_HALF)
    alone = PORTLESS[protocol]
    ends = np.where(alone, pair, triple)
    client_port = np.where(protocol == PROTOCOL_IGMP, 0, FIRST_PORT + (triple >> 32))
    return Addresses(
        client=CLIENT_NET + (ends & 0xFFFF),
        server=SERVER_NET + (ends >> 16 & 0xFFFF),
        client_port=client_port,
        server_port=np.where(alone, client_port, server_port),
    )


def _usable(number: Ints, seed: int, half: int) -> Ints:
    """Places of 2 `half` bits whose hosts can be used, one for each number."""
    rest, client = np.divmod(number % ((1 << 2 * half - 16) * _HOSTS**2), _HOSTS)
    rest, server = np.divmod(rest, _HOSTS)
    high, low = rest >> 8, rest & 0xFF
    place = _permute(high << 24 | server + 1 << 16 | low << 8 | client + 1, seed, half)
    # from a place that can be used walk along the permutation's cycle to the next: one to one
    while (bad := _unusable(place)).any():
        place[bad] = _permute(place[bad], seed, half)
    return place


def _unusable(place: Ints) -> NDArray[np.bool_]:
    """Places whose host is a network's or a broadcast's, as .0 and .255 look to many tools."""
    client, server = place & 0xFF, place >> 16 & 0xFF
    bad: NDArray[np.bool_] = (client == 0) | (client == 255) | (server == 0) | (server == 255)
    return bad


def _permute(place: Ints, seed: int, half: int) -> Ints:
    """A Feistel network of four rounds (Luby and Rackoff 1988) over twice `half` bits."""
    mask = (1 << half) - 1
    left, right = place >> half, place & mask
    root = np.full(len(place), seed % 2**64, dtype=np.uint64)
    for turn in range(4):
        left, right = right, left ^ (random_bits(root, 16 + turn, right) & np.uint64(mask)).astype(np.int64)
    return left << half | right
