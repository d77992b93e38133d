"""Packets, captures and cases for the rules of docs/flows.md, each with the flows that the rules give."""

import ipaddress
import struct
from typing import Any

#: Seconds from T, or None for a stamp of 0, and the frame.
Frames = list[tuple[float | None, bytes]]

NS = 1_000_000_000
T = 1_700_000_000
YEAR = 365 * 86_400
FIN, SYN, RST, ACK = 1, 2, 4, 16
MORE = 0x2000
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
A6, B6 = "2001:db8::1", "2001:db8::2"


def ether(kind: Any, payload: Any, vlans: Any = ()) -> Any:
    tags = b"".join(struct.pack(">HH", 0x8100, number) for number in vlans)
    return bytes(range(12)) + tags + struct.pack(">H", kind) + payload


def ip(
    src: Any,
    dst: Any,
    protocol: Any,
    payload: Any,
    *,
    fragment: Any = 0,
    ident: Any = 0,
    length: Any = None,
    vlans: Any = (),
) -> Any:
    """Build an IPv4 packet from addresses in dotted notation; `fragment` is the offset in units of 8 bytes."""
    ends = ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
    total = 20 + len(payload) if length is None else length
    return ether(
        0x0800, struct.pack(">BBHHHBBH", 0x45, 0, total, ident, fragment, 9, protocol, 0) + ends + payload, vlans
    )


def ip6(src: Any, dst: Any, protocol: Any, payload: Any, *, length: Any = None, vlans: Any = ()) -> Any:
    ends = ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed
    size = len(payload) if length is None else length
    return ether(0x86DD, struct.pack(">IHBB", 6 << 28, size, protocol, 9) + ends + payload, vlans)


def tcp(
    flags: Any,
    seq: Any = 1,
    src: Any = A,
    dst: Any = B,
    sport: Any = 1000,
    dport: Any = 80,
    size: Any = 0,
    **options: Any,
) -> Any:
    head = struct.pack(">HHIIBBHHH", sport, dport, seq, 0, 0x50, flags, 0, 0, 0)
    return ip(src, dst, 6, head + bytes(size), **options)


def back(flags: Any, seq: Any = 1, size: Any = 0, **options: Any) -> Any:
    """Build a packet from the server to the client of `tcp`."""
    return tcp(flags, seq, B, A, 80, 1000, size, **options)


def udp(src: Any = A, dst: Any = B, sport: Any = 1000, dport: Any = 53, size: Any = 0, **options: Any) -> Any:
    return ip(src, dst, 17, struct.pack(">HHHH", sport, dport, min(8 + size, 0xFFFF), 0) + bytes(size), **options)


def frag(
    offset: Any, ident: Any = 7, src: Any = A, dst: Any = B, protocol: Any = 17, size: Any = 8, **options: Any
) -> Any:
    """Build a later fragment."""
    return ip(src, dst, protocol, b"\xff" * size, fragment=offset, ident=ident, **options)


def frag6(offset_and_more: Any, ident: Any, payload: Any, *, following: Any = 17, src: Any = A6, dst: Any = B6) -> Any:
    """Build an IPv6 packet with a fragment header; `offset_and_more` is offset * 8 + more."""
    return ip6(src, dst, 44, struct.pack(">BBHI", following, 0, offset_and_more, ident) + payload)


def echo(kind: Any, ident: Any, src: Any = A, dst: Any = B, seq: Any = 0) -> Any:
    return ip(src, dst, 1, struct.pack(">BBHHH", kind, 0, 0, ident, seq))


