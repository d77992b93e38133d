"""TLS 1.3 as far as anybody can see it who has no keys (RFC 8446): hellos, and headers of records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from netgen.exporters.pcap.packets import Ints

HELLO = 517  # bytes of a ClientHello that is padded, as browsers do (RFC 7685)
RECORD = 5 + (1 << 14) + 17  # a full record: its header, the most of plaintext, its type and tag
HEADER = 5
LEAST = HEADER + 1  # no record is shorter

_CHANGE = bytes.fromhex("140303000101")  # change cipher spec: for middleboxes, means nothing
_UP, _DOWN = 0, 1


def hello_lengths(streams: Ints, early: Ints, sni: str | None) -> Ints:
    """Bytes of each side's hello; both zero where a flow has no room for both.

    Parameters
    ----------
    streams : ndarray of int64, shape (flows, 2)
        Payload bytes, up and down.
    early : ndarray of int64, shape (flows,)
        Payload bytes that the client sends before the server sends any: the ClientHello is among them.
    sni : str, optional

    Returns
    -------
    ndarray of int64, shape (flows, 2)
    """
    least = len(_client_hello(0, sni, bytes(128)))
    padded = np.clip(np.minimum(early, streams[:, _UP]), 0, max(HELLO, least))
    # what is left of the stream is nothing, or a record at least
    left = streams[:, _UP] - padded
    client = np.where((left > 0) & (left < LEAST), padded - (LEAST - left), padded)
    short = len(_server_hello(bytes(128)))
    long = short + len(_CHANGE)
    down = streams[:, _DOWN]
    server = np.where((down == long) | (down >= long + LEAST), long, short)
    left = down - server
    fits = (client >= least + 4) & ((left == 0) | (left >= LEAST))
    return np.stack([np.where(fits, client, 0), np.where(fits, server, 0)], axis=1)


def hello(side: int, length: int, sni: str | None, noise: bytes) -> bytes:
    """A side's hello of exactly so many bytes; `noise` is 128 bytes that stand for random ones and keys."""
    if side == _UP:
        return _client_hello(length, sni, noise)
    return (_server_hello(noise) + _CHANGE)[:length]


def _extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + _sized(content, 2)


def _sized(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width, "big") + content


def _handshake(kind: int, version: int, body: bytes) -> bytes:
    message = bytes([kind]) + _sized(body, 3)
    return bytes([22, 3, version]) + _sized(message, 2)


def _client_hello(length: int, sni: str | None, noise: bytes) -> bytes:
    """A ClientHello, padded to `length` bytes where it is shorter by four at least."""
    extensions = b""
    if sni is not None:
        extensions += _extension(0, _sized(b"\0" + _sized(sni.encode("ascii"), 2), 2))
    extensions += _extension(10, _sized(bytes.fromhex("001d00170018"), 2))  # groups: x25519, P-256, P-384
    extensions += _extension(13, _sized(bytes.fromhex("040308040401050308050501"), 2))  # signatures
    extensions += _extension(16, _sized(_sized(b"h2", 1) + _sized(b"http/1.1", 1), 2))  # application protocols
    extensions += _extension(43, _sized(bytes.fromhex("03040303"), 1))  # versions: 1.3, 1.2
    extensions += _extension(45, b"\x01\x01")
    extensions += _extension(51, _sized(bytes.fromhex("001d") + _sized(noise[64:96], 2), 2))  # key share

    def whole() -> bytes:
        suites = bytes.fromhex("130113021303c02bc02fc02cc030")
        body = b"\x03\x03" + noise[:32] + _sized(noise[32:64], 1) + _sized(suites, 2) + b"\x01\0"
        return _handshake(1, 1, body + _sized(extensions, 2))

    missing = length - len(whole())
    if missing >= 4:
        extensions += _extension(21, bytes(missing - 4))
    return whole()


def _server_hello(noise: bytes) -> bytes:
    """A ServerHello that takes TLS 1.3 with AES-128-GCM and x25519."""
    extensions = _extension(43, b"\x03\x04") + _extension(51, bytes.fromhex("001d") + _sized(noise[96:128], 2))
    body = b"\x03\x03" + noise[64:96] + _sized(noise[32:64], 1) + b"\x13\x01\0" + _sized(extensions, 2)
    return _handshake(2, 3, body)


def write_records(
    buffer: NDArray[np.uint8],
    begin: Ints,
    offset: Ints,
    length: Ints,
    stream: Ints,
    added: NDArray[np.uint32],
    rows: Ints,
) -> None:
    """Write the headers of application data records into payloads that are pieces of streams, in place.

    Parameters
    ----------
    buffer : ndarray of uint8
    begin, length : ndarray of int64, shape (pieces,)
        Where each piece's payload begins in the buffer, and its bytes.
    offset : ndarray of int64, shape (pieces,)
        Where it begins in its stream of records; negative in what comes before.
    stream : ndarray of int64, shape (pieces,)
        Bytes of the stream.
    added : ndarray of uint32
        Gets, at `rows`, what the bytes add to the packets' checksums.
    """
    last = np.maximum(-(-stream // RECORD) - 1, 0)  # number of the last record
    # a last record that were shorter than any can be takes six bytes of the one before
    short = (last > 0) & (stream - last * RECORD < LEAST)

    def start(record: Ints) -> Ints:
        return np.where(record > last, stream, record * RECORD - np.where(short & (record == last), LEAST, 0))

    for ahead in (0, 1):
        record = np.maximum(offset, 0) // RECORD + ahead
        first = start(record)
        content = start(record + 1) - first - HEADER
        header = [*(np.full_like(first, value) for value in (23, 3, 3)), content >> 8, content & 0xFF]
        for byte, value in enumerate(header):
            at = first + byte - offset
            here = np.flatnonzero((record <= last) & (stream > 0) & (at >= 0) & (at < length))
            what = value[here].astype(np.uint32)
            buffer[begin[here] + at[here]] = what
            added[rows[here]] += what << (8 * (at[here] & 1)).astype(np.uint32)
