"""IP addresses as text, many at once: IPv4 by a table of a byte's digits, each distinct IPv6 one by the system."""

from __future__ import annotations

import socket

import numpy as np
import pyarrow as pa

from netgen.capture import native
from netgen.capture.factorize import factorize
from netgen.capture.native import tables
from netgen.capture.table.arrow_utils import join_strings

# for each byte its digits and a dot, four bytes as one number, and which of these are there
_DIGITS = np.array([f"{number}.".ljust(4).encode() for number in range(256)], "S4").view(np.uint32)
_LENGTH = np.array([len(str(number)) for number in range(256)], np.uint8)
_THERE = (np.arange(4) <= _LENGTH[:, None]).view(np.uint32).ravel()
_THERE_LAST = (np.arange(4) < _LENGTH[:, None]).view(np.uint32).ravel()


def address_texts(high: np.ndarray, low: np.ndarray, version: np.ndarray) -> pa.Array:
    """Addresses as an Arrow array of strings.

    Parameters
    ----------
    high, low : ndarray of uint64, shape (rows,)
        The two halves of each; an IPv4 address is the low 32 bits.
    version : ndarray of int, shape (rows,)
        IP version.
    """
    old = version == 4
    if old.all():
        return join_strings(*_dotted(low))
    new = np.flatnonzero(~old)
    row, few = factorize(np.stack([high[new], low[new]], axis=1).astype(">u8").view("V16").ravel())
    texts = [socket.inet_ntop(socket.AF_INET6, each).encode() for each in few.tolist()]
    length = np.empty(len(low), np.int64)
    text, length[old] = _dotted(low[old])
    length[new] = np.array([len(each) for each in texts])[row]
    out = np.empty(int(length.sum()), np.uint8)
    is_old = np.repeat(old, length)
    out[is_old] = text
    out[~is_old] = np.frombuffer(b"".join([texts[each] for each in row.tolist()]), np.uint8)
    return join_strings(out, length)


def _dotted(addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IPv4 addresses as text, one behind the other, and the length of each."""
    if native.ready():
        return tables.ipv4_texts(addresses)
    octets = addresses.astype(">u4").view(np.uint8).reshape(-1, 4)
    there = _THERE.take(octets)
    there[:, 3] = _THERE_LAST.take(octets[:, 3])
    text = _DIGITS.take(octets).view(np.uint8)[there.view(bool)]
    return text, _LENGTH.take(octets).sum(axis=1) + 3
