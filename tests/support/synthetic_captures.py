"""Random captures of all kinds of traffic, for tests of how files are split, read and joined.

They have ClientHellos in several segments, QUIC, DNS, fragments in any order, packets seen twice,
tags, time stamps that run back and jump, and frames that are not IP; as pcap and as pcapng.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from support import handshakes

NS = 1_000_000_000
T = 1_700_000_000 * NS
FIN, SYN, RST, ACK = 1, 2, 4, 16
MORE = 0x2000

Frames = list[tuple[int, bytes]]


# -- packets -------------------------------------------------------------------------------------


def ip(src: int, dst: int, protocol: int, payload: bytes, ident: int = 0, fragment: int = 0, vlan: int = 0) -> bytes:
    """Build an Ethernet frame between the hosts 10.0.0.`src` and 10.0.0.`dst`."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), ident, fragment, 64, protocol, 0)
    tag = struct.pack(">HH", 0x8100, vlan) if vlan else b""
    return bytes(12) + tag + b"\x08\0" + head + bytes((10, 0, 0, src, 10, 0, 0, dst)) + payload


def tcp(sport: int, dport: int, flags: int, seq: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHIIBBHHH", sport, dport, seq % 2**32, 1, 0x50, flags, 1000, 0, 0) + payload


def udp(sport: int, dport: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload


# -- conversations -------------------------------------------------------------------------------


def _connection(rng: random.Random, number: int) -> Iterator[bytes]:
    """Yield a TCP connection whose ClientHello comes in one to four segments."""
    client, server, port = rng.randrange(1, 9), rng.randrange(10, 20), 2000 + number % 40
    ident, vlan = rng.randrange(1 << 16), rng.choice((0, 0, 0, 5))

    def sent(flags: int, seq: int, payload: bytes = b"", back: bool = False) -> bytes:
        ends = (443, port, flags, seq, payload) if back else (port, 443, flags, seq, payload)
        hosts = (server, client) if back else (client, server)
        return ip(*hosts, 6, tcp(*ends), ident, vlan=vlan)

    seq = rng.getrandbits(32)
    if rng.random() < 0.8:
        yield sent(SYN, seq)
        yield sent(SYN | ACK, 9, back=True)
    hello = handshakes.hello(f"host{number}.example.org".encode(), ((21, bytes(rng.randrange(300))),))
    cuts = sorted(rng.randrange(1, len(hello)) for _ in range(rng.randrange(4)))
    for first, last in zip([0, *cuts], [*cuts, len(hello)], strict=True):
        yield sent(ACK, seq + 1 + first, hello[first:last])
    for _ in range(rng.randrange(6)):
        yield sent(ACK, rng.getrandbits(32), rng.randbytes(rng.choice((0, 9, 300, 1400))), back=rng.random() < 0.7)
    if rng.random() < 0.7:
        yield sent(rng.choice((FIN | ACK, RST)), seq + 999)


def _quic(rng: random.Random, number: int) -> Iterator[bytes]:
    """Yield a QUIC connection whose ClientHello comes in two datagrams."""
    message, chosen = handshakes.message(f"quic{number}.example.org".encode()), rng.randbytes(8)
    cut = rng.randrange(1, len(message))
    ends = (rng.randrange(1, 9), 20, 17)
    for at, piece in ((0, message[:cut]), (cut, message[cut:])):
        yield ip(*ends, udp(3000 + number % 500, 443, handshakes.initial(handshakes.crypto(at, piece), chosen)))


def _resolved(rng: random.Random, number: int) -> Iterator[bytes]:
    """Yield a DNS answer, and traffic with the address in it."""
    client, server, name = rng.randrange(1, 9), rng.randrange(30, 60), f"dns{number}.example.org"
    answer = handshakes.record(handshakes.dns_name(name), 1, bytes((10, 0, 0, server)))
    yield ip(53, client, 17, udp(53, 4000, handshakes.dns(name, [answer])))
    for _ in range(3):
        yield ip(client, server, 17, udp(4001 + number % 50, 9, rng.randbytes(rng.randrange(99))))


def _fragmented(rng: random.Random, number: int) -> Iterator[bytes]:
    """Yield a datagram in three fragments, in any order; sometimes one is missing."""
    ends = (rng.randrange(1, 9), 70, 17)
    datagram_frames = [ip(*ends, udp(5000 + number % 9, 9, bytes(16)), number % 20, MORE)]
    datagram_frames += [ip(*ends, b"\xff" * 24, number % 20, 3 | MORE), ip(*ends, b"\xff" * 9, number % 20, 6)]
    rng.shuffle(datagram_frames)
    yield from datagram_frames[: rng.choice((2, 3, 3))]


def _other(rng: random.Random, _number: int) -> Iterator[bytes]:
    """Yield an ARP frame and a truncated IP packet."""
    yield bytes(12) + b"\x08\x06" + bytes(28)
    yield ip(1, 2, 6, tcp(1, 2, ACK, 3))[: rng.choice((3, 20, 40))]


_KINDS = (_connection, _connection, _connection, _quic, _resolved, _fragmented, _other)


def frames(seed: int, count: int) -> Frames:
    """Return `count` packets of concurrent conversations, with their times in ns."""
    rng = random.Random(seed)
    out: Frames = []
    going: list[Iterator[bytes]] = []
    now, number = T, 0
    while len(out) < count:
        while len(going) < 6:
            number += 1
            going.append(rng.choice(_KINDS)(rng, number))
        index = rng.randrange(len(going))
        frame = next(going[index], None)
        if frame is None:
            del going[index]
            continue
        now += rng.choice((0, 1, 1, 1, 1, 1, 20)) * 10_000_000
        now += rng.choice((130 * NS, -NS, -200 * NS, 10**6 * NS)) if rng.random() < 0.004 else 0
        out.append((0 if rng.random() < 0.002 else now, frame))
        if rng.random() < 0.05:
            out.append((now + 1_000_000, frame))  # seen twice
    return out[:count]


# -- files ---------------------------------------------------------------------------------------


def pcap(packets: Frames, order: str = "<") -> bytes:
    """Build a pcap file with nanoseconds."""
    out = [struct.pack(order + "IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)]
    for time_ns, frame in packets:
        out.append(struct.pack(order + "4I", *divmod(time_ns, NS), len(frame), len(frame)) + frame)
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Build a pcapng block."""
    total = struct.pack(order + "I", len(body) + 12 + -len(body) % 4)
    return struct.pack(order + "I", kind) + total + body + bytes(-len(body) % 4) + total


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(order: str = "<", resolution: int = 9, offset_s: int = 0) -> bytes:
    """Build an Ethernet interface block with its own time resolution and offset."""
    options = struct.pack(order + "HHB3xHHqI", 9, 1, resolution, 14, 8, offset_s, 0)
    return block(1, struct.pack(order + "HHI", 1, 0, 0) + options, order)


def enhanced(time_ns: int, frame: bytes, number: int = 0, order: str = "<") -> bytes:
    """Build a packet of an interface; `time_ns` is in the interface's units."""
    head = struct.pack(order + "5I", number, time_ns >> 32, time_ns & 0xFFFFFFFF, len(frame), len(frame))
    return block(6, head + frame, order)


def simple(frame: bytes, order: str = "<") -> bytes:
    """Build a packet block without a time."""
    return block(3, struct.pack(order + "I", len(frame)) + frame, order)


def pcapng(packets: Frames, seed: int = 0, sections: int = 3) -> bytes:
    """Build a pcapng file: sections of both byte orders, interfaces declared late, packets without a time."""
    rng = random.Random(seed)
    out = list[bytes]()
    for number in range(sections):
        order = "<>"[number % 2]
        clocks = [(9, 0)]
        out += [section(order), interface(order)]
        for time_ns, frame in packets[number * len(packets) // sections : (number + 1) * len(packets) // sections]:
            if rng.random() < 0.02:
                clocks.append(rng.choice(((9, 100), (6, 0), (3, -100))))
                out.append(interface(order, *clocks[-1]))
            if rng.random() < 0.02:
                out.append(block(rng.choice((5, 0x0BAD)), rng.randbytes(rng.randrange(40)), order))
            if rng.random() < 0.05:
                out.append(simple(frame, order))
                continue
            number_of_clock = rng.randrange(len(clocks))
            resolution, offset_s = clocks[number_of_clock]
            ticks = max(time_ns - offset_s * NS, 0) // 10 ** (9 - resolution)
            out.append(enhanced(ticks, frame, number_of_clock, order))
    return b"".join(out)


def hidden(count: int, seed: int = 0) -> tuple[bytes, bytes]:
    """Build a pcap and a pcapng file whose payloads look like records of such files, cut at either end."""
    rng = random.Random(seed)
    inside = [(T + i, ip(90, 91, 17, udp(i, 9, rng.randbytes(rng.randrange(30))))) for i in range(9)]
    files = []
    for write, head in ((pcap, 24), (lambda packets: b"".join(enhanced(*packet) for packet in packets), 0)):
        body = write(inside)[head:]
        outside = []
        for index in range(count):
            first = rng.randrange(4) * 4
            frame = ip(1, 2, 17, udp(1000 + index % 7, 9, b"??" + body[first : len(body) - rng.randrange(9)]))
            outside.append((T + index * NS // 10, frame))
        files.append(pcap(outside) if head else section() + interface() + write(outside))
    return files[0], files[1]
