"""The packets of a capture in columns, and what can be said of each by itself: order, lengths, checksums.

Written without the exporter's means: checksums are differences of running sums over the file's
bytes, where the exporter adds up its tables of headers.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator

import numpy as np

from netgen.capture.formats.reader import CaptureFile
from netgen.capture.formats.records import RecordBatch
from netgen.capture.headers import (
    ETHERNET,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ICMP,
    IPV4,
    IPV6,
    LINKTYPE_ETHERNET,
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    PROTOCOL_IGMP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    TCP,
    UDP,
    gather,
    protocol_mask,
)
from netgen.exporters.verify.issues import IssueList

_SPAN = 1 << 23  # bytes of a file that are added up at a time

_IPV4_ONLY = protocol_mask(PROTOCOL_ICMP, PROTOCOL_IGMP)

#: A packet of TCP, UDP, IGMP or an ICMP echo over IP over Ethernet; addresses as two halves, an IPv4 address in the low
#: one. An echo's identifier is both its ports, IGMP's ports are 0.
WIRE = np.dtype(
    [
        ("number", "<i8"),
        ("time_ns", "<i8"),
        ("src_high", "<u8"),
        ("src_low", "<u8"),
        ("dst_high", "<u8"),
        ("dst_low", "<u8"),
        ("src_port", "<u2"),
        ("dst_port", "<u2"),
        ("size", "<u4"),
        ("payload", "<u4"),
        ("seq", "<u4"),
        ("ack", "<u4"),
        ("stamp", "<u4"),
        ("echo", "<u4"),
        ("window", "<u2"),
        ("version", "u1"),
        ("protocol", "u1"),
        ("flags", "u1"),
        ("shift", "i1"),
        ("stamped", "?"),
    ]
)


@dataclasses.dataclass(frozen=True)
class Wire:
    """The packets of a capture.

    Parameters
    ----------
    packets : ndarray of WIRE, shape (packets,)
        Those of TCP, UDP, IGMP and ICMP echoes, in the file's order.
    others : int
        Packets that are none of these, or are fragments, or not over Ethernet: looked at no further.
    """

    packets: np.ndarray
    others: int


def read(capture: CaptureFile, found: IssueList) -> Wire:
    """All packets, with findings of order, lengths and checksums."""
    parts, others, last_ns = [np.zeros(0, WIRE)], 0, None
    for chunk in capture.chunks():
        for part in _spans(chunk):
            before = np.r_[part.time_ns[0] if last_ns is None else last_ns, part.time_ns[:-1]]
            back = before - part.time_ns
            if (back > 0).any():
                row = int((back > 0).argmax())
                what = f"it is {int(back[row]):,} ns older than the one before"
                found.add("order", int((back > 0).sum()), int(part.number[row]), what)
            last_ns = part.time_ns[-1]
            found.rows("whole", part.captured < part.length, part.number, "not all of it was captured")
            packets = _packets(part, found)
            others += len(part) - len(packets)
            parts.append(packets)
    for damage in capture.damage:
        found.add("readable", 1, None, f"byte {damage.byte}: {damage.reason}")
    return Wire(np.concatenate(parts), others)


def _spans(chunk: RecordBatch) -> Iterator[RecordBatch]:
    """A chunk in pieces of bounded length, whose data hold nothing but their packets."""
    ends = chunk.offset + chunk.captured
    begin = 0
    while begin < len(chunk):
        start = int(chunk.offset[begin])
        end = max(int(np.searchsorted(ends, start + _SPAN, side="right")), begin + 1)
        rows = slice(begin, end)
        data = np.ascontiguousarray(chunk.data[start : int(ends[end - 1])])
        yield RecordBatch(
            data, chunk.offset[rows] - start, chunk.captured[rows], chunk.length[rows], chunk.time_ns[rows],
            chunk.linktype[rows], chunk.number[rows],
        )  # fmt: skip
        begin = end


class _Sums:
    """Sums of 16-bit words over any stretch of some bytes, from running sums of even and odd places."""

    def __init__(self, data: np.ndarray) -> None:
        self._sums = []
        for place in (0, 1):
            own = np.zeros(len(data) + 1, np.uint32)
            own[1 + place :: 2] = data[place::2]
            self._sums.append(np.cumsum(own, dtype=np.uint32))

    def words(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Sum of big-endian words from `begin` to `end`; an odd last byte is a word's first."""
        even, odd = (sums[end] - sums[begin] for sums in self._sums)
        first = np.where(begin % 2 == 0, even, odd).astype(np.int64)
        second = np.where(begin % 2 == 0, odd, even).astype(np.int64)
        return (first << 8) + second


