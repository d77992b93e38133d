"""Render frames as the records of a capture file.

Headers of equal length are filled in as one NumPy table and copied into the buffer at once. The buffer holds the
payload already (zeros, if nothing else), so that a checksum needs the headers and the sum of the payload only.
"""

from __future__ import annotations

import itertools

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
MAX_SEGMENT = 1460  # bytes over IPv4; 20 less over IPv6

#: Types of packets up and down: echo and its reply in IPv4 and IPv6; IGMPv2's report and query (RFC 2236).
ECHO_TYPES, ECHO_V6_TYPES, IGMP_TYPES = (8, 0), (128, 129), (0x16, 0x11)

#: TCP options: padding, SACK permitted, window scale and timestamps.
_NOP, _SACK = b"\x01", b"\x04\x02"
_WINDOW_SCALE = _NOP + bytes([3, 3, WINDOW_SHIFT])
_TIMESTAMPS = _NOP * 2 + b"\x08\x0a" + bytes(8)

GROUPS = 0xEFC0  # multicast groups 239.192.0.0/16: an organization's own (RFC 2365)

Bytes = NDArray[np.uint8]
Frames = NDArray[np.void]


def render(
    batch: Frames,
    endpoints: Endpoints,
    payload: Payload | None = None,
    *,
    headers_only: bool = False,
    pcapng: bool = False,
) -> Bytes:
    """Render the records of a nanosecond pcap file, or the blocks of a pcapng file, as bytes in the order of `batch`.

    Without `payload`, payloads are zeros. With `headers_only`, they are left out; the records keep the true lengths.
    """
    if not len(batch):
        return np.zeros(0, dtype=np.uint8)
    record = ENHANCED_PACKET if pcapng else PCAP_RECORD
    captured = batch["headers" if headers_only else "size"].astype(np.int64) + ETHERNET.itemsize
    length = record.itemsize + captured
    if pcapng:
        length = (length + 3 & ~3) + 4
    ends = length.cumsum()
    starts = ends - length
    buffer = np.zeros(int(ends[-1]), dtype=np.uint8)
    payload_sum = np.zeros(len(batch), dtype=np.uint32)
    if payload is not None:
        begin = starts + record.itemsize + ETHERNET.itemsize + batch["headers"]
        payload_sum = payload(buffer, begin, batch, endpoints)
    directions, direction = _directions(batch, endpoints)
    layout = batch["headers"].astype(np.int64) << 8 | batch["kind"] & (TCP | V6 | ECHO | IGMP)
    for value in np.unique(layout):
        rows = np.flatnonzero(layout == value)
        selected = batch if len(rows) == len(batch) else batch.view(f"V{FRAME.itemsize}")[rows].view(FRAME)
        shared = directions[direction[rows]]
        headers = _headers(selected, shared, captured[rows], payload_sum[rows], record, pcapng)
        _scatter(buffer, starts[rows], headers)
    if pcapng:
        _scatter(buffer, ends - 4, length.astype("<u4").view(np.uint8).reshape(-1, 4))
    return buffer


def _scatter(buffer: Bytes, starts: Ints, table: Bytes) -> None:
    """Copy the rows of a table to `starts` in the buffer: one C loop over overlapping windows."""
    width = table.shape[1]
    windows = np.ndarray((len(buffer) - width + 1,), f"V{width}", buffer, strides=(1,))
    windows[starts] = table.view(f"V{width}").ravel()


#: Header fields that all packets of a flow in one direction share.
_DIRECTION = np.dtype([("macs", "V12"), ("v4", "V8"), ("v6", "V32"), ("ports", "V4"), ("ttl", "u1")])


