"""TLS ClientHellos (RFC 8446, RFC 6066): the server name in one, and one that arrives in pieces."""

from __future__ import annotations

import functools
import re
from typing import TypeVar

import numpy as np

from netgen.capture.layers.dissect import PacketColumns

#: Bytes of a ClientHello that are kept; one with a post-quantum key share has 1.8 kB.
MAX_HELLO = 16_384

#: Packets after the first of an incomplete hello that may complete it.
LOOK_AHEAD = 4096

#: Packets before the first segment of a hello that may hold other segments of it.
LOOK_BACK = 64

#: Addresses, ports and VLAN of the packets in one direction of a connection.
Direction = tuple[int, int, int, int, int, int, int]

_HANDSHAKE, _SERVER_NAME, _HOST_NAME = 22, 0, 0
_RECORD_HEADER = 5  # bytes
_SESSION_ID_AT = 4 + 2 + 32  # behind handshake header, version and random
_HOST = re.compile(rb"[A-Za-z0-9._-]+")
_K = TypeVar("_K")
_H = TypeVar("_H", bound="PartialHello")


class Stream:
    """The first `MAX_HELLO` bytes of a byte stream whose pieces come in any order, more than once or never.

    There are `front` bytes before the first gap.
    """

    __slots__ = ("_data", "_filled", "front")

    def __init__(self) -> None:
        self._data = bytearray()
        self._filled = bytearray()
        self.front = 0

    def put(self, at: int, piece: bytes) -> None:
        """Store a piece that begins `at` bytes from the start."""
        end = min(at + len(piece), MAX_HELLO)
        if at >= end:
            return
        missing = bytes(max(end - len(self._data), 0))
        self._data += missing
        self._filled += missing
        self._data[at:end] = piece[: end - at]
        self._filled[at:end] = b"\1" * (end - at)
        gap = self._filled.find(0, self.front)
        self.front = gap if gap >= 0 else len(self._filled)

    def start(self) -> bytes:
        """Return the bytes before the first gap."""
        return bytes(self._data[: self.front])

    @property
    def full(self) -> bool:
        """Whether no piece can make the start longer."""
        return self.front == MAX_HELLO


class PartialHello:
    """A hello that began with packet `number` of the file, and the pieces of it so far."""

    __slots__ = ("number", "stream")

    def __init__(self, number: int) -> None:
        self.number = number
        self.stream = Stream()

    def reaches(self, number: int) -> bool:
        """Return whether a packet may still carry a piece of the hello."""
        return number <= self.number + LOOK_AHEAD


def unexpired(hellos: dict[_K, _H], last: int) -> dict[_K, _H]:
    """Return the hellos that packets after number `last` may complete."""
    return {key: hello for key, hello in hellos.items() if hello.reaches(last + 1)}


def directions(packets: PacketColumns, rows: np.ndarray) -> list[Direction]:
    """Return the direction of each of some packets."""
    columns = ("src_high", "src_low", "dst_high", "dst_low", "src_port", "dst_port", "vlan")
    return list(zip(*(getattr(packets, name)[rows].tolist() for name in columns), strict=True))


def payload(data: np.ndarray, packets: PacketColumns, row: int) -> bytes:
    """Copy the first `MAX_HELLO` bytes of a packet's payload."""
    start = int(packets.payload_at[row])
    return data[start : start + min(int(packets.payload_length[row]), MAX_HELLO)].tobytes()


def hello_name(message: bytes) -> str | None:
    """Read the server name in a TLS handshake message, which may be cut anywhere; bytes behind it do no harm.

    The name is in lower case; it is empty if there is none, or the message is not a ClientHello; None if the bytes so
    far do not tell.
    """
    if message[:1] not in (b"", b"\1") or message[4:5] not in (b"", b"\3"):
        return ""
    end = 4 + int.from_bytes(message[1:4])
    try:
        at = _SESSION_ID_AT
        at += 1 + message[at]
        at += 2 + _uint16(message, at)  # cipher suites
        at += 1 + message[at]  # compression methods
        if at >= end:  # no extensions
            return ""
        last = min(at + 2 + _uint16(message, at), end)
        at += 2
        while at + 4 <= last:
            kind, length = _uint16(message, at), _uint16(message, at + 2)
            at += 4
            if kind == _SERVER_NAME and at + length <= len(message):
                return _extension_name(message[at : at + length])
            if kind == _SERVER_NAME:
                break
            at += length
        else:
            return ""
    except IndexError:  # cut
        pass
    return None if len(message) < max(end, 4) else ""


def _extension_name(extension: bytes) -> str:
    """Read the body of a server name extension; empty if it holds no possible host name."""
    if len(extension) < 5 or extension[2] != _HOST_NAME:
        return ""
    length = _uint16(extension, 3)
    name = extension[5 : 5 + length]
    return host_text(name) if len(name) == length else ""


@functools.lru_cache(4096)
def host_text(name: bytes) -> str:
    """Return a host name in lower case; empty if no host can have it."""
    return name.decode("ascii").lower().rstrip(".") if _HOST.fullmatch(name) else ""


def _uint16(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def client_hello_name(payload: bytes) -> str | None:
    """Read the server name at the start of a client's TLS records, cut anywhere, as `hello_name` does."""
    if payload[:2] == b"\x16\3" and len(payload) > _RECORD_HEADER:  # nearly always, the first record tells
        name = hello_name(payload[_RECORD_HEADER : _RECORD_HEADER + _uint16(payload, 3)])
        if name is not None:
            return name
    fragments: list[bytes] = []
    at = 0
    while at < len(payload):
        header = payload[at : at + _RECORD_HEADER]
        length = int.from_bytes(header[3:])
        is_empty = len(header) == _RECORD_HEADER and not length
        if header[0] != _HANDSHAKE or header[1:2] not in (b"", b"\3") or is_empty:
            return hello_name(b"".join(fragments)) or ""
        at += _RECORD_HEADER
        fragments.append(payload[at : at + length])
        at += length
    return hello_name(b"".join(fragments))
