"""Frames -> the records of a capture file.

For each header length one NumPy table of headers, scattered into one buffer by one copy loop;
the payload is what lies in the buffer, zeros if nothing else, so that a checksum needs the headers
and what the payload adds to it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from netgen.capture.headers import (
    ENHANCED_PACKET,
    ETHERNET,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    ICMP,
    IPV4,
    IPV6,
    PCAP_RECORD,
    PCAPNG_ENHANCED_PACKET,
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    PROTOCOL_IGMP,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    TCP_SYN,
    UDP,
)
from netgen.capture.headers import TCP as TCP_LAYOUT
from netgen.capture.series.spec import NS
from netgen.exporters.pcap.addresses import v6_addresses
from netgen.exporters.pcap.frames import ECHO, FRAME, IGMP, SCALED, TCP, TIMESTAMPS, UP, V6, WINDOW_SHIFT, Endpoints
from netgen.exporters.pcap.packets import Ints
from netgen.exporters.pcap.payload import Payload

DONT_FRAGMENT = 0x4000
MAX_SEGMENT = 1460  # of IPv4; 20 less with IPv6

#: Types of packets up and down: echo and its reply in IPv4 and IPv6; IGMPv2's report and query (RFC 2236).
ECHO_TYPES, ECHO_V6_TYPES, IGMP_TYPES = (8, 0), (128, 129), (0x16, 0x11)

GROUPS = 0xEFC0  # multicast groups 239.192.0.0/16: an organization's own (RFC 2365)

Bytes = NDArray[np.uint8]
Frames = NDArray[np.void]


def render(
    batch: Frames, both: Endpoints, payload: Payload | None = None, *, headers_only: bool = False, pcapng: bool = False
) -> Bytes:
    """The records of a nanosecond pcap file, or the blocks of a pcapng file, one after the other.

    Parameters
    ----------
    batch : ndarray of FRAME, shape (packets,)
        In the order in which they shall stand in the file.
    both : Ends
    payload : Payload, optional
        Zeros if not given.
    headers_only : bool
        Leave the payload out, and say so in the records.
    pcapng : bool
        Enhanced packet blocks instead of pcap records.

    Returns
    -------
    ndarray of uint8, shape (bytes,)
    """
    if not len(batch):
        return np.zeros(0, dtype=np.uint8)
    record = ENHANCED_PACKET if pcapng else PCAP_RECORD
    kept = batch["headers" if headers_only else "size"].astype(np.int64) + ETHERNET.itemsize
    length = record.itemsize + kept
    if pcapng:
        length = (length + 3 & ~3) + 4
    ends = length.cumsum()
    starts = ends - length
    buffer = np.zeros(int(ends[-1]), dtype=np.uint8)
    added = np.zeros(len(batch), dtype=np.uint32)
    if payload is not None:
        begin = starts + record.itemsize + ETHERNET.itemsize + batch["headers"]
        added = payload.fill(buffer, begin, batch, both)
    talks, talk = _talks(batch, both)
    shape = batch["headers"].astype(np.int64) << 8 | batch["kind"] & (TCP | V6 | ECHO | IGMP)
    for each in np.unique(shape):
        rows = np.flatnonzero(shape == each)
        whole = len(rows) == len(batch)
        some = batch if whole else batch.view(f"V{FRAME.itemsize}")[rows].view(FRAME)
        table = _headers(some, talks, talk[rows], kept[rows], added[rows], record, pcapng)
        _scatter(buffer, starts[rows], table)
    if pcapng:
        _scatter(buffer, ends - 4, length.astype("<u4").view(np.uint8).reshape(-1, 4))
    return buffer


def _scatter(buffer: Bytes, starts: Ints, table: Bytes) -> None:
    """Copy the rows of a table to places of the buffer, in one C loop over overlapping windows."""
    width = table.shape[1]
    windows = np.ndarray((len(buffer) - width + 1,), f"V{width}", buffer, strides=(1,))
    windows[starts] = table.view(f"V{width}").ravel()


#: What all packets of a flow in one direction share.
_TALK = np.dtype([("macs", "V12"), ("v4", "V8"), ("v6", "V32"), ("ports", "V4"), ("ttl", "u1")])


def _talks(batch: Frames, both: Endpoints) -> tuple[Frames, Ints]:
    """The directions of flows that occur, shape (2 flows,), and each packet's row among them."""
    flow = batch["flow"]
    seen = np.zeros(len(both), dtype=bool)
    seen[flow] = True
    flows = np.flatnonzero(seen)
    place = np.empty(len(both), dtype=np.int64)
    place[flows] = np.arange(len(flows))
    out = np.zeros((2, len(flows)), dtype=_TALK)
    where = both.where
    sides = [(where.client[flows], where.client_port[flows]), (where.server[flows], where.server_port[flows])]
    macs = [_mac(both.mac[flows, side]) for side in (0, 1)]
    for side in (0, 1):  # 0 is up
        ends = (sides[side], sides[1 - side])
        out["macs"][side] = _glued(macs[1 - side], macs[side])  # Ethernet names the receiver first
        out["v4"][side] = _glued(*(_big(address, ">u4") for address, _ in ends))
        out["v6"][side] = _glued(*(v6_addresses(address) for address, _ in ends))
        out["ports"][side] = _glued(*(_big(port, ">u2") for _, port in ends))
    # the capture is taken at the client: its packets have made no hop
    out["ttl"][0], out["ttl"][1] = 64, 64 - both.hops[flows]
    return out.ravel(), place[flow] + np.where(batch["kind"] & UP, 0, len(flows))