def _directions(batch: Frames, endpoints: Endpoints) -> tuple[Frames, Ints]:
    """List both directions of the flows in a batch, shape (2 flows,), and find each packet's row among them."""
    present = np.zeros(len(endpoints), dtype=bool)
    present[batch["flow"]] = True
    flows = np.flatnonzero(present)
    index = present.cumsum() - 1
    out = np.zeros((2, len(flows)), dtype=_DIRECTION)
    where = endpoints.where
    sides = [(where.client[flows], where.client_port[flows]), (where.server[flows], where.server_port[flows])]
    # locally administered unicast addresses: 02:00 and four random bytes
    macs = _big_endian(endpoints.mac[flows] | np.uint64(0x0200 << 32), ">u8").reshape(-1, 2, 8)[:, :, 2:]
    for side in (0, 1):  # 0 is up
        ends = (sides[side], sides[1 - side])
        out["macs"][side] = _side_by_side(macs[:, 1 - side], macs[:, side])  # Ethernet names the receiver first
        out["v4"][side] = _side_by_side(*(_big_endian(address, ">u4") for address, _ in ends))
        out["v6"][side] = _side_by_side(*(v6_addresses(address) for address, _ in ends))
        out["ports"][side] = _side_by_side(*(_big_endian(port, ">u2") for _, port in ends))
    # the capture is taken at the client: its packets have made no hop
    out["ttl"][0], out["ttl"][1] = 64, 64 - endpoints.hops[flows]
    return out.ravel(), index[batch["flow"]] + np.where(batch["kind"] & UP, 0, len(flows))


def _big_endian(values: NDArray[np.generic], kind: str) -> Bytes:
    """Convert numbers to bytes in network order, shape (rows, bytes)."""
    return np.ascontiguousarray(values.astype(kind)).view(np.uint8).reshape(len(values), -1)


def _side_by_side(*columns: Bytes) -> NDArray[np.void]:
    """Join columns of bytes into one opaque column."""
    joined = np.ascontiguousarray(np.concatenate(columns, axis=1))
    return joined.view(f"V{joined.shape[1]}").ravel()


def _layout(record: np.dtype, v6: bool, transport: np.dtype, options: int) -> np.dtype:
    """Lay out a record header and all packet headers; addresses are one field, and so are ports if there are any."""
    ip = [field for field in (IPV6 if v6 else IPV4).descr if field[0] not in ("src", "dst")]
    rest = [field for field in transport.descr if field[0] not in ("src_port", "dst_port")]
    return np.dtype(
        [
            ("record", record),
            ("macs", "V12"),
            ("type", ">u2"),
            ("ip", np.dtype(ip)),
            ("addresses", _DIRECTION["v6" if v6 else "v4"]),
            *([("ports", "V4")] if len(rest) < len(transport.descr) else []),
            ("transport", np.dtype(rest)),
            ("options", "u1", (options,)),
        ]
    )


def _headers(
    batch: Frames, shared: Frames, captured: Ints, payload_sum: NDArray[np.uint32], record: np.dtype, pcapng: bool
) -> Bytes:
    """Build record header and packet headers of packets with equal header lengths, shape (packets, bytes).

    `shared` holds the fields of each packet's direction, `captured` its frame bytes in the file.
    """
    size, kind = batch["size"].astype(np.int64), int(batch["kind"][0])
    tcp, v6, portless = bool(kind & TCP), bool(kind & V6), bool(kind & (ECHO | IGMP))
    transport, protocol = (TCP_LAYOUT, PROTOCOL_TCP) if tcp else (UDP, PROTOCOL_UDP)
    if portless:
        transport = ICMP
        protocol = PROTOCOL_IGMP if kind & IGMP else PROTOCOL_ICMPV6 if v6 else PROTOCOL_ICMP
    ip_length = IPV6.itemsize if v6 else IPV4.itemsize
    options = int(batch["headers"][0]) - ip_length - transport.itemsize
    layout = _layout(record, v6, transport, options)
    table = np.zeros(len(batch), dtype=layout)
    _fill_record_headers(table["record"], batch["time_ns"], captured, size + ETHERNET.itemsize, pcapng)
    table["macs"] = shared["macs"]
    table["addresses"] = shared["v6" if v6 else "v4"]
    ip, header = table["ip"], table["transport"]
    if v6:
        table["type"], ip["version_class_flow"] = ETHERTYPE_IPV6, 6 << 28
        ip["length"], ip["next"], ip["hops"] = size - ip_length, protocol, shared["ttl"]
    else:
        table["type"], ip["version_ihl"], ip["fragment"] = ETHERTYPE_IPV4, 0x45, DONT_FRAGMENT
        ip["length"], ip["id"], ip["ttl"], ip["protocol"] = size, batch["id"], shared["ttl"], protocol
        ip["checksum"] = _checksum(_word_sum(table, record.itemsize + ETHERNET.itemsize, ip_length))
    if not portless:
        table["ports"] = shared["ports"]
    if tcp:
        for field in ("seq", "ack", "window", "flags"):
            header[field] = batch[field]
        header["offset"] = (TCP_LAYOUT.itemsize + options) // 4 << 4
        _fill_options(table["options"], batch, MAX_SEGMENT - (IPV6.itemsize - IPV4.itemsize if v6 else 0))
    elif portless:
        types = IGMP_TYPES if kind & IGMP else ECHO_V6_TYPES if v6 else ECHO_TYPES
        header["type"] = np.where(batch["kind"] & UP, *types)
        # the fields `id` and `seq` of IGMP are the group's address
        header["id"] = GROUPS if kind & IGMP else np.ascontiguousarray(shared["ports"]).view(">u2")[::2]
        header["seq"] = batch["seq"]
    else:
        header["length"] = size - ip_length
    assert layout.fields
    begin = layout.fields["transport" if portless and not v6 else "addresses"][1]
    total = _word_sum(table, begin, layout.itemsize - begin) + payload_sum
    if not portless or v6:  # the rest of the pseudo header (RFC 9293, RFC 8200); ICMP and IGMP have none
        total += (size - ip_length + protocol).astype(np.uint16).byteswap()
    checksum = _checksum(total)
    # RFC 768: UDP sends a checksum of zero as all ones, because zero means no checksum
    header["checksum"] = np.where(checksum == 0, 0xFFFF, checksum) if transport is UDP else checksum
    return table.view(np.uint8).reshape(len(batch), layout.itemsize)


