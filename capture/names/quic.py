"""Names in the ClientHellos of QUIC (RFC 9000, RFC 9001, RFC 9369).

A client's Initial packets are encrypted with keys that anybody can compute from the first
connection ID it chose. Their CRYPTO frames, in whatever order and over however many packets, carry
a ClientHello as TLS has it. A server's Initial packets and what belongs to older versions of
another layout do not decrypt with these keys, and are passed over.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from netgen.capture.headers import PROTOCOL_UDP, gather
from netgen.capture.layers.dissect import PacketColumns
from netgen.capture.names.tls import LOOK_AHEAD, Direction, Stream, directions, hello_name, payload

#: Shortest datagram in which a client may send an Initial packet (RFC 9000, section 14.1).
MIN_DATAGRAM = 1200

#: Shortest connection ID that a client may choose for the server (RFC 9000, section 7.2).
MIN_CHOSEN = 8

_MAX_ID = 20
_INITIAL, _RETRY = 0, 3
_PADDING, _PING, _ACK, _ACK_ECN, _CRYPTO = 0, 1, 2, 3, 6
_TAG = 16  # bytes of authentication behind what is encrypted, and of the sample that masks the header


@dataclass(frozen=True, slots=True)
class _Version:
    salt: bytes
    label: bytes = b"quic"
    first_type: int = 0  # what stands for an Initial packet in its header


_V1 = _Version(bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"))
_V2 = _Version(bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"), b"quicv2", 1)
_DRAFT_22 = _Version(bytes.fromhex("7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a"))
_DRAFT_23 = _Version(bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502"))
_DRAFT_29 = _Version(bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899"))
_VERSIONS = {
    1: _V1,
    0x6B3343CF: _V2,
    # the drafts, and what Facebook made of them, differ by their salt alone
    0xFF000016: _DRAFT_22,
    **dict.fromkeys(range(0xFF000017, 0xFF00001D), _DRAFT_23),
    **dict.fromkeys(range(0xFF00001D, 0xFF000021), _DRAFT_29),
    **dict.fromkeys(range(0xFF000021, 0xFF000023), _V1),
    0xFACEB001: _DRAFT_22,
    0xFACEB002: _DRAFT_23,
    0xFACEB00E: _DRAFT_23,
}
_NUMBER = np.dtype(">u4")
_NUMBERS = np.array(sorted(_VERSIONS), np.uint32)


@dataclass(frozen=True, slots=True)
class Keys:
    """What protects a client's Initial packets: header key, packet key and nonce (RFC 9001, section 5)."""

    header: bytes
    packet: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Initial:
    """An Initial packet in a datagram: where it begins, where its packet number does, and where it ends."""

    version: int
    chosen: bytes  # Destination Connection ID
    start: int
    number_at: int
    end: int


