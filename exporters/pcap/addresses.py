"""5-tuples of exported flows: chosen by the capture's seed and the flow's number, never taken from the flow.

The capture's seed depends on the given seed and on what the table holds: the first flow of netflix gets another
5-tuple than the first flow of youtube. So captures can be merged, and a ground truth fits only its own capture. Two
flows get the same 5-tuple as often as two numbers of 46 bits are equal; flows without ports, of 32 bits.

Clients are in 198.18.0.0/16 and servers in 198.19.0.0/16 (RFC 2544: for benchmarks, not routed), or in
2001:db8:0:18::/112 and 2001:db8:0:19::/112 (RFC 3849: for documentation). A replayed packet reaches no real host, an
address does not reveal the class, and the export of your own capture does not contain its addresses.
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
V6_PREFIX = bytes.fromhex("20010db80000")  # followed by 0018 or 0019, zeros, and the last 16 bits of the IPv4 address
FIRST_PORT = 49152  # first of the 2**14 ephemeral ports of RFC 6335
SERVER_PORT = 443

_TRIPLE_HALF = 23  # half of the bits of a triple (client, server, client port): 16 + 16 + 14
_PAIR_HALF = 16  # half of the bits of a pair (client, server)
_LAST_BYTES = 254  # last bytes of addresses other than 0 and 255
_OCCURRENCE_SHIFT = 26  # flow numbers below 2**26, each up to 10**6 times


@dataclasses.dataclass(frozen=True)
class Addresses:
    """Addresses and ports, all of shape (flows,); an IPv6 address has the last 16 bits of the IPv4 one."""

    client: Ints
    server: Ints
    client_port: Ints
    server_port: Ints


def capture_seed(seed: int, rows: pa.Table, metadata: Mapping[str, Any]) -> int:
    """Derive a seed that is the same for tables of the same classes, captures and sampling, whatever their length.

    `seed` is the one that the user gave, `rows` are those of a flow table.
    """
    values = [sorted(map(json.dumps, rows[name].unique().to_pylist())) for name in ("label", "source")]
    sampling = [metadata.get(name) for name in ("weights_sha256", "guidance", "sampling_steps")]
    text = json.dumps([seed, sampling, *values]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def v6_addresses(address: Ints) -> NDArray[np.uint8]:
    """Convert addresses from IPv4 to IPv6, shape (flows, 16)."""
    out = np.zeros((len(address), 16), dtype=np.uint8)
    out[:, :6] = np.frombuffer(V6_PREFIX, np.uint8)
    out[:, 7] = np.where(address >= SERVER_NET, 0x19, 0x18)
    out[:, 14], out[:, 15] = address >> 8 & 0xFF, address & 0xFF
    return out


def addresses(seed: int, number: Ints, occurrence: Ints, protocol: Ints, server_port: Ints) -> Addresses:
    """Give each flow a 5-tuple of its own; arrays of shape (flows,).

    A permutation of all triples (client, server, client port), chosen by the seed, maps a flow's number to its
    triple. No two flows share one, whatever other flows there are. Flows without ports get a pair (client, server) of
    their own, for up to 63 occurrences of a number.

    `seed` comes from `capture_seed`; `occurrence` is how often a flow's number occurred before. Both ports of an echo
    are its identifier, as in a flow table; those of IGMP are 0; `server_port` is for other protocols.
    """
    index = number + (occurrence << _OCCURRENCE_SHIFT)
    triple, pair = _permuted_hosts(index, seed, _TRIPLE_HALF), _permuted_hosts(index, seed, _PAIR_HALF)
    portless = PORTLESS[protocol]
    hosts = np.where(portless, pair, triple)
    client_port = np.where(protocol == PROTOCOL_IGMP, 0, FIRST_PORT + (triple >> 32))
    return Addresses(
        client=CLIENT_NET + (hosts & 0xFFFF),
        server=SERVER_NET + (hosts >> 16 & 0xFFFF),
        client_port=client_port,
        server_port=np.where(portless, client_port, server_port),
    )


def _permuted_hosts(index: Ints, seed: int, half: int) -> Ints:
    """Map indices to codes of 2 `half` bits, one to one, of hosts that are not a network or broadcast address."""
    rest, client = np.divmod(index % ((1 << 2 * half - 16) * _LAST_BYTES**2), _LAST_BYTES)
    rest, server = np.divmod(rest, _LAST_BYTES)
    high, low = rest >> 8, rest & 0xFF
    code = _permute(high << 24 | server + 1 << 16 | low << 8 | client + 1, seed, half)
    # from a usable code, follow the cycle of the permutation to the next usable one: this is one to one
    while (unusable := _is_unusable(code)).any():
        code[unusable] = _permute(code[unusable], seed, half)
    return code


def _is_unusable(code: Ints) -> NDArray[np.bool_]:
    """Tell which codes have a host that ends in .0 or .255."""
    client, server = code & 0xFF, code >> 16 & 0xFF
    return np.asarray((client == 0) | (client == 255) | (server == 0) | (server == 255))


def _permute(code: Ints, seed: int, half: int) -> Ints:
    """Permute codes of 2 `half` bits by a Feistel network of four rounds (Luby and Rackoff 1988)."""
    mask = (1 << half) - 1
    left, right = code >> half, code & mask
    key = np.full(len(code), seed % 2**64, dtype=np.uint64)
    for turn in range(4):
        left, right = right, left ^ (random_bits(key, 16 + turn, right) & np.uint64(mask)).astype(np.int64)
    return left << half | right
