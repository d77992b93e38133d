"""Packets of capture files for the oracle (`support.oracle`): records and headers in plain Python, one at a time."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path

NS = 1_000_000_000
IDLE_NS = 120 * NS
FRAGMENT_NS = 30 * NS
BLOCK = 1024
FIN, SYN, RST, ACK = 1, 2, 4, 16
ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
PORTED = {TCP, UDP, 136, 132, 33}  # UDP-Lite, SCTP, DCCP
MAX_LAYERS = 8
MAX_WIRE = 1 << 18  # larger lengths on the wire are ignored

#: Link types that the oracle reads: loopback, Ethernet, raw IP, Linux cooked 1 and 2.
LINKTYPES = frozenset((0, 1, 12, 14, 101, 108, 113, 228, 229, 276))


class NotIPError(Exception):
    """Raised for a record that is not an IP packet, or whose headers are truncated or invalid."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A record of a capture file."""

    time_ns: int
    linktype: int
    wire: int
    data: bytes


@dataclasses.dataclass(frozen=True)
class Packet:
    """The fields of an IP packet that the rules use."""

    time_ns: int
    size: int
    protocol: int
    vlan: tuple[int, ...]
    src: bytes
    dst: bytes
    ports: tuple[int, int] | None  # None: a later fragment
    flags: int = 0
    seq: int = 0
    fragment: tuple[int, int] | None = None  # identification, and the protocol that all fragments name (IPv4)
    record: int = 1  # number of the record in the file, from 1

    @property
    def sender(self) -> tuple[bytes, int | None]:
        return self.src, self.ports[0] if self.ports else None

    @property
    def receiver(self) -> tuple[bytes, int | None]:
        return self.dst, self.ports[1] if self.ports else None

    @property
    def key(self) -> tuple[object, ...]:
        return frozenset((self.sender, self.receiver)), self.protocol, self.vlan

    @property
    def opens(self) -> bool:
        return self.flags & (SYN | ACK) == SYN

    @property
    def answers(self) -> bool:
        return self.flags & (SYN | ACK) == SYN | ACK


# -- records -------------------------------------------------------------------------------------


def records(path: Path) -> Iterator[Record]:
    """Read the records of a capture file, as far as they are complete."""
    data = path.read_bytes()
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        yield from _pcapng(data)
    else:
        yield from _pcap(data)


def _pcap(data: bytes) -> Iterator[Record]:
    magics = {0xA1B2C3D4: (1000, 16), 0xA1B23C4D: (1, 16), 0xA1B2CD34: (1000, 24)}
    order = "<" if struct.unpack("<I", data[:4])[0] in magics else ">"
    unit, head = magics[struct.unpack(order + "I", data[:4])[0]]
    linktype = struct.unpack(order + "I", data[20:24])[0] & 0xFFFF
    at = 24
    while at + head <= len(data):
        seconds, fraction, captured, wire = struct.unpack(order + "4I", data[at : at + 16])
        at += head
        yield Record(seconds * NS + fraction * unit, linktype, wire, data[at : at + captured])
        at += captured


def _pcapng(data: bytes) -> Iterator[Record]:
    order = "<"
    interfaces: list[tuple[int, int, int, int]] = []
    at = 0
    while at + 12 <= len(data):
        kind = struct.unpack(order + "I", data[at : at + 4])[0]
        if kind == 0x0A0D0D0A:
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
        total = struct.unpack(order + "I", data[at + 4 : at + 8])[0]
        body = data[at + 8 : at + total - 4]
        if total < 12 or at + total > len(data):
            return
        if kind == 1:
            interfaces.append(_interface(body, order))
        elif kind in (2, 6):
            number = struct.unpack(order + ("I" if kind == 6 else "H"), body[: 4 if kind == 6 else 2])[0]
            high, low, captured, wire = struct.unpack(order + "4I", body[4:20])
            linktype, unit, binary, offset_s = interfaces[number]
            ticks = high << 32 | low
            per_second = 1 << unit if binary else 10**unit
            time_ns = ticks * NS // per_second + offset_s * NS
            yield Record(time_ns, linktype, wire, body[20 : 20 + captured])
        elif kind == 3:
            wire = struct.unpack(order + "I", body[:4])[0]
            yield Record(0, interfaces[0][0], wire, body[4 : 4 + wire])
        at += total