def _mac(number: NDArray[np.uint32]) -> Bytes:
    """Locally administered unicast addresses, 02:00 and four drawn bytes."""
    address = np.zeros((len(number), 6), dtype=np.uint8)
    address[:, 0] = 0x02
    address[:, 2:] = _big(number, ">u4")
    return address


def _big(values: NDArray[np.generic], kind: str) -> Bytes:
    """Numbers as bytes in network order, shape (rows, bytes)."""
    return np.ascontiguousarray(values.astype(kind)).view(np.uint8).reshape(len(values), -1)


def _glued(*parts: Bytes) -> NDArray[np.void]:
    """Columns of bytes side by side, as one opaque column."""
    whole = np.ascontiguousarray(np.concatenate(parts, axis=1))
    return whole.view(f"V{whole.shape[1]}").ravel()


def _layout(record: np.dtype, v6: bool, transport: np.dtype, options: int) -> np.dtype:
    """Record header to last header; addresses, and ports if there are any, in one piece each."""
    ip = IPV6 if v6 else IPV4
    ends = "v6" if v6 else "v4"
    before_ends = [each for each in ip.descr if each[0] not in ("src", "dst")]
    rest = [each for each in transport.descr if each[0] not in ("src_port", "dst_port")]
    parts = [
        ("record", record),
        ("macs", "V12"),
        ("type", ">u2"),
        ("ip", np.dtype(before_ends)),
        ("ends", _TALK[ends]),
        *([("ports", "V4")] if len(rest) < len(transport.descr) else []),
        ("transport", np.dtype(rest)),
        ("options", "u1", (options,)),
    ]
    return np.dtype(parts)


def _headers(
    batch: Frames,
    talks: Frames,
    talk: Ints,
    kept: Ints,
    added: NDArray[np.uint32],
    record: np.dtype,
    pcapng: bool,
) -> Bytes:
    """Record header to last header of packets with equal header lengths, shape (packets, bytes)."""
    size = batch["size"].astype(np.int64)
    kind = int(batch["kind"][0])
    tcp, v6, portless = bool(kind & TCP), bool(kind & V6), bool(kind & (ECHO | IGMP))
    transport = TCP_LAYOUT if tcp else ICMP if portless else UDP
    ip_length = IPV6.itemsize if v6 else IPV4.itemsize
    options = int(batch["headers"][0]) - ip_length - transport.itemsize
    layout = _layout(record, v6, transport, options)
    table = np.zeros(len(batch), dtype=layout)
    protocol = _protocol(kind)
    shared = talks[talk]
    _record(table["record"], batch["time_ns"], kept, size + ETHERNET.itemsize, pcapng)
    table["macs"] = shared["macs"]
    table["type"] = ETHERTYPE_IPV6 if v6 else ETHERTYPE_IPV4
    table["ends"] = shared["v6" if v6 else "v4"]
    ip, inner = table["ip"], table["transport"]
    at = record.itemsize + ETHERNET.itemsize
    if v6:
        ip["version_class_flow"] = 6 << 28
        ip["length"], ip["next"], ip["hops"] = size - ip_length, protocol, shared["ttl"]
    else:
        ip["version_ihl"], ip["fragment"] = 0x45, DONT_FRAGMENT
        ip["length"], ip["id"], ip["ttl"], ip["protocol"] = size, batch["id"], shared["ttl"], protocol
        ip["checksum"] = _checksum(_sum(table, at, ip_length))
    if not portless:
        table["ports"] = shared["ports"]
    if tcp:
        inner["seq"], inner["ack"], inner["window"] = batch["seq"], batch["ack"], batch["window"]
        inner["flags"] = batch["flags"]
        inner["offset"] = (TCP_LAYOUT.itemsize + options) // 4 << 4
        _options(table["options"], batch, MAX_SEGMENT - (IPV6.itemsize - IPV4.itemsize if v6 else 0))
    elif portless:
        types = IGMP_TYPES if kind & IGMP else ECHO_V6_TYPES if v6 else ECHO_TYPES
        inner["type"] = np.where(batch["kind"] & UP, *types)
        # of IGMP both are the group
        inner["id"] = GROUPS if kind & IGMP else np.ascontiguousarray(shared["ports"]).view(">u2")[::2]
        inner["seq"] = batch["seq"]
    else:
        inner["length"] = size - ip_length
    # the pseudo header has the addresses, the protocol and the length (RFC 9293, RFC 8200); ICMP and IGMP have none
    assert layout.fields
    begin = layout.fields["transport" if portless and not v6 else "ends"][1]
    total = _sum(table, begin, layout.itemsize - begin) + added
    if not portless or v6:
        total += _swapped(size - ip_length + protocol)
    checksum = _checksum(total)
    # RFC 768: a computed zero goes out as all ones, zero means none
    inner["checksum"] = np.where(checksum == 0, 0xFFFF, checksum) if transport is UDP else checksum
    return table.view(np.uint8).reshape(len(batch), layout.itemsize)


