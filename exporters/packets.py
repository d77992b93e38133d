"""Packets in columns -> frames, as the records of a capture file.

A NumPy table of headers a header length, scattered into one buffer by one copy loop each; the
payload is zeros, that is, what lies in the buffer, so a checksum needs the headers only.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from capture.headers import (
    ETHERNET,
    ETHERTYPE_IPV4,
    IPV4,
    PCAP_RECORD,
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    TCP,
    TCP_SYN,
    UDP,
)
from capture.series import NS
from exporters.addresses import addresses
from exporters.draws import draw
from exporters.mend import STAMPED_HEADERS, Bools, Ints
from exporters.plan import Packets, Plan
from exporters.tcp import WINDOW_SHIFT, conversation

DONT_FRAGMENT = 0x4000
MAX_SEGMENT = 1460

_TTL, _MAC, _ID = 64, 66, 68  # streams of `draw`
_BEFORE_IP = PCAP_RECORD.itemsize + ETHERNET.itemsize


@dataclasses.dataclass(frozen=True)
class Frames:
    """All that the headers of some packets need, as columns of shape (packets,).

    Unlike `Packets` they stand alone: they can be put in another order, split and joined.
    """

    time_ns: Ints
    size: Ints
    headers: Ints
    columns: dict[str, NDArray[np.uint32]]

    def __len__(self) -> int:
        return len(self.time_ns)

    def take(self, order: Ints | slice) -> Frames:
        """Some of the frames, in the order given."""
        return Frames(
            self.time_ns[order],
            self.size[order],
            self.headers[order],
            {name: column[order] for name, column in self.columns.items()},
        )

    def join(self, other: Frames) -> Frames:
        """These frames, then `other`'s."""
        return Frames(
            np.concatenate([self.time_ns, other.time_ns]),
            np.concatenate([self.size, other.size]),
            np.concatenate([self.headers, other.headers]),
            {name: np.concatenate([column, other.columns[name]]) for name, column in self.columns.items()},
        )


def frames(plan: Plan, packets: Packets, start_ns: Ints) -> Frames:
    """Header fields of packets.

    Parameters
    ----------
    plan : Plan
    packets : Packets
        Whole flows.
    start_ns : ndarray of int64, shape (flows of the plan,)
        Time of each flow's first packet, ns since 1970.

    Returns
    -------
    Frames
        In the order of `packets`.
    """
    flow, up = packets.flow, packets.up
    talk = conversation(plan, packets)
    where = addresses(plan.seed, plan.number, plan.occurrence)
    keys = plan.keys
    client, server = where.client[flow], where.server[flow]
    client_port, server_port = where.client_port[flow], where.server_port[flow]
    mac = [(draw(keys, _MAC + side) & np.uint64(0xFFFFFFFF)).astype(np.int64)[flow] for side in (0, 1)]
    # the capture is taken at the client: its packets have made no hop, the server's 5 to 20
    hops = 5 + (draw(keys, _TTL) % np.uint64(16)).astype(np.int64)[flow]
    tcp = plan.shape.tcp[flow]
    stamped = plan.shape.headers[flow] == STAMPED_HEADERS
    columns = {
        "src": np.where(up, client, server),
        "dst": np.where(up, server, client),
        "src_port": np.where(up, client_port, server_port),
        "dst_port": np.where(up, server_port, client_port),
        "src_mac": np.where(up, *mac),
        "dst_mac": np.where(up, *mac[::-1]),
        "id": _ip_ids(keys, flow, up),
        "ttl": np.where(up, 64, 64 - hops),
        "protocol": np.where(tcp, PROTOCOL_TCP, PROTOCOL_UDP),
        "flags": packets.flags,
        "seq": talk.seq,
        "ack": talk.ack,
        "window": talk.window,
        "scaled": talk.scaled,
        "stamped": stamped,
        "stamp": talk.stamp,
        "echo": talk.echo,
    }
    return Frames(
        start_ns[flow] + packets.offset_ns,
        packets.size,
        packets.headers,
        {name: column.astype(np.uint32) for name, column in columns.items()},
    )


def _ip_ids(keys: NDArray[np.uint64], flow: Ints, up: Bools) -> Ints:
    """IP identification: counted on from a random number in each flow and direction."""
    ids = np.zeros(len(flow), dtype=np.int64)
    for side, mine in enumerate((up, ~up)):
        first = (draw(keys, _ID + side) & np.uint64(0xFFFF)).astype(np.int64)
        own = flow[mine]
        new = np.flatnonzero(np.r_[True, own[1:] != own[:-1]]) if len(own) else np.zeros(0, dtype=np.int64)
        number = np.arange(len(own)) - np.repeat(new, np.diff(np.r_[new, len(own)]))
        ids[mine] = first[own] + number
    return ids & 0xFFFF