def _interface(body: bytes, order: str) -> tuple[int, int, int, int]:
    """Return link type, exponent of the time unit, whether its base is 2, and offset in seconds."""
    unit, offset_s, at = 6, 0, 8
    while at + 4 <= len(body):
        code, size = struct.unpack(order + "HH", body[at : at + 4])
        value = body[at + 4 : at + 4 + size]
        if code == 9:
            unit = value[0]
        elif code == 14:
            offset_s = struct.unpack(order + "q", value)[0]
        at += 4 + (size + 3) // 4 * 4
    return struct.unpack(order + "H", body[:2])[0], unit & 0x7F, unit >> 7, offset_s


# -- headers -------------------------------------------------------------------------------------


def packet(record: Record) -> Packet:
    """Parse the IP packet in a record.

    Raises
    ------
    NotIPError
        If there is none, or its headers are cut or contradict themselves.
    """
    at, kind, vlan = find_ip(record)
    # bytes on the wire, unless the record's lengths contradict each other
    wire = max(len(record.data), record.wire if record.wire < MAX_WIRE else 0)
    return (_ipv4 if kind == 0x0800 else _ipv6)(record, at, wire - at, vlan)


def find_ip(record: Record) -> tuple[int, int, tuple[int, ...]]:
    """Return the offset of the IP header, its EtherType, and the VLAN numbers before it."""
    at, kind = _link(record)
    vlan: list[int] = []
    for _ in range(MAX_LAYERS):
        if kind not in (0x0800, 0x86DD):
            at, kind = _tag(record.data, at, kind, vlan)
    if kind not in (0x0800, 0x86DD):
        raise NotIPError
    return at, kind, tuple(vlan)


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise NotIPError
    return int.from_bytes(data[at : at + size], "big")


def _by_version(data: bytes, at: int) -> tuple[int, int]:
    version = _number(data, at, 1) >> 4
    if version not in (4, 6):
        raise NotIPError
    return at, 0x0800 if version == 4 else 0x86DD


def _link(record: Record) -> tuple[int, int]:
    """Return the offset of the next header, and its EtherType."""
    data = record.data
    match record.linktype:
        case 1:
            return 14, _number(data, 12, 2)
        case 113:
            return 16, _number(data, 14, 2)
        case 276:
            _number(data, 0, 20)
            return 20, _number(data, 0, 2)
        case 12 | 14 | 101:
            return _by_version(data, 0)
        case 228:
            return 0, 0x0800
        case 229:
            return 0, 0x86DD
        case 0 | 108:
            family = min(_number(data, 0, 4), int.from_bytes(data[:4], "little"))
            if family not in (2, 10, 24, 28, 30):
                raise NotIPError
            return 4, 0x0800 if family == 2 else 0x86DD
    raise NotIPError


def _tag(data: bytes, at: int, kind: int, vlan: list[int]) -> tuple[int, int]:
    """Skip one tag between link layer and IP."""
    if kind < 0x600:  # a length: LLC follows
        if _number(data, at, 6) != 0xAAAA03000000 or _number(data, at + 6, 2) < 0x600:
            raise NotIPError
        return at + 8, _number(data, at + 6, 2)
    if kind in (0x8100, 0x88A8, 0x9100):
        number = _number(data, at, 2) & 0xFFF
        if number and len(vlan) < 2:  # number 0 carries only a priority; the first two other tags count
            vlan.append(number)
        return at + 4, _number(data, at + 2, 2)
    if kind == 0x8864:
        kinds = {0x0021: 0x0800, 0x0057: 0x86DD, 0x0281: 0x8847, 0x0283: 0x8848}
        protocol = _number(data, at + 6, 2)
        if protocol in kinds:
            return at + 8, kinds[protocol]
    if kind in (0x8847, 0x8848):
        bottom = _number(data, at, 4) & 0x100
        return _by_version(data, at + 4) if bottom else (at + 4, 0x8847)
    return _rare_tag(data, at, kind)