def _wrong(total: np.ndarray) -> np.ndarray:
    """Whether sums over data with their checksum in it are not all ones."""
    for _ in range(3):
        total = (total & 0xFFFF) + (total >> 16)
    return total != 0xFFFF


def _packets(chunk: Chunk, found: IssueList) -> np.ndarray:
    """Packets that can be looked at further; findings of lengths and checksums."""
    data, at = chunk.data, chunk.offset
    frame = (chunk.linktype == LINKTYPE_ETHERNET) & (chunk.captured >= ETHERNET.itemsize + IPV4.itemsize)
    rows = np.flatnonzero(frame)
    kind = gather(data, at[rows], ETHERNET)["type"]
    four, six = rows[kind == ETHERTYPE_IPV4], rows[kind == ETHERTYPE_IPV6]
    six = six[chunk.captured[six] >= ETHERNET.itemsize + IPV6.itemsize]
    rows = np.sort(np.r_[four, six])
    is_four = np.zeros(len(chunk), bool)
    is_four[four] = True
    ip_at = at + ETHERNET.itemsize
    out = np.zeros(len(chunk), WIRE)
    head_end, fragment = np.zeros(len(chunk), np.int64), np.zeros(len(chunk), bool)

    head = gather(data, ip_at[four], IPV4)
    head_end[four] = ip_at[four] + (head["version_ihl"] & 15) * np.int64(4)
    fragment[four] = (head["fragment"] & 0x3FFF) > 0
    out["size"][four], out["protocol"][four], out["version"][four] = head["length"], head["protocol"], 4
    out["src_low"][four], out["dst_low"][four] = head["src"], head["dst"]
    head = gather(data, ip_at[six], IPV6)
    head_end[six] = ip_at[six] + IPV6.itemsize
    out["size"][six] = head["length"].astype(np.int64) + IPV6.itemsize
    out["protocol"][six], out["version"][six] = head["next"], 6
    for end in ("src", "dst"):
        halves = np.ascontiguousarray(head[end]).view(">u8").reshape(-1, 2)
        out[f"{end}_high"][six], out[f"{end}_low"][six] = halves.T
    ip_end = ip_at + out["size"]
    fits = chunk.length - ETHERNET.itemsize
    short = np.zeros(len(chunk), bool)
    short[rows] = out["size"][rows] > fits[rows]
    found.rows("length", short, chunk.number, "its IP length is more than its frame has")

    protocol = out["protocol"]
    portless = np.where(out["version"] == 4, _IPV4_ONLY[protocol], protocol == PROTOCOL_ICMPV6)
    least = np.where(protocol == PROTOCOL_TCP, TCP.itemsize, UDP.itemsize)  # ICMP's is UDP's
    known = np.zeros(len(chunk), bool)
    known[rows] = (portless | np.isin(protocol, (PROTOCOL_TCP, PROTOCOL_UDP)))[rows] & ~fragment[rows] & ~short[rows]
    known &= (head_end + least <= at + chunk.captured) & (ip_end >= head_end + least)
    mine = np.flatnonzero(known & portless & (protocol != PROTOCOL_IGMP))
    inner = gather(data, head_end[mine], ICMP)
    echo = np.where(out["version"][mine] == 4, np.isin(inner["type"], (0, 8)), np.isin(inner["type"], (128, 129)))
    for port in ("src_port", "dst_port"):
        out[port][mine] = inner["id"]
    known[mine] = echo
    rows = np.flatnonzero(known)
    out["number"], out["time_ns"] = chunk.number, chunk.time_ns
    for name, layout in ((PROTOCOL_TCP, TCP), (PROTOCOL_UDP, UDP)):
        mine = rows[protocol[rows] == name]
        inner = gather(data, head_end[mine], layout)
        out["src_port"][mine], out["dst_port"][mine] = inner["src_port"], inner["dst_port"]
        length = np.full(len(mine), layout.itemsize)
        if name == PROTOCOL_TCP:
            for field in ("seq", "ack", "flags", "window"):
                out[field][mine] = inner[field]
            length = (inner["offset"] >> 4).astype(np.int64) * 4
            _options(data, head_end[mine] + TCP.itemsize, head_end[mine] + length, out, mine)
        out["payload"][mine] = np.maximum(ip_end[mine] - head_end[mine] - length, 0)
    _checksums(chunk, out, rows, ip_at, head_end, ip_end, is_four, found)
    return out[rows]