def write(path: Any, frames: Any) -> Any:
    """Write a pcap file with nanoseconds; times are in seconds from T, or None for a stamp of 0."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, 1)]
    for seconds, data in frames:
        time_ns = 0 if seconds is None else T * NS + round(seconds * NS)
        out.append(struct.pack("<4I", *divmod(time_ns, NS), len(data), len(data)) + data)
    path.write_bytes(b"".join(out))
    return path


PORTS = struct.pack(">HHHH", 1000, 53, 24, 0)
TICK = 2**-29  # about 2 ns, and exact in a float up to a year

# fmt: off
#: Name: (frames, the flows as lists of packet numbers).
CASES: dict[str, tuple[Frames, list[list[int]]]] = {
    # rule 2
    "both directions": ([(0, udp()), (1, udp(B, A, 53, 1000)), (2, udp(sport=1001))], [[0, 1], [2]]),
    "same address, two ports": ([(0, udp(A, A, 1, 2)), (1, udp(A, A, 2, 1))], [[0, 1]]),
    "land": ([(0, udp(A, A, 7, 7, 5)), (1, udp(A, A, 7, 7, 9))], [[0, 1]]),
    "vlans": (
        [(i, udp(vlans=vlans))
         for i, vlans in enumerate([(), (0,), (5,), (5, 0), (6,), (5, 6), (6, 5), (0, 5), (5, 6, 7)])],
        [[0, 1], [2, 3, 7], [4], [5, 8], [6]],
    ),
    "protocols with ports": (
        [(i, ip(A, B, p, struct.pack(">HH", sport, 9) + bytes(20))) for i, (p, sport) in enumerate(
            [(132, 1), (132, 2), (33, 1), (33, 2), (136, 1), (136, 2), (47, 1), (47, 2), (50, 1), (50, 2)])],
        [[0], [1], [2], [3], [4], [5], [6, 7], [8, 9]],
    ),
    "echo ids": (
        [(0, echo(8, 1)), (1, echo(8, 2)), (2, echo(0, 1, B, A)), (3, ip(A, B, 1, bytes([3, 1, 0, 0, 0, 1, 0, 0])))],
        [[0, 2], [1], [3]],
    ),
    "echo ids of IPv6": (
        [(i, ip6(A6, B6, 58, struct.pack(">BBHHH", kind, 0, 0, ident, 0)))
         for i, (kind, ident) in enumerate([(128, 1), (128, 2), (129, 1), (135, 1)])],
        [[0, 2], [1], [3]],
    ),
    # rule 3
    "fragments in order": (
        [(0, udp(fragment=MORE, ident=7, size=16)), (1, frag(3)), (2, frag(3, 8)), (3, udp(sport=9))],
        [[0, 1], [2], [3]],
    ),
    "fragments before their first": (
        [(0, frag(6)), (1, frag(3 | MORE)), (2, udp(fragment=MORE, ident=7))],
        [[0, 1, 2]],
    ),
    "fragments without a first": ([(0, frag(3)), (1, udp()), (2, frag(6))], [[0, 2], [1]]),
    "a fragment's first is of its sender": ([(0, udp(fragment=MORE, ident=7)), (1, frag(3, src=B, dst=A))], [[0], [1]]),
    "a fragment's first is of its protocol": ([(0, udp(fragment=MORE, ident=7)), (1, frag(3, protocol=6))], [[0], [1]]),
    "a fragment's first is of its VLAN": (
        [(0, udp(fragment=MORE, ident=7, vlans=(5,))), (1, frag(3, vlans=(6,))), (2, frag(3, vlans=(5,)))],
        [[0, 2], [1]],
    ),
    "a fragment 30 s after its first": ([(0, udp(fragment=MORE, ident=7)), (30, frag(3))], [[0, 1]]),
    "a fragment over 30 s after its first": ([(0, udp(fragment=MORE, ident=7)), (30 + TICK, frag(3))], [[0], [1]]),
    "a fragment over 30 s before its first": ([(0, frag(3)), (30 + TICK, udp(fragment=MORE, ident=7))], [[0], [1]]),
    "identifications are reused": (
        [(0, udp(fragment=MORE, ident=7)), (0, frag(3)), (9, udp(sport=9, fragment=MORE, ident=7)), (9, frag(3))],
        [[0, 1], [2, 3]],
    ),
    "a fragment of an echo": ([(0, ip(A, B, 1, struct.pack(">BBHHH", 8, 0, 0, 5, 0), fragment=MORE, ident=7)),
                               (1, frag(1, protocol=1)), (2, frag(1, 8, protocol=1))], [[0, 1], [2]]),
    "fragments of IPv6": (
        [(0, frag6(1, 1 << 20, PORTS)), (1, frag6(8, 1 << 20, b"\xff" * 8)), (2, frag6(8, 1, b"\xff" * 8))],
        [[0, 1], [2]],
    ),
    "an atomic fragment is a complete packet": ([(0, frag6(0, 9, PORTS)), (1, frag6(8, 9, b"\xff" * 8))], [[0], [1]]),
    # rules 4 and 5
    "idle for 120 s": ([(0, udp()), (120, udp())], [[0, 1]]),
    "idle for longer": ([(0, udp()), (120 + TICK, udp()), (240, udp())], [[0], [1, 2]]),
    "a packet stamped early": ([(0, udp()), (-3600, udp()), (1, udp())], [[0, 1, 2]]),
    "a stamp of 0 first": ([(None, udp()), (0, udp()), (None, udp())], [[0, 1, 2]]),
    "the clock is common to all flows": ([(0, udp()), (300, udp(sport=9)), (1, udp())], [[0], [1], [2]]),
    "a late packet in a flow that continues": (
        [(0, udp()), (100, udp()), (10, udp()), (220, udp())],
        [[0, 1, 2, 3]],
    ),
    # rule 7
    "port reuse after FIN": (
        [(0, tcp(SYN, 1)), (1, back(SYN | ACK, 5)), (2, tcp(FIN | ACK, 2)), (3, back(FIN | ACK, 6)), (4, tcp(ACK, 3)),
         (5, tcp(SYN, 9)), (6, back(SYN | ACK, 7))],
        [[0, 1, 2, 3, 4], [5, 6]],
    ),
    "port reuse by the other side after FIN": ([(0, tcp(SYN, 1)), (1, tcp(FIN, 2)), (2, back(SYN, 9))], [[0, 1], [2]]),
    "port reuse without FIN": (
        [(0, tcp(SYN, 1)), (1, tcp(ACK, 2)), (2, tcp(SYN, 9)), (3, tcp(ACK, 10))],
        [[0, 1], [2, 3]],
    ),
    "a repeated SYN": ([(0, tcp(SYN, 1)), (1, tcp(SYN, 1)), (2, back(SYN | ACK, 5)), (3, tcp(SYN, 1))], [[0, 1, 2, 3]]),
    "a SYN repeated after a reset": ([(0, tcp(SYN, 1)), (1, back(RST | ACK, 0)), (2, tcp(SYN, 1))], [[0, 1, 2]]),
    "a new SYN after a reset": ([(0, tcp(SYN, 1)), (1, back(RST | ACK, 0)), (2, tcp(SYN, 2))], [[0, 1], [2]]),
    "both sides open": (
        [(0, tcp(SYN, 1)), (1, back(SYN, 5)), (2, tcp(SYN | ACK, 1)), (3, back(SYN | ACK, 5))],
        [[0, 1, 2, 3]],
    ),
    "a SYN after the other side's reset": ([(0, back(RST)), (1, tcp(SYN, 1))], [[0], [1]]),
    "a SYN after the other side's FIN": ([(0, back(FIN)), (1, tcp(SYN, 1))], [[0], [1]]),
    "a SYN in the middle": ([(0, back(ACK, 5)), (1, tcp(SYN, 1)), (2, back(SYN | ACK, 9))], [[0, 1, 2]]),
    "packets after a reset": (
        [(0, tcp(SYN, 1)), (1, back(RST)), (2, back(ACK)), (100, tcp(ACK)), (101, back(RST))],
        [[0, 1, 2, 3, 4]],
    ),
    "packets long after a reset": ([(0, tcp(SYN, 1)), (1, back(RST)), (122, back(ACK))], [[0, 1], [2]]),
}

#: Name: (frames, the rows that the rules give).
ROWS: dict[str, tuple[Frames, list[tuple[object, ...]]]] = {
    # rule 8
    "the SYN's sender": (
        [(0, back(ACK, 5, 10)), (1, tcp(SYN, 1)), (3, back(SYN | ACK, 9))],
        [(6, A, 1000, B, 80, None, T * NS, 3 * NS, 3, 130, 40, 90, 1, 2)],
    ),
    "the receiver of the SYN-ACK": (
        [(0, back(ACK, 5)), (1, back(SYN | ACK, 9)), (2, tcp(ACK, 1, size=7))],
        [(6, A, 1000, B, 80, None, T * NS, 2 * NS, 3, 127, 47, 80, 1, 2)],
    ),
    "the first packet's sender": (
        [(1, back(ACK, 5)), (0, tcp(ACK, 1))],
        [(6, B, 80, A, 1000, None, T * NS, NS, 2, 80, 40, 40, 1, 1)],
    ),
    "land is up": (
        [(0, udp(A, A, 7, 7)), (1, udp(A, A, 7, 7))],
        [(17, A, 7, A, 7, None, T * NS, NS, 2, 56, 56, 0, 2, 0)],
    ),
    # rules 3 and 9
    "ports null": (
        [(0, frag(3)), (-1, frag(3, 9, src=B, dst=A))],
        [(17, A, None, B, None, None, (T - 1) * NS, NS, 2, 56, 28, 28, 1, 1)],
    ),
    # rule 10
    "a length of 0 is taken from the wire": (
        [(0, udp(size=70_000, length=0)), (1, ip6(A6, B6, 17, PORTS + bytes(99), length=0))],
        [
            (17, A, 1000, B, 53, None, T * NS, 0, 1, 70_028, 70_028, 0, 1, 0),
            (17, A6, 1000, B6, 53, None, (T + 1) * NS, 0, 1, 147, 147, 0, 1, 0),
        ],
    ),
    "padding is not counted": (
        [(0, udp(size=4) + bytes(14)), (1, ip6(A6, B6, 17, PORTS) + bytes(40))],
        [
            (17, A, 1000, B, 53, None, T * NS, 0, 1, 32, 32, 0, 1, 0),
            (17, A6, 1000, B6, 53, None, (T + 1) * NS, 0, 1, 48, 48, 0, 1, 0),
        ],
    ),
}
# fmt: on
