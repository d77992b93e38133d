"""Server names in the ClientHellos of QUIC (RFC 9000, RFC 9001, RFC 9369).

A client's Initial packets are encrypted with keys that anybody can compute from the first connection ID
that it chose. Their CRYPTO frames carry a TLS ClientHello, in any order and over any number of packets. A
server's Initial packets do not decrypt with these keys, and are skipped.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from netgen.capture.headers import PROTOCOL_UDP, gather
from netgen.capture.layers.dissect import PacketColumns
from netgen.capture.names.client_hello import (
    Direction,
    PartialHello,
    Stream,
    directions,
    hello_name,
    payload,
    unexpired,
)

#: Shortest datagram in which a client may send an Initial packet, in bytes (RFC 9000, section 14.1).
MIN_DATAGRAM = 1200

#: Shortest connection ID that a client may choose for the server, in bytes (RFC 9000, section 7.2).
MIN_CHOSEN_ID = 8

_MAX_ID = 20
_LONG_HEADER = 0xC0
_INITIAL, _RETRY = 0, 3
_PADDING, _PING, _ACK, _ACK_ECN, _CRYPTO = 0, 1, 2, 3, 6
_TAG = 16  # bytes of authentication behind the ciphertext, and of the sample that masks the header


class _Version(NamedTuple):
    salt: bytes
    label: bytes = b"quic"
    initial_type: int = 0  # the number of an Initial packet in its header


_V1 = _Version(bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"))
_DRAFT_23 = _Version(bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502"))
_VERSIONS = {
    1: _V1,
    0x6B3343CF: _Version(bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"), b"quicv2", 1),
    # drafts, and Facebook's versions of them, differ by their salt alone
    **dict.fromkeys((*range(0xFF000017, 0xFF00001D), 0xFACEB002, 0xFACEB00E), _DRAFT_23),
    **dict.fromkeys(range(0xFF00001D, 0xFF000021), _Version(bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899"))),
    **dict.fromkeys(range(0xFF000021, 0xFF000023), _V1),
    0xFACEB001: _Version(bytes.fromhex("7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a")),
}


class Keys(NamedTuple):
    """Keys of a client's Initial packets: of the header, of the packet, and the nonce (RFC 9001, section 5)."""

    header: bytes
    packet: bytes
    nonce: bytes


class Initial(NamedTuple):
    """An Initial packet in a datagram; `chosen_id` is the Destination Connection ID, the rest are positions."""

    version: int
    chosen_id: bytes
    start: int
    number_at: int
    end: int


def client_keys(version: int, chosen_id: bytes) -> Keys:
    """Compute the keys from the Destination Connection ID of the client's first Initial packet."""
    salt, label, _ = _VERSIONS[version]
    secret = _expand(hmac.digest(salt, chosen_id, "sha256"), b"client in", 32)
    return Keys(*(_expand(secret, label + name, size) for name, size in ((b" hp", 16), (b" key", 16), (b" iv", 12))))


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """Apply HKDF-Expand-Label (RFC 8446, section 7.1) without context, for up to 32 bytes."""
    label = b"tls13 " + label
    info = size.to_bytes(2) + len(label).to_bytes(1) + label + b"\0\1"
    return hmac.digest(secret, info, "sha256")[:size]


def initial_packets(datagram: bytes) -> Iterator[Initial]:
    """Yield the complete Initial packets in a UDP payload of any content, coalesced ones too."""
    start = 0
    while start + 7 <= len(datagram) and datagram[start] >= _LONG_HEADER:
        version = int.from_bytes(datagram[start + 1 : start + 5])
        if version not in _VERSIONS:
            return
        kind = ((datagram[start] >> 4) - _VERSIONS[version].initial_type) & 3
        try:
            id_size = datagram[start + 5]
            at = start + 6 + id_size
            chosen_id = datagram[start + 6 : at]
            at += 1 + datagram[at]
            if kind == _RETRY or id_size > _MAX_ID:
                return
            if kind == _INITIAL:
                token_size, at = _integer(datagram, at)
                at += token_size
            length, at = _integer(datagram, at)
        except IndexError:  # cut
            return
        if at + length > len(datagram):
            return
        if kind == _INITIAL:
            yield Initial(version, chosen_id, start, at, at + length)
        start = at + length


def decrypt(datagram: bytes, initial: Initial, keys: Keys) -> bytes | None:
    """Return the frames of an Initial packet; None if other keys protect it."""
    at = initial.number_at
    # the sample is taken as if the packet number had its full four bytes
    if at + 4 + _TAG > initial.end:
        return None
    mask = Cipher(algorithms.AES(keys.header), modes.ECB()).encryptor().update(datagram[at + 4 : at + 4 + _TAG])
    first = datagram[initial.start] ^ mask[0] & 0x0F
    body = at + (first & 3) + 1
    number = bytes(a ^ b for a, b in zip(datagram[at:body], mask[1:], strict=False))
    header = bytes([first]) + datagram[initial.start + 1 : at] + number
    nonce = (int.from_bytes(keys.nonce) ^ int.from_bytes(number)).to_bytes(12)
    try:
        return AESGCM(keys.packet).decrypt(nonce, datagram[body : initial.end], header)
    except InvalidTag:
        return None