def _checksums(
    chunk: RecordBatch,
    out: np.ndarray,
    rows: np.ndarray,
    ip_at: np.ndarray,
    head_end: np.ndarray,
    ip_end: np.ndarray,
    is_four: np.ndarray,
    found: IssueList,
) -> None:
    sums = _Sums(chunk.data)
    four = rows[is_four[rows]]
    wrong = _wrong(sums.words(ip_at[four], head_end[four]))
    found.rows("ip checksum", wrong, chunk.number[four], "its IP header checksum is wrong")
    whole = rows[(ip_end <= chunk.offset + chunk.captured)[rows]]
    length = np.where(is_four[whole], 8, 32)
    begin = ip_at[whole] + np.where(is_four[whole], 12, 8)
    pseudo = sums.words(begin, begin + length) + out["protocol"][whole] + (ip_end - head_end)[whole]
    total = np.where(_IPV4_ONLY[out["protocol"][whole]], 0, pseudo) + sums.words(head_end[whole], ip_end[whole])
    udp = out["protocol"][whole] == PROTOCOL_UDP
    sent = gather(chunk.data, head_end[whole] + 6, np.dtype([("checksum", ">u2")]))["checksum"]
    none = udp & is_four[whole] & (sent == 0)  # IPv4 lets UDP go without
    wrong = _wrong(total) & ~none
    found.rows("checksum", wrong, chunk.number[whole], "its TCP, UDP, IGMP or ICMP echo checksum is wrong")


def _options(data: np.ndarray, begin: np.ndarray, end: np.ndarray, out: np.ndarray, rows: np.ndarray) -> None:
    """Time stamps and window scale; the usual order of options at once, any other one by one."""
    out["shift"][rows] = -1
    usual = np.dtype([("start", ">u4"), ("stamp", ">u4"), ("echo", ">u4")])
    room = (end - begin >= 12) & (begin + 12 <= len(data))
    some = np.flatnonzero(room)
    first = gather(data, begin[some], usual)
    hit = first["start"] == 0x0101080A
    mine = rows[some[hit]]
    out["stamp"][mine], out["echo"][mine] = first["stamp"][hit], first["echo"][hit]
    out["stamped"][mine] = True
    rest = np.setdiff1d(np.flatnonzero(end > begin), some[hit], assume_unique=True)
    for index in rest.tolist():
        _read_options(data[begin[index] : end[index]].tobytes(), out, rows[index])


def _read_options(options: bytes, out: np.ndarray, row: int) -> None:
    at = 0
    while at < len(options) and options[at]:
        if options[at] == 1:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2:
            return
        value = options[at + 2 : at + size]
        if options[at] == 3 and len(value) == 1:
            out["shift"][row] = min(value[0], 14)
        elif options[at] == 8 and len(value) == 8:
            out["stamp"][row], out["echo"][row] = int.from_bytes(value[:4], "big"), int.from_bytes(value[4:], "big")
            out["stamped"][row] = True
        at += size


def address(high: int, low: int, version: int) -> str:
    """An address as text."""
    return str(ipaddress.IPv4Address(low) if version == 4 else ipaddress.IPv6Address(high << 64 | low))
