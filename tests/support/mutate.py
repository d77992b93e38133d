"""Damage captures at random, and check how netgen reads them.

`mutate` cuts, flips, splices and stretches a capture as disks, networks, bad tools and ill will do; it
knows where pcap and pcapng have their headers, so that lengths, links and clocks are hit more often than
chance would. The same data and seed give the same bytes.
"""

from __future__ import annotations

import gzip
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pyarrow as pa

import netgen

#: Link types that netgen reads, and some that it does not.
LINKTYPES = (0, 1, 8, 9, 12, 14, 50, 101, 104, 105, 108, 113, 127, 147, 228, 229, 276, 0xFFFF)
LENGTHS = (
    0,
    1,
    3,
    11,
    12,
    13,
    16,
    20,
    28,
    0xFFFF,
    1 << 18,
    (1 << 18) + 1,
    1 << 27,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
)


# -- where the headers are -----------------------------------------------------------------------


def chain(data: bytes) -> list[tuple[int, int]]:
    """Yield offset and kind of the records (kind 0) or blocks of a capture, as far as lengths are valid."""
    items: list[tuple[int, int]] = []
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        order = "<" if data[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
        at, total = 0, 12
        while at + 12 <= len(data) and total >= 12 and len(items) < 4096:
            kind, total = struct.unpack_from(order + "II", data, at)
            items.append((at, kind))
            at += total
    else:
        order, at = "<" if data[:1] in b"\xd4\x4d\x34" else ">", 24
        while at + 16 <= len(data) and len(items) < 4096:
            items.append((at, 0))
            at += 16 + int(struct.unpack_from(order + "I", data, at + 8)[0])
    return items


#: Offset and size of the numbers in the header of a record or block, by kind. Lengths are listed twice.
_NUMBERS = {
    0: ((0, 4), (4, 4), (8, 4), (8, 4), (8, 4), (12, 4)),
    0x0A0D0D0A: ((8, 4), (12, 4), (16, 8)),
    1: ((8, 2), (12, 4), *((at, 1) for at in range(16, 40))),
    2: ((8, 2), (12, 4), (16, 4), (20, 4), (20, 4), (24, 4)),
    3: ((8, 4), (8, 4)),
    6: ((8, 4), (12, 4), (16, 4), (20, 4), (20, 4), (24, 4)),
}
#: Offset of the packet in a record or block.
_PACKETS = {0: 16, 2: 28, 3: 12, 6: 28}


def fields(data: bytes) -> list[tuple[int, int]]:
    """Return offset and size of the numbers in the headers of a capture."""
    blocks = data[:4] == b"\x0a\x0d\x0d\x0a"
    items = [] if blocks else [(0, 4), (4, 2), (6, 2), (16, 4), (20, 2), (22, 2)]
    for at, kind in chain(data):
        items += [(at, 4), (at + 4, 4), (at + 4, 4), (at - 4, 4)] if blocks else []
        items += [(at + field, size) for field, size in _NUMBERS.get(kind, ())]
    return [(at, size) for at, size in items if 0 <= at <= len(data) - size]


# -- the ways of damage --------------------------------------------------------------------------


def _range(data: bytes, rng: random.Random) -> tuple[int, int]:
    """Choose a slice of the data: mostly short, sometimes long."""
    at = rng.randrange(len(data) + 1)
    return at, min(len(data), at + rng.choice((1, 4, 16, 100, rng.randrange(len(data) + 1))))


def _cut(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _flip_bits(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _overwrite(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    first, last = _range(data, rng)
    kind = rng.randrange(3)
    fill = rng.randbytes(last - first) if kind == 0 else (b"\0" if kind == 1 else b"\xff") * (last - first)
    return data[:first] + fill + data[last:]


def _insert(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 16, 400))) + data[at:]


def _remove(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    first, last = _range(data, rng)
    return data[:first] + data[last:]


def _repeat(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    first, last = _range(data, rng)
    return data[:last] + data[first:last] * rng.choice((1, 1, 2, 8)) + data[last:]


def _move(data: bytes, rng: random.Random, _other: bytes) -> bytes:
    first, last = _range(data, rng)
    rest = data[:first] + data[last:]
    at = rng.randrange(len(rest) + 1)
    return rest[:at] + data[first:last] + rest[at:]


def _splice(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Join the head of one capture and the tail of another; sometimes both complete."""
    other = other or data
    if rng.random() < 0.3:
        return data + other
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _number(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Change a number in a header: an impossible length, another link type, a bad time."""
    positions = fields(data)
    if not positions:
        return _flip_bits(data, rng, other)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, size = rng.choice(positions)
        before = int.from_bytes(out[at : at + size], "little")
        value = rng.choice(
            (
                *(rng.choice(LENGTHS), rng.choice(LENGTHS), rng.choice(LINKTYPES), rng.getrandbits(32), len(data)),
                *(before + 1, before - 1, before * 2, before ^ 1 << rng.randrange(32)),
            )
        )
        out[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
    return bytes(out)


def _headers(data: bytes, rng: random.Random, other: bytes) -> bytes:
    """Change bytes of link layer, IP and transport headers."""
    positions = [at + _PACKETS[kind] for at, kind in chain(data) if kind in _PACKETS]
    if not positions:
        return _flip_bits(data, rng, other)
    out = bytearray(data)
    for _ in range(rng.choice((1, 4, 16))):
        at = rng.choice(positions) + rng.randrange(80)
        if at < len(out):
            out[at] = rng.choice((0, 1, 4, 6, 17, 44, 0x45, 0x4F, 0x60, 0x81, 0xFF, rng.randrange(256)))
    return bytes(out)


WAYS: tuple[Callable[[bytes, random.Random, bytes], bytes], ...] = (
    *(_cut, _flip_bits, _flip_bits, _overwrite, _insert, _remove, _repeat, _move, _splice),
    *(_number, _number, _number, _headers, _headers, _headers),
)


def mutate(data: bytes, seed: int | str, other: bytes = b"") -> bytes:
    """Damage a capture at random.

    Parameters
    ----------
    data : bytes
        A capture.
    seed : int or str
        Random seed; the same seed gives the same damage.
    other : bytes
        Another capture, for splicing; by default the same one.

    Returns
    -------
    bytes
        The damaged capture. One in five is compressed (gzip or zstd), before the damage or after it.
    """
    rng = random.Random(seed)
    pack = rng.choice((*(None,) * 8, _gzip, _zstd))
    early = rng.random() < 0.5
    if pack and early:
        data = pack(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if data:
            data = rng.choice(WAYS)(data, rng, other)
        data = data[: 1 << 20]
    return pack(data) if pack and not early else data


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


# -- what must hold ------------------------------------------------------------------------------


def examine(path: Path, group_by: Literal["flow", "host", "capture"] = "flow") -> str:
    """Read a capture that may be damaged; netgen may refuse it, but must account for every packet.

    Parameters
    ----------
    path : Path
        The file.
    group_by : str
        As in `netgen.extract`.

    Returns
    -------
    str
        ``"refused"``, ``"damaged"`` or ``"whole"``. Anything else raises an exception.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an overflow is an error
        try:
            table = netgen.extract([path], group_by=group_by)
        except netgen.NetgenError as error:
            message = str(error)
            table = None
    if table is None:
        assert "\n" not in message, f"not one line: {message}"
        return "refused"
    read_report = table.metadata["read_report"]
    packets = table.table["packets"].to_pylist()
    accounted = read_report["in_flows"] + sum(read_report["skipped"].values())
    assert read_report["packets"] == accounted, "packets are neither in flows nor skipped"
    assert read_report["in_flows"] == sum(packets), "the flows have other packets than the read report"
    assert read_report["flows"] == len(table), "the table has other flows than the read report"
    series = table.series()
    assert (series >= 0).all(), "a bin is negative"
    assert series[:, 2:].sum() + sum(table.table["truncated_packets"].to_pylist()) == sum(packets), (
        "series lack packets"
    )
    assert min(table.table["duration_ns"].to_pylist(), default=0) >= 0, "a duration is negative"
    return "damaged" if read_report["damaged"] else "whole"


# -- captures to damage --------------------------------------------------------------------------


def small_captures(folder: Path, most: int = 200_000) -> list[Path]:
    """List the captures of a folder that are at most this large, in a fixed order."""
    items = sorted(path for path in folder.rglob("*.pcap*") if path.is_file())
    return [path for path in items if path.stat().st_size <= most]


def _frames() -> list[bytes]:
    """Build a small capture of every kind: handshake, data, datagrams, fragments, tags, IPv6 extension headers."""

    def ip(protocol: int, payload: bytes, fragment: int = 0, back: bool = False) -> bytes:
        ends = bytes((10, 0, 0, 1, 10, 0, 0, 2)) if not back else bytes((10, 0, 0, 2, 10, 0, 0, 1))
        return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol, 0) + ends + payload

    def tcp(flags: int, seq: int, payload: bytes = b"", back: bool = False) -> bytes:
        ports = (443, 1000) if back else (1000, 443)
        return ip(6, struct.pack(">HHIIBBHHH", *ports, seq, 0, 0x50, flags, 999, 0, 0) + payload, 0, back)

    udp = struct.pack(">HHHH", 5000, 53, 28, 0) + bytes(20)
    six = struct.pack(">IHBB", 6 << 28, 16 + len(udp), 0, 64) + bytes(31) + b"\1"
    six += struct.pack(">BB6xBBHI", 44, 0, 17, 0, 0, 9) + udp
    hello = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03" + bytes(32) + b"\0\0\2\x13\x01\1\0\0\0"
    plain = [tcp(2, 1), tcp(18, 9, back=True), tcp(24, 2, hello), tcp(24, 10, bytes(1200), back=True), tcp(17, 3)]
    plain += [tcp(20, 999, back=True), tcp(2, 77), ip(17, udp), ip(17, udp, 0x2000), ip(17, bytes(40), 3)]
    plain += [
        ip(1, b"\x08\0\0\0\0\5\0\1"),
        ip(1, b"\0\0\0\0\0\5\0\1", back=True),
        ip(47, b"\0\0\x08\0" + ip(17, udp)),
        six,
    ]
    tags = (
        b"\x08\0",
        b"\x81\0\0\5\x08\0",
        b"\x88\xa8\0\5\x81\0\0\6\x08\0",
        b"\x88\x47\0\0\1\x40",
        b"\x88\x64\x11\0\0\1\0\x40\0\x21",
    )
    out = [bytes(12) + tags[index % len(tags)] + plain_frame for index, plain_frame in enumerate(plain[:-1])]
    return [*out, bytes(12) + b"\x86\xdd" + six, bytes(12) + b"\x08\x06" + bytes(46)]


def _pcap(frames: list[bytes], order: str, magic: int, linktype: int) -> bytes:
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    for index, frame in enumerate(frames):
        out += struct.pack(order + "4I", 1_700_000_000 + index * 9, index, len(frame), len(frame)) + frame
    return out


def _pcapng(frames: list[bytes], order: str) -> bytes:
    def block(kind: int, body: bytes) -> bytes:
        total = struct.pack(order + "I", len(body) + 12 + -len(body) % 4)
        return struct.pack(order + "I", kind) + total + body + bytes(-len(body) % 4) + total

    out = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    out += block(1, struct.pack(order + "HHI", 1, 0, 0))
    out += block(1, struct.pack(order + "HHIHHB3xHHqI", 1, 0, 0, 9, 1, 9, 14, 8, 100, 0))
    for index, frame in enumerate(frames):
        ticks = (1_700_000_000 + index) * (10**9 if index % 2 else 10**6)
        size = len(frame)
        out += block(6, struct.pack(order + "5I", index % 2, ticks >> 32, ticks & 0xFFFFFFFF, size, size) + frame)
    return out + block(3, struct.pack(order + "I", len(frames[0])) + frames[0]) + block(5, bytes(12))


def made_captures() -> list[bytes]:
    """Build small captures of both formats and byte orders, with and without a link layer."""
    frames = _frames()
    raw = [frame[14:] for frame in frames if frame[12:14] in (b"\x08\0", b"\x86\xdd")]
    return [
        _pcap(frames, "<", 0xA1B2C3D4, 1),
        _pcap(frames, ">", 0xA1B23C4D, 1),
        _pcap(raw, "<", 0xA1B23C4D, 101),
        _pcap([bytes(14) + frame[12:] for frame in frames], ">", 0xA1B2C3D4, 113),
        _pcapng(frames, "<"),
        _pcapng(frames, ">"),
    ]