def _protocol(kind: int) -> int:
    """The IP protocol of a frame's kind."""
    if kind & ECHO:
        return PROTOCOL_ICMPV6 if kind & V6 else PROTOCOL_ICMP
    return PROTOCOL_TCP if kind & TCP else PROTOCOL_IGMP if kind & IGMP else PROTOCOL_UDP


def _record(record: Frames, time_ns: Ints, kept: Ints, length: Ints, pcapng: bool) -> None:
    """Fill in the headers of records."""
    record["captured"], record["length"] = kept, length
    if pcapng:
        record["type"] = PCAPNG_ENHANCED_PACKET
        record["total"] = (ENHANCED_PACKET.itemsize + kept + 3 & ~3) + 4
        record["high"], record["low"] = time_ns >> 32, time_ns & 0xFFFFFFFF
    else:
        record["seconds"], record["fraction"] = np.divmod(time_ns, NS)


def _sum(table: Frames, at: int, length: int) -> NDArray[np.uint64]:
    """Sum of `length` bytes of each row as words in this machine's order, which a checksum does not mind (RFC 1071)."""
    rows, width = len(table), table.dtype.itemsize
    words, rest = divmod(length, 4)
    raw = np.ndarray((rows, words), "<u4", table.data, at, (width, 4))
    total = np.zeros(rows, dtype=np.uint64)
    for word in range(words):
        total += raw[:, word]
    if rest:  # headers are of an even length
        total += np.ndarray((rows,), "<u2", table.data, at + 4 * words, (width,))
    return total


def _swapped(words: Ints) -> NDArray[np.uint64]:
    """16-bit numbers as a little-endian machine reads them from the wire."""
    return ((words & 0xFF) << 8 | words >> 8).astype(np.uint64)


def _checksum(total: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """The Internet checksum (RFC 1071) of little-endian sums, as a number."""
    total = (total & np.uint64(0xFFFFFFFF)) + (total >> np.uint64(32))
    for _ in range(3):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return (~total & np.uint64(0xFFFF)).astype(np.uint16).byteswap()


def _options(block: Bytes, batch: Frames, segment: int) -> None:
    """Fill TCP options into `block`, shape (packets, bytes); what is over stays zero: end of options."""
    room = block.shape[1]
    if not room:
        return
    syn = (batch["flags"] & TCP_SYN) > 0
    stamped = (batch["kind"] & TIMESTAMPS) > 0
    for opening in (True, False):
        for timed in (True, False):
            rows = np.flatnonzero((syn == opening) & (stamped == timed))
            if not len(rows):
                continue
            template, stamp_at = _template(room, opening, timed, segment)
            filled = np.tile(np.frombuffer(template, dtype=np.uint8), (len(rows), 1))
            if stamp_at:
                filled[:, stamp_at : stamp_at + 4] = _big(batch["stamp"][rows], ">u4")
                filled[:, stamp_at + 4 : stamp_at + 8] = _big(batch["echo"][rows], ">u4")
            if opening and room >= 8:  # offered only where both sides have room for it
                unscaled = (batch["kind"][rows] & SCALED) == 0
                at = template.index(bytes([3, 3, WINDOW_SHIFT]))
                filled[unscaled, at : at + 3] = 1
            block[rows] = filled


def _template(room: int, opening: bool, timed: bool, most: int) -> tuple[bytes, int]:
    """Options of a SYN (`opening`) or another packet that fit into `room` bytes, and where its time stamps stand."""
    nop, sack, scale = b"\x01", b"\x04\x02", bytes([3, 3, WINDOW_SHIFT])
    segment, stamps = b"\x02\x04" + most.to_bytes(2, "big"), b"\x08\x0a" + bytes(8)
    timed = timed and room >= len(nop + nop + stamps)  # an RST may have no room for them
    if opening and timed:  # as Linux orders them
        options = segment + sack + stamps + nop + scale
    elif opening:  # as Windows orders them
        options = b"".join(
            part for part, needs in ((segment, 4), (nop + scale, 8), (nop + nop + sack, 12)) if needs <= room
        )
    else:
        options = nop + nop + stamps if timed else b""
    options = options.ljust(room, b"\0")
    return options, options.index(b"\x08\x0a") + 2 if timed else 0
