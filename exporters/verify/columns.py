"""Read the packets of a capture into columns, and check each packet by itself: order, lengths, checksums.

Nothing is shared with the exporter: checksums come from running sums over the file's bytes, where the exporter adds up
its tables of headers.
"""

from __future__ import annotations

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

_SPAN_BYTES = 1 << 23  # bytes of a file that are summed up at a time

#: Protocols whose checksum covers no pseudo header over IPv4; over IPv6, ICMPv6's does.
_NO_PSEUDO_HEADER = protocol_mask(PROTOCOL_ICMP, PROTOCOL_IGMP)

#: The NOP, NOP, timestamps option that begins most TCP headers.
_USUAL_OPTIONS = np.dtype([("start", ">u4"), ("stamp", ">u4"), ("echo", ">u4")])
_USUAL_START = 0x0101080A

#: A packet of TCP, UDP, IGMP or an ICMP echo over IP over Ethernet. Addresses are two halves; an IPv4 address is in the
#: low one. The identifier of an echo stands in both ports, and the ports of IGMP are 0.
PACKET = np.dtype(
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


def read_packets(capture: CaptureFile, issues: IssueList) -> tuple[np.ndarray, int]:
    """Read all packets, and check their order, lengths and checksums.

    Returns
    -------
    packets : ndarray of PACKET, shape (packets,)
        TCP, UDP, IGMP and ICMP echoes, in the file's order.
    others : int
        Number of packets that are none of these, or are fragments, or not over Ethernet. They are not checked further.
    """
    parsed, others, last_ns = [np.zeros(0, PACKET)], 0, None
    for chunk in capture.chunks():
        for span in _spans(chunk):
            back_ns = np.r_[span.time_ns[0] if last_ns is None else last_ns, span.time_ns[:-1]] - span.time_ns
            if (back_ns > 0).any():
                row = int((back_ns > 0).argmax())
                message = f"it is {int(back_ns[row]):,} ns older than the packet before it"
                issues.add("order", int((back_ns > 0).sum()), int(span.number[row]), message)
            last_ns = span.time_ns[-1]
            issues.add_rows("whole", span.captured < span.length, span.number, "it was not captured in full")
            packets = _Parser(span).parse(issues)
            others += len(span) - len(packets)
            parsed.append(packets)
    for damage in capture.damage:
        issues.add("readable", 1, None, f"byte {damage.byte}: {damage.reason}")
    return np.concatenate(parsed), others


def _spans(chunk: RecordBatch) -> Iterator[RecordBatch]:
    """Split a chunk into chunks of bounded size, whose data holds nothing but their packets."""
    ends = chunk.offset + chunk.captured
    begin = 0
    while begin < len(chunk):
        start = int(chunk.offset[begin])
        end = max(int(np.searchsorted(ends, start + _SPAN_BYTES, side="right")), begin + 1)
        rows = slice(begin, end)
        data = np.ascontiguousarray(chunk.data[start : int(ends[end - 1])])
        yield RecordBatch(
            data, chunk.offset[rows] - start, chunk.captured[rows], chunk.length[rows], chunk.time_ns[rows],
            chunk.linktype[rows], chunk.number[rows],
        )  # fmt: skip
        begin = end


class _Parser:
    """Parses the packets of a chunk. All arrays have shape (packets of the chunk,); offsets point into its data."""

    def __init__(self, chunk: RecordBatch) -> None:
        self.chunk = chunk
        self.packets = np.zeros(len(chunk), PACKET)
        self.packets["number"], self.packets["time_ns"] = chunk.number, chunk.time_ns
        self.ip = chunk.offset + ETHERNET.itemsize
        self.transport = np.zeros(len(chunk), np.int64)
        self.is_fragment = np.zeros(len(chunk), bool)

    def parse(self, issues: IssueList) -> np.ndarray:
        """Return the packets that can be checked further; lengths and checksums are checked here."""
        packets, chunk = self.packets, self.chunk
        self._read_ip_headers()
        is_ip = packets["version"] > 0
        ip_end = self.ip + packets["size"]
        too_long = is_ip & (packets["size"] > chunk.length - ETHERNET.itemsize)
        issues.add_rows("length", too_long, chunk.number, "its IP length is more than its frame holds")

        protocol = packets["protocol"]
        no_ports = np.where(packets["version"] == 4, _NO_PSEUDO_HEADER[protocol], protocol == PROTOCOL_ICMPV6)
        header = np.where(protocol == PROTOCOL_TCP, TCP.itemsize, UDP.itemsize)  # ICMP's is as long as UDP's
        known = is_ip & (no_ports | np.isin(protocol, (PROTOCOL_TCP, PROTOCOL_UDP))) & ~self.is_fragment & ~too_long
        known &= (self.transport + header <= chunk.offset + chunk.captured) & (ip_end >= self.transport + header)

        icmp = np.flatnonzero(known & no_ports & (protocol != PROTOCOL_IGMP))
        fields = gather(chunk.data, self.transport[icmp], ICMP)
        packets["src_port"][icmp] = packets["dst_port"][icmp] = fields["id"]
        is_v4 = packets["version"][icmp] == 4
        known[icmp] = np.where(is_v4, np.isin(fields["type"], (0, 8)), np.isin(fields["type"], (128, 129)))

        self._read_tcp_and_udp_headers(np.flatnonzero(known), ip_end)
        self._check_checksums(np.flatnonzero(known), ip_end, issues)
        return np.asarray(packets[known])

    def _read_ip_headers(self) -> None:
        packets, chunk = self.packets, self.chunk
        is_frame = (chunk.linktype == LINKTYPE_ETHERNET) & (chunk.captured >= ETHERNET.itemsize + IPV4.itemsize)
        rows = np.flatnonzero(is_frame)
        ethertype = gather(chunk.data, chunk.offset[rows], ETHERNET)["type"]

        v4 = rows[ethertype == ETHERTYPE_IPV4]
        fields = gather(chunk.data, self.ip[v4], IPV4)
        packets["version"][v4] = 4
        packets["size"][v4], packets["protocol"][v4] = fields["length"], fields["protocol"]
        packets["src_low"][v4], packets["dst_low"][v4] = fields["src"], fields["dst"]
        self.transport[v4] = self.ip[v4] + (fields["version_ihl"] & 15) * np.int64(4)
        self.is_fragment[v4] = (fields["fragment"] & 0x3FFF) > 0

        v6 = rows[ethertype == ETHERTYPE_IPV6]
        v6 = v6[chunk.captured[v6] >= ETHERNET.itemsize + IPV6.itemsize]
        fields = gather(chunk.data, self.ip[v6], IPV6)
        packets["version"][v6] = 6
        packets["size"][v6] = fields["length"].astype(np.int64) + IPV6.itemsize
        packets["protocol"][v6] = fields["next"]
        for end in ("src", "dst"):
            halves = np.ascontiguousarray(fields[end]).view(">u8").reshape(-1, 2)
            packets[f"{end}_high"][v6], packets[f"{end}_low"][v6] = halves.T
        self.transport[v6] = self.ip[v6] + IPV6.itemsize

    def _read_tcp_and_udp_headers(self, known: np.ndarray, ip_end: np.ndarray) -> None:
        packets, data = self.packets, self.chunk.data
        for protocol, layout in ((PROTOCOL_TCP, TCP), (PROTOCOL_UDP, UDP)):
            rows = known[packets["protocol"][known] == protocol]
            begin = self.transport[rows]
            fields = gather(data, begin, layout)
            packets["src_port"][rows], packets["dst_port"][rows] = fields["src_port"], fields["dst_port"]
            length = np.full(len(rows), layout.itemsize)
            if protocol == PROTOCOL_TCP:
                for field in ("seq", "ack", "flags", "window"):
                    packets[field][rows] = fields[field]
                length = (fields["offset"] >> 4).astype(np.int64) * 4
                _read_tcp_options(data, begin + TCP.itemsize, begin + length, packets, rows)
            packets["payload"][rows] = np.maximum(ip_end[rows] - begin - length, 0)

    def _check_checksums(self, known: np.ndarray, ip_end: np.ndarray, issues: IssueList) -> None:
        packets, chunk = self.packets, self.chunk
        words = _WordSums(chunk.data)
        v4 = known[packets["version"][known] == 4]
        wrong = _is_wrong(words.between(self.ip[v4], self.transport[v4]))
        issues.add_rows("ip checksum", wrong, chunk.number[v4], "its IP header checksum is wrong")

        rows = known[(ip_end <= chunk.offset + chunk.captured)[known]]
        is_v4, protocol = packets["version"][rows] == 4, packets["protocol"][rows]
        begin, end = self.transport[rows], ip_end[rows]
        addresses = self.ip[rows] + np.where(is_v4, 12, 8)
        pseudo_header = words.between(addresses, addresses + np.where(is_v4, 8, 32)) + protocol + (end - begin)
        total = np.where(_NO_PSEUDO_HEADER[protocol], 0, pseudo_header) + words.between(begin, end)
        checksum = gather(chunk.data, begin + 6, np.dtype([("checksum", ">u2")]))["checksum"]
        is_absent = (protocol == PROTOCOL_UDP) & is_v4 & (checksum == 0)  # allowed over IPv4 (RFC 768)
        message = "its TCP, UDP, IGMP or ICMP echo checksum is wrong"
        issues.add_rows("checksum", _is_wrong(total) & ~is_absent, chunk.number[rows], message)


class _WordSums:
    """Sums of 16-bit words over any stretch of some bytes, from running sums of bytes at even and at odd offsets."""

    def __init__(self, data: np.ndarray) -> None:
        self._sums = []
        for parity in (0, 1):
            values = np.zeros(len(data) + 1, np.uint32)
            values[1 + parity :: 2] = data[parity::2]
            self._sums.append(np.cumsum(values, dtype=np.uint32))

    def between(self, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Sum up the big-endian words from `begin` to `end`; an odd last byte is the first of its word."""
        even, odd = (sums[end] - sums[begin] for sums in self._sums)
        high = np.where(begin % 2 == 0, even, odd).astype(np.int64)
        low = np.where(begin % 2 == 0, odd, even).astype(np.int64)
        return np.asarray((high << 8) + low)


def _is_wrong(total: np.ndarray) -> np.ndarray:
    """Tell which sums over data with its checksum are not all ones."""
    for _ in range(3):
        total = (total & 0xFFFF) + (total >> 16)
    return np.asarray(total != 0xFFFF)


def _read_tcp_options(
    data: np.ndarray, begin: np.ndarray, end: np.ndarray, packets: np.ndarray, rows: np.ndarray
) -> None:
    """Read timestamps and window scale: the usual options in columns, all others packet by packet."""
    packets["shift"][rows] = -1
    long_enough = np.flatnonzero(
        (end - begin >= _USUAL_OPTIONS.itemsize) & (begin + _USUAL_OPTIONS.itemsize <= len(data))
    )
    options = gather(data, begin[long_enough], _USUAL_OPTIONS)
    is_usual = options["start"] == _USUAL_START
    usual = rows[long_enough[is_usual]]
    packets["stamp"][usual], packets["echo"][usual] = options["stamp"][is_usual], options["echo"][is_usual]
    packets["stamped"][usual] = True
    for index in np.setdiff1d(np.flatnonzero(end > begin), long_enough[is_usual], assume_unique=True).tolist():
        _read_unusual_options(data[begin[index] : end[index]].tobytes(), packets, rows[index])


def _read_unusual_options(options: bytes, packets: np.ndarray, row: int) -> None:
    offset = 0
    while offset < len(options) and options[offset]:
        if options[offset] == 1:
            offset += 1
            continue
        size = options[offset + 1] if offset + 1 < len(options) else 0
        if size < 2:
            return
        value = options[offset + 2 : offset + size]
        if options[offset] == 3 and len(value) == 1:
            packets["shift"][row] = min(value[0], 14)
        elif options[offset] == 8 and len(value) == 8:
            packets["stamp"][row], packets["echo"][row] = np.frombuffer(value, ">u4")
            packets["stamped"][row] = True
        offset += size


def format_address(high: int, low: int, version: int) -> str:
    """Format an address whose halves are given."""
    return str(ipaddress.IPv4Address(low) if version == 4 else ipaddress.IPv6Address(high << 64 | low))