def render(batch: Frames) -> NDArray[np.uint8]:
    """The records of a nanosecond pcap file, one after the other.

    Parameters
    ----------
    batch : Frames
        In the order in which they shall stand in the file.

    Returns
    -------
    ndarray of uint8, shape (bytes,)
    """
    length = batch.size + _BEFORE_IP
    ends = length.cumsum()
    starts = ends - length
    buffer = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
    shape = batch.headers << 8 | batch.columns["protocol"]
    for each in np.unique(shape):
        rows = np.flatnonzero(shape == each)
        table = _headers(batch.take(rows))
        width = table.shape[1]
        # overlapping windows of the header's width, one at each byte: one C loop copies all headers
        windows = np.ndarray((len(buffer) - width + 1,), f"V{width}", buffer, strides=(1,))
        windows[starts[rows]] = table.view(f"V{width}").ravel()
    return buffer


def _headers(batch: Frames) -> NDArray[np.uint8]:
    """Record header to last header of packets with equal header lengths, shape (packets, bytes)."""
    columns, size = batch.columns, batch.size
    tcp = bool(columns["protocol"][0] == PROTOCOL_TCP)
    transport = TCP if tcp else UDP
    options = int(batch.headers[0]) - IPV4.itemsize - transport.itemsize
    layout = np.dtype(
        [
            ("record", PCAP_RECORD),
            ("ethernet", ETHERNET),
            ("ip", IPV4),
            ("transport", transport),
            ("options", "u1", (options,)),
        ]
    )
    table = np.zeros(len(batch), dtype=layout)
    record, ip, inner = table["record"], table["ip"], table["transport"]
    record["seconds"], record["fraction"] = np.divmod(batch.time_ns, NS)
    record["captured"] = record["length"] = size + ETHERNET.itemsize
    table["ethernet"]["type"] = ETHERTYPE_IPV4
    for end in ("src", "dst"):
        table["ethernet"][end] = _mac(columns[f"{end}_mac"])
        ip[end] = columns[end]
        inner[f"{end}_port"] = columns[f"{end}_port"]
    ip["version_ihl"] = 0x45
    ip["length"] = size
    ip["id"], ip["ttl"], ip["protocol"] = columns["id"], columns["ttl"], columns["protocol"]
    ip["fragment"] = DONT_FRAGMENT
    ip["checksum"] = _fold(_words(ip).sum(1))
    if tcp:
        inner["seq"], inner["ack"], inner["window"] = columns["seq"], columns["ack"], columns["window"]
        inner["flags"] = columns["flags"]
        inner["offset"] = (TCP.itemsize + options) // 4 << 4
        _options(table["options"], batch)
    else:
        inner["length"] = size - IPV4.itemsize
    pseudo = columns["protocol"] + size - IPV4.itemsize
    for end in ("src", "dst"):
        pseudo += (columns[end] >> 16) + (columns[end] & 0xFFFF)
    checksum = _fold(pseudo + _words(inner).sum(1) + _words(table["options"]).sum(1))
    # RFC 768: a computed zero goes out as all ones, zero means none
    inner["checksum"] = checksum if tcp else np.where(checksum == 0, 0xFFFF, checksum)
    return table.view(np.uint8).reshape(len(batch), layout.itemsize)


def _words(part: NDArray[np.void] | NDArray[np.uint8]) -> NDArray[np.int64]:
    """Headers as 16-bit words in network order, shape (packets, words)."""
    return np.ascontiguousarray(part).view(np.uint8).reshape(len(part), -1).view(">u2").astype(np.int64)


def _fold(total: Ints) -> Ints:
    """The Internet checksum (RFC 1071) of sums of 16-bit words."""
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _mac(number: NDArray[np.uint32]) -> NDArray[np.void]:
    """Locally administered unicast addresses, 02:00 and four drawn bytes."""
    address = np.zeros((len(number), 6), dtype=np.uint8)
    address[:, 0] = 0x02
    address[:, 2:] = number.astype(">u4").view(np.uint8).reshape(-1, 4)
    return address.view("V6").ravel()


def _options(block: NDArray[np.uint8], batch: Frames) -> None:
    """Fill TCP options into `block`, shape (packets, bytes); what is over stays zero: end of options."""
    room = block.shape[1]
    columns = batch.columns
    syn = (columns["flags"] & TCP_SYN) > 0
    stamped = columns["stamped"] > 0
    for opening in (True, False):
        for timed in (True, False):
            rows = np.flatnonzero((syn == opening) & (stamped == timed))
            if not len(rows):
                continue
            template, stamp_at = _template(room, opening, timed)
            filled = np.tile(np.frombuffer(template, dtype=np.uint8), (len(rows), 1))
            if stamp_at:
                times = np.stack([columns["stamp"][rows], columns["echo"][rows]], axis=1).astype(">u4")
                filled[:, stamp_at : stamp_at + 8] = times.view(np.uint8)
            if opening and room >= 8:  # offered only where both sides have room for it
                unscaled = columns["scaled"][rows] == 0
                at = template.index(bytes([3, 3, WINDOW_SHIFT]))
                filled[unscaled, at : at + 3] = 1
            block[rows] = filled


def _template(room: int, opening: bool, timed: bool) -> tuple[bytes, int]:
    """Options of a SYN (`opening`) or another packet that fit into `room` bytes, and where its time stamps stand."""
    nop, sack, scale = b"\x01", b"\x04\x02", bytes([3, 3, WINDOW_SHIFT])
    segment, stamps = b"\x02\x04" + MAX_SEGMENT.to_bytes(2, "big"), b"\x08\x0a" + bytes(8)
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
