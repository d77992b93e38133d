"""Payload bytes of packets: zeros, TLS records, or random bytes.

The payload fills the payload bytes that the series has anyway, and depends on the seed and the flow alone. Zeros are
the default: Wireshark takes random bytes for damaged RTP, HTTP or QUIC.

TLS is version 1.3 as an observer without keys sees it (RFC 8446): hellos, and headers of records.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from netgen.exporters.pcap.counter_rng import random_bits
from netgen.exporters.pcap.frames import ECHO, IGMP, TCP, UP, Endpoints
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.pcap.packets import Ints

Bytes = NDArray[np.uint8]
Frames = NDArray[np.void]

HELLO_BYTES = 517  # a ClientHello as browsers pad it (RFC 7685)
RECORD_BYTES = 5 + (1 << 14) + 17  # a full record: header, longest plaintext, content type and tag
RECORD_HEADER = 5  # bytes
MIN_RECORD = RECORD_HEADER + 1  # bytes

_HELLO, _BYTES, _OFFSET = 96, 112, 113  # streams of `random_bits`; a hello takes 16
_RANDOM_BLOCK = 1 << 16  # bytes
_MAX_PAYLOAD = 1 << 11  # bytes; every payload is shorter
_CHANGE_CIPHER_SPEC = bytes.fromhex("140303000101")  # has no meaning in TLS 1.3, but middleboxes expect it


#: Writes the payloads of a batch of frames into a buffer, where each begins at a given offset, shape (packets,).
#: Returns the sum of each payload's 16-bit words, read as little-endian numbers, shape (packets,).
Payload = Callable[[Bytes, Ints, Frames, Endpoints], NDArray[np.uint32]]


def make_payload(options: CaptureOptions) -> Payload | None:
    """Make the payload that the options name; None for zeros."""
    if options.payload == "tls":
        return functools.partial(_write_tls, options.sni)
    return RandomPayload() if options.payload == "random" else None


class RandomPayload:
    """Stretches of one block of random bytes. The first byte of a datagram is that of a QUIC short header (RFC 9443).

    IGMP stays zeros, because its bytes have a meaning.
    """

    def __init__(self) -> None:
        words = random_bits(np.arange((_RANDOM_BLOCK + _MAX_PAYLOAD) // 8, dtype=np.uint64), _BYTES)
        self._block = words.astype("<u8").view(np.uint8)
        self._sums = np.r_[0, np.cumsum(self._block.view("<u2"), dtype=np.int64)]

    def __call__(self, buffer: Bytes, begin: Ints, batch: Frames, endpoints: Endpoints) -> NDArray[np.uint32]:
        """See `Payload`."""
        length = batch["size"].astype(np.int64) - batch["headers"]
        length[(batch["kind"] & IGMP) > 0] = 0
        side = np.where(batch["kind"] & ECHO, 0, batch["kind"] & UP)  # an echo reply returns the request's payload
        bits = random_bits(endpoints.keys[batch["flow"]], _OFFSET, batch["seq"].astype(np.int64) << 1 | side)
        source = (bits % np.uint64(_RANDOM_BLOCK // 2)).astype(np.int64) * 2
        for target, offset, count in zip(begin.tolist(), source.tolist(), length.tolist(), strict=True):
            buffer[target : target + count] = self._block[offset : offset + count]
        words, odd = np.divmod(length, 2)
        total = self._sums[source // 2 + words] - self._sums[source // 2]
        total += np.where(odd, self._block[source + length - odd], 0)
        datagram = np.flatnonzero(((batch["kind"] & (TCP | ECHO)) == 0) & (length > 0))
        first = buffer[begin[datagram]]
        buffer[begin[datagram]] = 0x40 | first & 0x3F
        total[datagram] += (0x40 | first & 0x3F).astype(np.int64) - first
        return np.asarray(total, dtype=np.uint32)


def _write_tls(sni: str | None, buffer: Bytes, begin: Ints, batch: Frames, endpoints: Endpoints) -> NDArray[np.uint32]:
    """Write a ClientHello, a ServerHello, and records of zeros after them; see `Payload`.

    Flows without room for these, and flows of other protocols than TCP, stay zeros.
    """
    flow, side = batch["flow"], np.where(batch["kind"] & UP, 0, 1)
    hello = _hello_lengths(endpoints.streams[flow], endpoints.early[flow], sni)[np.arange(len(batch)), side]
    length = batch["size"].astype(np.int64) - batch["headers"]
    offset = (batch["seq"] - endpoints.first_seq[flow, side]).astype(np.int64)  # of the payload in its stream
    has_tls = ((batch["kind"] & TCP) > 0) & (hello > 0) & (length > 0)
    sums = np.zeros(len(batch), dtype=np.uint32)
    rows = np.flatnonzero(has_tls)
    stream = endpoints.streams[flow, side][rows] - hello[rows]
    _write_record_headers(buffer, begin[rows], offset[rows] - hello[rows], length[rows], stream, sums, rows)
    for row in np.flatnonzero(has_tls & (offset < hello)):
        words = [random_bits(endpoints.keys[flow[row : row + 1]], _HELLO + index) for index in range(16)]
        random = np.concatenate(words).astype("<u8").tobytes()
        message = _client_hello(int(hello[row]), sni, random)
        if side[row]:
            message = (_server_hello(random) + _CHANGE_CIPHER_SPEC)[: hello[row]]
        piece = np.frombuffer(message[offset[row] : offset[row] + length[row]], np.uint8)
        buffer[begin[row] : begin[row] + len(piece)] = piece
        sums[row] += piece[::2].sum(dtype=np.uint32) + (piece[1::2].sum(dtype=np.uint32) << 8)
    return sums


def _hello_lengths(streams: Ints, early: Ints, sni: str | None) -> Ints:
    """Choose the bytes of each side's hello, shape (flows, 2); both are zero where a flow has no room for both.

    `streams` are the payload bytes up and down, `early` those that the client sends before the server sends any: the
    ClientHello must be among them.
    """
    up, down = streams.T
    shortest_client = len(_client_hello(0, sni, bytes(128)))
    padded = np.clip(np.minimum(early, up), 0, max(HELLO_BYTES, shortest_client))
    rest = up - padded  # must be nothing, or at least a record
    client = np.where((rest > 0) & (rest < MIN_RECORD), padded - (MIN_RECORD - rest), padded)
    short = len(_server_hello(bytes(128)))
    long = short + len(_CHANGE_CIPHER_SPEC)
    server = np.where((down == long) | (down >= long + MIN_RECORD), long, short)
    rest = down - server
    fits = (client >= shortest_client + 4) & ((rest == 0) | (rest >= MIN_RECORD))
    return np.stack([np.where(fits, client, 0), np.where(fits, server, 0)], axis=1)


def _extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + _with_length(content, 2)


def _with_length(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width, "big") + content


def _handshake(kind: int, version: int, body: bytes) -> bytes:
    return bytes([22, 3, version]) + _with_length(bytes([kind]) + _with_length(body, 3), 2)


def _client_hello(length: int, sni: str | None, random: bytes) -> bytes:
    """Build a ClientHello, padded to `length` bytes if it is shorter by four or more."""
    extensions = b""
    if sni is not None:
        extensions += _extension(0, _with_length(b"\0" + _with_length(sni.encode("ascii"), 2), 2))
    extensions += _extension(10, _with_length(bytes.fromhex("001d00170018"), 2))  # groups: x25519, P-256, P-384
    extensions += _extension(13, _with_length(bytes.fromhex("040308040401050308050501"), 2))  # signatures
    extensions += _extension(16, _with_length(_with_length(b"h2", 1) + _with_length(b"http/1.1", 1), 2))  # ALPN
    extensions += _extension(43, _with_length(bytes.fromhex("03040303"), 1))  # versions: 1.3, 1.2
    extensions += _extension(45, b"\x01\x01")
    extensions += _extension(51, _with_length(bytes.fromhex("001d") + _with_length(random[64:96], 2), 2))  # key share
    suites = _with_length(bytes.fromhex("130113021303c02bc02fc02cc030"), 2)
    start = b"\x03\x03" + random[:32] + _with_length(random[32:64], 1) + suites + b"\x01\0"
    hello = _handshake(1, 1, start + _with_length(extensions, 2))
    missing = length - len(hello)
    if missing < 4:
        return hello
    return _handshake(1, 1, start + _with_length(extensions + _extension(21, bytes(missing - 4)), 2))


def _server_hello(random: bytes) -> bytes:
    """Build a ServerHello that chooses TLS 1.3 with AES-128-GCM and x25519."""
    key_share = bytes.fromhex("001d") + _with_length(random[96:128], 2)
    extensions = _extension(43, b"\x03\x04") + _extension(51, key_share)
    start = b"\x03\x03" + random[64:96] + _with_length(random[32:64], 1) + b"\x13\x01\0"
    return _handshake(2, 3, start + _with_length(extensions, 2))


def _write_record_headers(
    buffer: Bytes, begin: Ints, offset: Ints, length: Ints, stream: Ints, sums: NDArray[np.uint32], rows: Ints
) -> None:
    """Write the headers of application data records into payloads, and add the sums of their bytes at `sums[rows]`.

    A payload begins at `begin` in the buffer and at `offset` in its stream of records, whose bytes are `stream`; the
    offset is negative before the first record.
    """
    last = np.maximum(-(-stream // RECORD_BYTES) - 1, 0)  # index of the last record
    # a last record shorter than the minimum takes six bytes from the one before it
    short = (last > 0) & (stream - last * RECORD_BYTES < MIN_RECORD)

    def start(record: Ints) -> Ints:
        taken = np.where(short & (record == last), MIN_RECORD, 0)
        return np.where(record > last, stream, record * RECORD_BYTES - taken)

    for ahead in (0, 1):
        record = np.maximum(offset, 0) // RECORD_BYTES + ahead
        first = start(record)
        content = start(record + 1) - first - RECORD_HEADER
        type_and_version = [np.full_like(first, value) for value in (23, 3, 3)]
        for index, values in enumerate([*type_and_version, content >> 8, content & 0xFF]):
            position = first + index - offset
            inside = np.flatnonzero((record <= last) & (stream > 0) & (position >= 0) & (position < length))
            value = values[inside].astype(np.uint32)
            buffer[begin[inside] + position[inside]] = value
            sums[rows[inside]] += value << (8 * (position[inside] & 1)).astype(np.uint32)