def crypto_frames(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield offset and content of CRYPTO frames (RFC 9000, section 19) up to one that no Initial packet has."""
    at = 0
    try:
        while at < len(frames):
            kind = frames[at]
            at += 1
            if kind == _CRYPTO:
                offset, at = _integer(frames, at)
                length, at = _integer(frames, at)
                yield offset, frames[at : at + length]
                at += length
            elif kind in (_ACK, _ACK_ECN):
                at = _skip_ack(frames, at, kind)
            elif kind == _PADDING:  # most of a packet, so not byte by byte
                at = len(frames) - len(frames[at:].lstrip(b"\0"))
            elif kind != _PING:
                return
    except IndexError:  # cut
        return


def _skip_ack(frames: bytes, at: int, kind: int) -> int:
    """Return the end of an ACK frame."""
    _, at = _integer(frames, at)
    _, at = _integer(frames, at)
    ranges, at = _integer(frames, at)
    for _ in range(1 + 2 * ranges + 3 * (kind == _ACK_ECN)):
        _, at = _integer(frames, at)
    return at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """Read an integer of variable length (RFC 9000, section 16), and return it and its end."""
    size = 1 << (data[at] >> 6)
    value = int.from_bytes(data[at : at + size])
    return value & (1 << (8 * size - 2)) - 1, at + size


class _QuicHello(PartialHello):
    """A hello; `done` once its name is known."""

    __slots__ = ("done", "keys")

    def __init__(self, number: int, keys: Keys) -> None:
        super().__init__(number)
        self.keys = keys
        self.done = False


class QuicFinder:
    """Finds the server names in QUIC's ClientHellos of one capture, batch after batch."""

    def __init__(self) -> None:
        # by direction, version and connection ID: one pair of ports may have several connections
        self._hellos: dict[tuple[Direction, int, bytes], _QuicHello] = {}
        self._latest: dict[Direction, _QuicHello] = {}

    @property
    def waiting(self) -> bool:
        """Whether later packets may complete a hello."""
        return any(not hello.done for hello in self._hellos.values())

    def find(self, data: np.ndarray, packets: PacketColumns, *, new: bool = True) -> list[tuple[int, str]]:
        """Return packet number and name for each name that the packets complete, as `NameFinder.find` does."""
        if not len(packets):
            return []
        completed = []
        rows = _candidates(data, packets)
        columns = packets.number[rows].tolist(), directions(packets, rows)
        for row, number, direction in zip(rows.tolist(), *columns, strict=True):
            datagram = payload(data, packets, row)
            for initial in initial_packets(datagram):
                name = self._follow(datagram, initial, number, direction, new)
                if name:
                    completed.append((number, name))
        last = int(packets.number[-1])
        self._hellos, self._latest = unexpired(self._hellos, last), unexpired(self._latest, last)
        return completed

    def _follow(self, datagram: bytes, initial: Initial, number: int, direction: Direction, new: bool) -> str | None:
        """Return the name that an Initial packet completes, if any."""
        key = direction, initial.version, initial.chosen_id
        own, latest = self._hellos.get(key), self._latest.get(direction)
        if own is not None and not own.reaches(number):
            own = None
        if own is not None and own.done:
            return None
        if own is None and new and len(initial.chosen_id) >= MIN_CHOSEN_ID:
            own = _QuicHello(number, client_keys(initial.version, initial.chosen_id))
        # once the server has answered, packets carry an ID of its choice, and keep their keys
        for hello in (own, latest):
            if hello is None or hello.done or not hello.reaches(number):
                continue
            frames = decrypt(datagram, initial, hello.keys)
            if frames is not None:
                break
        else:
            return None
        pieces = list(crypto_frames(frames))
        if not pieces:
            return None
        if hello is own:
            self._hellos[key] = self._latest[direction] = hello
        for offset, piece in pieces:
            hello.stream.put(offset, piece)
        name = hello_name(hello.stream.start())
        if name is not None or hello.stream.full:
            # kept without its pieces, so that the rest of the hello does not look like the beginning of another
            hello.done = True
            hello.stream = Stream()
        return name


def _candidates(data: np.ndarray, packets: PacketColumns) -> np.ndarray:
    """Return the rows of datagrams that begin with a long header of a known version of QUIC."""
    rows = np.flatnonzero((packets.protocol == PROTOCOL_UDP) & (packets.payload_length >= MIN_DATAGRAM))
    rows = rows[data[packets.payload_at[rows]] >= _LONG_HEADER]
    version = gather(data, packets.payload_at[rows] + 1, np.dtype(">u4"))
    return rows[np.isin(version, list(_VERSIONS))]
