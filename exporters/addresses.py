"""5-tuples of exported flows: drawn from the seed and the flow's number, never taken from the flow.

Which network they are of depends on what the table holds, too: the first flow of netflix, drawn with
the same seed as the first of youtube, is another 5-tuple. So captures can be merged, and a labels file
fits no capture but its own.

Clients are in 198.18.0.0/16, servers in 198.19.0.0/16 (RFC 2544: reserved for benchmarks, routed
nowhere), or in 2001:db8:0:18::/112 and 2001:db8:0:19::/112 (RFC 3849: for documentation). So
neither does a replayed packet reach a real host, nor does an address tell the class, nor does a
capture of one's own leave the house with its addresses.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from exporters.draws import draw

CLIENT_NET = (198 << 24) | (18 << 16)
SERVER_NET = (198 << 24) | (19 << 16)
V6_PREFIX = bytes.fromhex("20010db80000")  # then 0018 or 0019, zeros, and the 16 bits that IPv4 has at its end
FIRST_PORT = 49152  # ephemeral ports of RFC 6335: 2**14 of them
SERVER_PORT = 443

_HALF = 23  # 16 + 16 + 14 bits of 5-tuples, in two halves
_OCCURRENCE_SHIFT = 26  # flow numbers under 2**26, each up to 2**20 times


@dataclasses.dataclass(frozen=True)
class Addresses:
    """Addresses and ports, one entry a flow, all of shape (flows,); an IPv6 address ends like the IPv4 one."""

    client: NDArray[np.int64]
    server: NDArray[np.int64]
    client_port: NDArray[np.int64]
    server_port: NDArray[np.int64]


def network(seed: int, rows: pa.Table) -> int:
    """A seed of 5-tuples: the same for tables of the same classes and sources, however many flows they have.

    Parameters
    ----------
    seed : int
    rows : pyarrow.Table
        Of a flow table, with the columns ``label`` and ``source``.
    """
    held = [sorted(map(str, rows[name].unique().to_pylist())) for name in ("label", "source")]
    text = json.dumps([seed, *held]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def v6_addresses(address: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The IPv6 addresses that stand for IPv4 ones, shape (flows, 16)."""
    out = np.zeros((len(address), 16), dtype=np.uint8)
    out[:, :6] = np.frombuffer(V6_PREFIX, np.uint8)
    out[:, 7] = np.where(address >= SERVER_NET, 0x19, 0x18)
    out[:, 14], out[:, 15] = address >> 8 & 0xFF, address & 0xFF
    return out


def addresses(
    seed: int, number: NDArray[np.int64], occurrence: NDArray[np.int64], server_port: NDArray[np.int64] | None = None
) -> Addresses:
    """A 5-tuple for each flow, no two alike.

    The flow's number goes through a permutation of all (client, server, port) triples that the
    seed picks, so that two flows can not meet, whichever other flows there are.

    Parameters
    ----------
    seed : int
        As of `network`.
    number, occurrence : ndarray of int64, shape (flows,)
        The flow's number, and how often that number came before in the table.
    server_port : ndarray of int64, shape (flows,), optional
        443 if not given.
    """
    place = (number + (occurrence << _OCCURRENCE_SHIFT)) % (1 << 2 * _HALF)
    place = _permute(place, seed)
    while (bad := _unusable(place)).any():  # walk on along the permutation's cycle: still one to one
        place[bad] = _permute(place[bad], seed)
    return Addresses(
        client=CLIENT_NET + (place & 0xFFFF),
        server=SERVER_NET + (place >> 16 & 0xFFFF),
        client_port=FIRST_PORT + (place >> 32),
        server_port=np.full(len(place), SERVER_PORT) if server_port is None else server_port,
    )


def _unusable(place: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Places whose host is a network's or a broadcast's, as .0 and .255 look to many tools."""
    client, server = place & 0xFF, place >> 16 & 0xFF
    bad: NDArray[np.bool_] = (client == 0) | (client == 255) | (server == 0) | (server == 255)
    return bad


def _permute(place: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A Feistel network of four rounds (Luby and Rackoff 1988) over 46 bits."""
    mask = (1 << _HALF) - 1
    left, right = place >> _HALF, place & mask
    root = np.full(len(place), seed % 2**64, dtype=np.uint64)
    for turn in range(4):
        left, right = right, left ^ (draw(root, 16 + turn, right) & np.uint64(mask)).astype(np.int64)
    return left << _HALF | right
