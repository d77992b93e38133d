"""TLS, QUIC and DNS messages, built byte by byte after the RFCs, and packets that carry them."""

from __future__ import annotations

import dataclasses
import struct
from collections import Counter
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from netgen.capture.layers.dissect import PacketColumns

TCP, UDP = 6, 17
SALTS = {
    1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    0x6B3343CF: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
    0xFF00001D: bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899"),
}
V1, V2, DRAFT_29 = SALTS


# -- TLS -----------------------------------------------------------------------------------------


def message(
    name: bytes | None = b"www.example.org",
    before: Sequence[tuple[int, bytes]] = (),
    after: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """Make a ClientHello with these extensions, (number, body), around the server name."""
    named = []
    if name is not None:
        entry = struct.pack(">BH", 0, len(name)) + name
        named = [(0, struct.pack(">H", len(entry)) + entry)]
    extensions = b"".join(struct.pack(">HH", kind, len(body)) + body for kind, body in [*before, *named, *after])
    content = b"\x03\x03" + bytes(32) + b"\x20" + bytes(32) + b"\x00\x04\x13\x01\x13\x02" + b"\x01\x00"
    content += struct.pack(">H", len(extensions)) + extensions
    return b"\x01" + len(content).to_bytes(3, "big") + content


def records(content: bytes, size: int = 16_384) -> bytes:
    """Make the TLS records, of at most `size` bytes each, that carry a handshake message."""
    cuts = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(cut)) + cut for cut in cuts)


def hello(name: bytes | None = b"www.example.org", before: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """Make a ClientHello in one record."""
    return records(message(name, before))


# -- QUIC ----------------------------------------------------------------------------------------


def integer(value: int) -> bytes:
    """Write an integer in the shortest of QUIC's four lengths."""
    size = next(size for size in range(4) if value < 1 << (8 << size) - 2)
    return (value | size << (8 << size) - 2).to_bytes(1 << size, "big")


def crypto(at: int, content: bytes) -> bytes:
    """Make a CRYPTO frame."""
    return b"\x06" + integer(at) + integer(len(content)) + content


def _expand(secret: bytes, label: str, size: int) -> bytes:
    name = b"tls13 " + label.encode()
    info = struct.pack(">HB", size, len(name)) + name + b"\0"
    return HKDFExpand(SHA256(), size, info).derive(secret)


def quic_keys(version: int, chosen: bytes, sender: str = "client in") -> tuple[bytes, bytes, bytes]:
    """Derive packet key, nonce and header key of Initial packets."""
    extract = HMAC(SALTS[version], SHA256())
    extract.update(chosen)
    secret = _expand(extract.finalize(), sender, 32)
    label = "quicv2" if version == V2 else "quic"
    return _expand(secret, label + " key", 16), _expand(secret, label + " iv", 12), _expand(secret, label + " hp", 16)


def initial(
    frames: bytes,
    chosen: bytes = bytes(range(8)),
    version: int = V1,
    *,
    keys: tuple[bytes, bytes, bytes] | None = None,
    number: bytes = b"\0",
    source: bytes = b"",
    token: bytes = b"",
    pad: int = 1200,
) -> bytes:
    """Make a protected Initial packet of at least `pad` bytes."""
    key, nonce, hide_key = keys or quic_keys(version, chosen)
    first = 0xC0 | (0x10 if version == V2 else 0) | len(number) - 1
    head = bytes([first]) + struct.pack(">I", version) + bytes([len(chosen)]) + chosen + bytes([len(source)]) + source
    head += integer(len(token)) + token
    length = max(len(number) + len(frames) + 16, pad - len(head) - 2, 20)
    frames = frames.ljust(length - 16 - len(number), b"\0")
    head += struct.pack(">H", 0x4000 | length) + number
    mixed = bytes(a ^ b for a, b in zip(nonce, number.rjust(12, b"\0"), strict=True))
    packet = bytearray(head + AESGCM(key).encrypt(mixed, frames, head))
    at = len(head) - len(number)
    hide = Cipher(algorithms.AES(hide_key), modes.ECB()).encryptor().update(bytes(packet[at + 4 : at + 20]))
    packet[0] ^= hide[0] & 0x0F
    for index in range(len(number)):
        packet[at + index] ^= hide[1 + index]
    return bytes(packet)


# -- DNS -----------------------------------------------------------------------------------------


def dns_name(name: str) -> bytes:
    """Write a name in full."""
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in name.split(".")) + b"\0"


def record(owner: bytes, kind: int, content: bytes, family: int = 1) -> bytes:
    """Make a resource record; `owner` is a name in full, or a pointer."""
    return owner + struct.pack(">HHIH", kind, family, 60, len(content)) + content


def dns(
    name: str,
    answers: list[bytes],
    *,
    flags: int = 0x8180,
    kind: int = 1,
    more: list[bytes] | None = None,
    questions: int = 1,
) -> bytes:
    """Make a message with one question, these records as answers, and `more` as additional ones."""
    more = more or []
    head = struct.pack(">6H", 7, flags, questions, len(answers), 0, len(more))
    return head + dns_name(name) + struct.pack(">HH", kind, 1) + b"".join([*answers, *more])


# -- packets -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Sent:
    """A packet; `src` and `dst` are the last bytes of its addresses."""

    payload: bytes
    protocol: int = TCP
    src_port: int = 40_000
    dst_port: int = 443
    seq: int = 1
    src: int = 1
    dst: int = 2
    flags: int = 0x18
    number: int | None = None


def columns(sent: list[Sent], first: int = 1) -> tuple[np.ndarray, PacketColumns]:
    """Return the buffer and the columns of packets in order, the first with number `first`."""
    size = len(sent)
    given = {name: [getattr(packet, name) for packet in sent] for name in ("protocol", "src_port", "dst_port", "flags")}
    length = [len(packet.payload) for packet in sent]
    # bytes between the payloads, in place of headers
    data = np.frombuffer(bytearray(b"".join(b"\x16\x03\x01" + packet.payload for packet in sent) + bytes(8)), np.uint8)
    known = {
        **given,
        "number": [first + row if packet.number is None else packet.number for row, packet in enumerate(sent)],
        "version": [4] * size,
        "src_low": [0x0A000000 + packet.src for packet in sent],
        "dst_low": [0x0A000000 + packet.dst for packet in sent],
        "seq": [packet.seq % (1 << 32) for packet in sent],
        "payload_length": length,
        "payload_at": np.cumsum(np.add(length, 3)) - length if size else [],
        "vlan": [-1] * size,
    }
    types = {"protocol": np.uint8, "flags": np.uint8, "version": np.uint8, "seq": np.uint32}
    types |= dict.fromkeys(("src_low", "dst_low", "src_high", "dst_high"), np.uint64)
    types |= dict.fromkeys(("src_port", "dst_port", "vlan"), np.int32)
    rest = {field.name for field in dataclasses.fields(PacketColumns)} - {"skipped", "notes"}
    arrays = {name: np.array(known.get(name, [0] * size), types.get(name, np.int64)) for name in rest}
    return data, PacketColumns(**arrays, skipped=Counter(), notes=Counter())