def _fill_record_headers(record: Frames, time_ns: Ints, captured: Ints, length: Ints, pcapng: bool) -> None:
    record["captured"], record["length"] = captured, length
    if pcapng:
        record["type"] = PCAPNG_ENHANCED_PACKET
        record["total"] = (ENHANCED_PACKET.itemsize + captured + 3 & ~3) + 4
        record["high"], record["low"] = time_ns >> 32, time_ns & 0xFFFFFFFF
    else:
        record["seconds"], record["fraction"] = np.divmod(time_ns, NS)


def _word_sum(table: Frames, offset: int, length: int) -> NDArray[np.uint64]:
    """Sum up `length` bytes of each row as little-endian words; a checksum allows any byte order (RFC 1071)."""
    rows, width = len(table), table.dtype.itemsize
    total = np.zeros(rows, dtype=np.uint64)
    for begin in range(offset, offset + length - 3, 4):
        total += np.ndarray((rows,), "<u4", table.data, begin, (width,))
    if length % 4:  # headers have an even length
        total += np.ndarray((rows,), "<u2", table.data, offset + length - 2, (width,))
    return total


def _checksum(total: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Compute the Internet checksum (RFC 1071) from little-endian sums."""
    total = (total & np.uint64(0xFFFFFFFF)) + (total >> np.uint64(32))
    for _ in range(3):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return (~total & np.uint64(0xFFFF)).astype(np.uint16).byteswap()


def _fill_options(block: Bytes, batch: Frames, max_segment: int) -> None:
    """Fill in TCP options, shape (packets, bytes); bytes left over stay zero, which ends the options."""
    room = block.shape[1]
    is_syn = (batch["flags"] & TCP_SYN) > 0
    is_scaled = (batch["kind"] & SCALED) > 0  # both sides have room for window scaling
    has_timestamps = ((batch["kind"] & TIMESTAMPS) > 0) & (room >= len(_TIMESTAMPS))  # an RST may have no room
    for syn, timestamps, scaled in itertools.product((True, False), repeat=3):
        rows = np.flatnonzero((is_syn == syn) & (has_timestamps == timestamps) & (is_scaled == scaled))
        if not len(rows):
            continue
        options = _TIMESTAMPS if timestamps else b""
        if syn:
            segment = b"\x02\x04" + max_segment.to_bytes(2, "big")
            scale = _WINDOW_SCALE if scaled else _NOP * 4
            if timestamps:  # in the order of Linux
                options = segment + _SACK + _TIMESTAMPS[2:] + scale
            else:  # in the order of Windows
                options = (segment + scale + _NOP * 2 + _SACK)[:room]
        block[rows, : len(options)] = np.frombuffer(options, np.uint8)
        if timestamps:
            begin = options.index(_TIMESTAMPS[2:]) + 2
            block[rows, begin : begin + 4] = _big_endian(batch["stamp"][rows], ">u4")
            block[rows, begin + 4 : begin + 8] = _big_endian(batch["echo"][rows], ">u4")
