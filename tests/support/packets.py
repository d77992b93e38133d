"""Packets byte by byte, and pcap files of them."""

import struct
from collections.abc import Iterable

NS = 1_000_000_000


def write_pcap(
    packets: Iterable[tuple[int, bytes]],
    *,
    order: str = "<",
    nano: bool = False,
    linktype: int = 1,
    snaplen: int = 262_144,
    kuznetsov: bool = False,
) -> bytes:
    """Make the bytes of a pcap file from pairs of time in ns and packet."""
    magic = 0xA1B2CD34 if kuznetsov else 0xA1B23C4D if nano else 0xA1B2C3D4
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, linktype)]
    for time_ns, packet in packets:
        seconds, rest = divmod(time_ns, NS)
        kept = packet[:snaplen]
        out.append(struct.pack(order + "4I", seconds, rest if nano else rest // 1000, len(kept), len(packet)))
        if kuznetsov:
            out.append(bytes(8))
        out.append(kept)
    return b"".join(out)


def _ipv4(
    payload: bytes,
    protocol: int,
    src: str = "10.0.0.1",
    dst: str = "10.0.0.2",
    *,
    length: int | None = None,
    fragment: int = 0,
    options: bytes = b"",
    version: int = 4,
) -> bytes:
    header = 20 + len(options)
    total = header + len(payload) if length is None else length
    ends = bytes(int(octet) for end in (src, dst) for octet in end.split("."))
    first = version << 4 | header // 4
    return struct.pack(">BBHHHBBH", first, 0, total, 1, fragment, 64, protocol, 0) + ends + options + payload


def _tcp(src_port: int, dst_port: int, flags: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHIIBBHHH", src_port, dst_port, 1, 1, 0x50, flags, 1000, 0, 0) + payload


def _udp(src_port: int, dst_port: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHHH", src_port, dst_port, 8 + len(payload), 0) + payload


class Packet:
    """Headers built byte by byte, so that invalid ones are possible."""

    ipv4 = staticmethod(_ipv4)
    tcp = staticmethod(_tcp)
    udp = staticmethod(_udp)

    @staticmethod
    def ether(payload: bytes, kind: int = 0x0800) -> bytes:
        return bytes(range(12)) + struct.pack(">H", kind) + payload

    @classmethod
    def tcp4(
        cls,
        src_port: int,
        dst_port: int,
        flags: int,
        payload: bytes = b"",
        src: str = "10.0.0.1",
        dst: str = "10.0.0.2",
    ) -> bytes:
        return cls.ether(_ipv4(_tcp(src_port, dst_port, flags, payload), 6, src, dst))

    @classmethod
    def udp4(
        cls, src_port: int, dst_port: int, payload: bytes = b"", src: str = "10.0.0.1", dst: str = "10.0.0.2"
    ) -> bytes:
        return cls.ether(_ipv4(_udp(src_port, dst_port, payload), 17, src, dst))