def client_keys(version: int, chosen: bytes) -> Keys:
    """Keys of a client's Initial packets.

    Parameters
    ----------
    version : int
        Version of QUIC as in the header; one of those that are known.
    chosen : bytes
        Destination Connection ID of the client's first Initial packet.

    Returns
    -------
    Keys
    """
    known = _VERSIONS[version]
    secret = hmac.digest(known.salt, chosen, "sha256")
    secret = _expand(secret, b"client in", 32)
    sizes = {b" hp": 16, b" key": 16, b" iv": 12}
    return Keys(*(_expand(secret, known.label + name, size) for name, size in sizes.items()))


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446, section 7.1) without context, of up to 32 bytes."""
    label = b"tls13 " + label
    info = size.to_bytes(2) + len(label).to_bytes(1) + label + b"\0\1"
    return hmac.digest(secret, info, "sha256")[:size]


def initial_packets(datagram: bytes) -> Iterator[Initial]:
    """The Initial packets in a UDP payload, coalesced ones too, as far as they are whole.

    Parameters
    ----------
    datagram : bytes
        May be anything.

    Yields
    ------
    Initial
        In the order in which they stand.
    """
    start = 0
    while start + 7 <= len(datagram) and datagram[start] >= 0xC0:
        version = int.from_bytes(datagram[start + 1 : start + 5])
        if version not in _VERSIONS:
            return
        kind = ((datagram[start] >> 4) - _VERSIONS[version].first_type) & 3
        try:
            size = datagram[start + 5]
            at = start + 6 + size
            chosen = datagram[start + 6 : at]
            at += 1 + datagram[at]
            if kind == _RETRY or size > _MAX_ID:
                return
            if kind == _INITIAL:
                token, at = _integer(datagram, at)
                at += token
            length, at = _integer(datagram, at)
        except IndexError:  # cut
            return
        if at + length > len(datagram):
            return
        if kind == _INITIAL:
            yield Initial(version, chosen, start, at, at + length)
        start = at + length


def decrypt(datagram: bytes, initial: Initial, keys: Keys) -> bytes | None:
    """Frames of an Initial packet; None if it was not protected with these keys.

    Parameters
    ----------
    datagram : bytes
        The UDP payload that it stands in.
    initial : Initial
        Where.
    keys : Keys
        Keys to try.

    Returns
    -------
    bytes or None
    """
    at = initial.number_at
    # the sample is taken as if the packet number had its full four bytes
    if at + 4 + _TAG > initial.end:
        return None
    hide = Cipher(algorithms.AES(keys.header), modes.ECB()).encryptor().update(datagram[at + 4 : at + 4 + _TAG])
    first = datagram[initial.start] ^ hide[0] & 0x0F
    body = at + (first & 3) + 1
    number = bytes(a ^ b for a, b in zip(datagram[at:body], hide[1:], strict=False))
    header = bytes([first]) + datagram[initial.start + 1 : at] + number
    nonce = (int.from_bytes(keys.nonce) ^ int.from_bytes(number)).to_bytes(12)
    try:
        return AESGCM(keys.packet).decrypt(nonce, datagram[body : initial.end], header)
    except InvalidTag:
        return None


def crypto_frames(frames: bytes) -> Iterator[tuple[int, bytes]]:
    """Offsets and contents of the CRYPTO frames of an Initial packet (RFC 9000, section 19).

    Parameters
    ----------
    frames : bytes
        A decrypted payload; ends at the first frame that an Initial packet cannot have.

    Yields
    ------
    int, bytes
    """
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
                _, at = _integer(frames, at)
                _, at = _integer(frames, at)
                ranges, at = _integer(frames, at)
                for _ in range(1 + 2 * ranges + 3 * (kind == _ACK_ECN)):
                    _, at = _integer(frames, at)
            elif kind == _PADDING:
                # most of a packet, so not byte by byte
                at = len(frames) - len(frames[at:].lstrip(b"\0"))
            elif kind != _PING:
                return
    except IndexError:  # cut
        return


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """An integer of variable length (RFC 9000, section 16), and the place after it."""
    size = 1 << (data[at] >> 6)
    value = int.from_bytes(data[at : at + size])
    return value & (1 << (8 * size - 2)) - 1, at + size


class _Hello:
    """A hello of which some CRYPTO frames have come, or enough of them."""

    __slots__ = ("done", "keys", "number", "stream")

    def __init__(self, number: int, keys: Keys) -> None:
        self.number = number
        self.keys = keys
        self.stream = Stream()
        self.done = False

    def takes(self, number: int) -> bool:
        """Whether a packet of this number may carry a piece."""
        return number <= self.number + LOOK_AHEAD


class QuicFinder:
    """Finds the names in QUIC's ClientHellos of one capture, chunk after chunk."""

    def __init__(self) -> None:
        # by direction, version and connection ID: one pair of ports may have several connections
        self._hellos: dict[tuple[Direction, int, bytes], _Hello] = {}
        self._latest: dict[Direction, _Hello] = {}

    @property
    def waiting(self) -> bool:
        """Whether packets to come may complete a hello."""
        return any(not hello.done for hello in self._hellos.values())

    def find(self, data: np.ndarray, packets: PacketColumns, *, new: bool = True) -> list[tuple[int, str]]:
        """Names that the packets of a chunk complete.

        Parameters
        ----------
        data : ndarray of uint8
            The buffer that `packets` were dissected from.
        packets : Packets
            Packets of one chunk, which follow those of the last call.
        new : bool
            Whether hellos may begin here; if not, only those that are waited for are gone on with.

        Returns
        -------
        list of (int, str)
            Packet number and name.
        """
        if not len(packets):
            return []
        found = []
        rows = _candidates(data, packets)
        columns = packets.number[rows].tolist(), directions(packets, rows)
        for row, number, direction in zip(rows.tolist(), *columns, strict=True):
            datagram = payload(data, packets, row)
            for initial in initial_packets(datagram):
                text = self._take(datagram, initial, number, direction, new)
                if text:
                    found.append((number, text))
        following = int(packets.number[-1]) + 1
        self._hellos = {key: hello for key, hello in self._hellos.items() if hello.takes(following)}
        self._latest = {key: hello for key, hello in self._latest.items() if hello.takes(following)}
        return found

    def _take(self, datagram: bytes, initial: Initial, number: int, direction: Direction, new: bool) -> str | None:
        """The name that an Initial packet completes, if any."""
        key = direction, initial.version, initial.chosen
        own, latest = self._hellos.get(key), self._latest.get(direction)
        if own is not None and not own.takes(number):
            own = None
        if own is not None and own.done:
            return None
        if own is None and new and len(initial.chosen) >= MIN_CHOSEN:
            own = _Hello(number, client_keys(initial.version, initial.chosen))
        # once the server has answered, packets carry an ID of its choice, but keep their keys
        for hello in (own, latest):
            if hello is None or hello.done or not hello.takes(number):
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
        text = hello_name(hello.stream.start())
        if text is not None or hello.stream.full:
            # remembered, so that the rest of the hello does not look like the beginning of another
            hello.done = True
            hello.stream = Stream()
        return text


def _candidates(data: np.ndarray, packets: PacketColumns) -> np.ndarray:
    """Rows of datagrams that begin with a long header of a known version of QUIC."""
    rows = np.flatnonzero((packets.protocol == PROTOCOL_UDP) & (packets.payload_length >= MIN_DATAGRAM))
    rows = rows[data[packets.payload_at[rows]] >= 0xC0]
    version = gather(data, packets.payload_at[rows] + 1, _NUMBER)
    return rows[np.isin(version.astype(np.uint32), _NUMBERS)]
