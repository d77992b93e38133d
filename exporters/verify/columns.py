"""Read the packets of a capture into columns, and check each packet by itself: order, lengths, checksums.

Nothing is shared with the exporter: checksums come from running sums over the file's bytes, where the exporter adds up
its tables of headers.
"""

from __future__ import annotations

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

_NOP, _WINDOW_SCALE, _TIMESTAMPS = 1, 3, 8  # kinds of TCP options
_TIMESTAMP_FIELDS = np.dtype([("stamp", ">u4"), ("echo", ">u4")])

#: A packet of TCP, UDP, IGMP or an ICMP echo over IP over Ethernet. Addresses are two halves; an IPv4 address is in the
#: low one. The identifier of an echo stands in both ports, and the ports of IGMP are 0.
PACKET = np.dtype(
    [
        ("number", "<i8"),
        ("time_ns", "<i8"),
        *((name, "<u8") for name in ("src_high", "src_low", "dst_high", "dst_low")),
        *((name, "<u4") for name in ("size", "payload", "seq", "ack", "stamp", "echo")),
        *((name, "<u2") for name in ("src_port", "dst_port", "window")),
        *((name, "u1") for name in ("version", "protocol", "flags")),
        ("shift", "i1"),  # window scale; -1 if not offered
        ("stamped", "?"),
    ]
)


def read_packets(capture: CaptureFile, issues: IssueList) -> tuple[np.ndarray, int]:
    """Read all packets, and check their order, lengths and checksums.

    Returns TCP, UDP, IGMP and ICMP echoes as an array of `PACKET`; and the number of packets that are none of these, or
    are fragments, or not over Ethernet: they are not checked further.
    """
    parsed, others, last_ns = [np.zeros(0, PACKET)], 0, None
    for chunk in filter(len, capture.chunks()):
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
    for rows in np.split(np.arange(len(chunk)), np.flatnonzero(np.diff(ends // _SPAN_BYTES)) + 1):
        start = chunk.offset[rows[0]]
        data = np.ascontiguousarray(chunk.data[start : ends[rows[-1]]])
        yield RecordBatch(
            data, chunk.offset[rows] - start, chunk.captured[rows], chunk.length[rows], chunk.time_ns[rows],
            chunk.linktype[rows], chunk.number[rows],
        )  # fmt: skip


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
        # Sums of the words before each byte of the data. Words of a packet at an odd offset are summed up with their
        # bytes swapped, which is as good for a checksum (RFC 1071).
        words = np.zeros(len(chunk.data) + 1, np.uint32)
        words[1:] = chunk.data
        words[1::2] <<= 8
        sums = words.cumsum(dtype=np.uint32)

        v4 = known[packets["version"][known] == 4]
        wrong = _is_wrong(sums[self.transport[v4]] - sums[self.ip[v4]])
        issues.add_rows("ip checksum", wrong, chunk.number[v4], "its IP header checksum is wrong")

        rows = known[(ip_end <= chunk.offset + chunk.captured)[known]]
        is_v4, protocol = packets["version"][rows] == 4, packets["protocol"][rows]
        begin, end = self.transport[rows], ip_end[rows]
        addresses = self.ip[rows] + np.where(is_v4, 12, 8)
        pseudo_header = sums[addresses + np.where(is_v4, 8, 32)] - sums[addresses]
        pseudo_header += (protocol + end - begin << 8 * (begin % 2)).astype(np.uint32)
        total = np.where(_NO_PSEUDO_HEADER[protocol], 0, pseudo_header) + (sums[end] - sums[begin])
        checksum = gather(chunk.data, begin + 6, np.dtype([("checksum", ">u2")]))["checksum"]
        is_absent = (protocol == PROTOCOL_UDP) & is_v4 & (checksum == 0)  # allowed over IPv4 (RFC 768)
        message = "its TCP, UDP, IGMP or ICMP echo checksum is wrong"
        issues.add_rows("checksum", _is_wrong(total) & ~is_absent, chunk.number[rows], message)


def _is_wrong(total: np.ndarray) -> np.ndarray:
    """Tell which sums over data with its checksum are not all ones."""
    for _ in range(3):
        total = (total & 0xFFFF) + (total >> 16)
    return np.asarray(total != 0xFFFF)


def _read_tcp_options(
    data: np.ndarray, offset: np.ndarray, end: np.ndarray, packets: np.ndarray, rows: np.ndarray
) -> None:
    """Read timestamps and window scale: the first option of every packet, then the second, and so on."""
    packets["shift"][rows] = -1
    end = np.minimum(end, len(data))
    active = offset < end
    while active.any():
        offset, end, rows = offset[active], end[active], rows[active]
        kind = data[offset]
        length = np.where(kind == _NOP, 1, data[np.minimum(offset + 1, end - 1)])
        fits = offset + length <= end
        scaled = fits & (kind == _WINDOW_SCALE) & (length == 3)
        packets["shift"][rows[scaled]] = np.minimum(data[offset[scaled] + 2], 14)
        stamped = fits & (kind == _TIMESTAMPS) & (length == 10)
        values = gather(data, offset[stamped] + 2, _TIMESTAMP_FIELDS)
        packets["stamp"][rows[stamped]], packets["echo"][rows[stamped]] = values["stamp"], values["echo"]
        packets["stamped"][rows[stamped]] = True
        active = (kind == _NOP) | ((kind > 0) & (length >= 2))
        offset = offset + length
        active &= offset < end