def _rare_tag(data: bytes, at: int, kind: int) -> tuple[int, int]:
    """Skip the tags that a few of the shared captures have."""
    if kind == 0x8903:  # FabricPath: its tag, and the complete frame
        return at + 16, _number(data, at + 14, 2)
    if kind == 0x88E5 and not _number(data, at, 1) & 0x0C:  # MACsec, if it does not encrypt
        at += 14 if data[at] & 0x20 else 6
        return at + 2, _number(data, at, 2)
    if kind == 0xD28B:  # Arista's time stamp, in one of two lengths
        at += 4 + {0x10: 8, 0x20: 6}.get(_number(data, at + 3, 1), 1 << 30)
        return at + 2, _number(data, at, 2)
    if kind == 0x894F:  # network service header
        return at + (_number(data, at, 2) & 0x3F) * 4, {1: 0x0800, 2: 0x86DD}.get(_number(data, at + 3, 1), 0)
    raise NotIPError


def _ipv4(record: Record, at: int, wire: int, vlan: tuple[int, ...]) -> Packet:
    data = record.data
    _number(data, at, 20)
    header = (data[at] & 15) * 4
    size = _number(data, at + 2, 2) or wire
    if data[at] >> 4 != 4 or header < 20 or size < header or at + header > len(data):
        raise NotIPError
    position, protocol = _number(data, at + 6, 2), data[at + 9]
    fragment = (_number(data, at + 4, 2), protocol) if position & 0x3FFF else None
    ends = data[at + 12 : at + 16], data[at + 16 : at + 20]
    payload = data[at + header : at + size]  # the rest is padding
    bare = Packet(record.time_ns, size, protocol, vlan, *ends, None, fragment=fragment)
    return bare if position & 0x1FFF else _transport(bare, payload)


def _ipv6(record: Record, at: int, wire: int, vlan: tuple[int, ...]) -> Packet:
    data = record.data
    _number(data, at, 40)
    if data[at] >> 4 != 6:
        raise NotIPError
    size = 40 + _number(data, at + 4, 2)
    protocol = data[at + 6]
    if size == 40 and protocol in (0, TCP, UDP):  # a jumbogram, or segmentation offload
        size = wire
    ends = data[at + 8 : at + 24], data[at + 24 : at + 40]
    payload = data[at + 40 : at + size]
    fragment, later = None, False
    for _ in range(MAX_LAYERS):
        if later or protocol not in (0, 43, 44, 51, 60):
            break
        _number(payload, 0, 8)
        following = payload[0]
        length = {44: 8, 51: payload[1] * 4 + 8}.get(protocol, payload[1] * 8 + 8)
        if protocol == 44:
            position = _number(payload, 2, 2)
            later = position >> 3 > 0
            if later or position & 1:  # else an atomic fragment, which is a complete packet
                fragment = (_number(payload, 4, 4), following)
        if length > len(payload):
            raise NotIPError
        protocol, payload = following, payload[length:]
    if not later and protocol in (0, 43, 44, 51, 60):
        raise NotIPError
    bare = Packet(record.time_ns, size, protocol, vlan, *ends, None, fragment=fragment)
    return bare if later else _transport(bare, payload)


def _transport(bare: Packet, payload: bytes) -> Packet:
    """Add the ports to a packet, and for TCP the flags and the sequence number."""
    echo = {4: (ICMP, (0, 8)), 16: (ICMPV6, (128, 129))}[len(bare.src)]
    if bare.protocol in PORTED:
        ports = _number(payload, 0, 2), _number(payload, 2, 2)
        if bare.protocol == TCP and len(payload) >= 14:
            return dataclasses.replace(bare, ports=ports, seq=_number(payload, 4, 4), flags=payload[13])
        return dataclasses.replace(bare, ports=ports)
    if len(payload) >= 8 and bare.protocol == echo[0] and payload[0] in echo[1]:
        return dataclasses.replace(bare, ports=(_number(payload, 4, 2),) * 2)
    return dataclasses.replace(bare, ports=(0, 0))
