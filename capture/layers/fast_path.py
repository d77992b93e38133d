"""The headers of nearly every packet, read at once: IP without options or extensions, whole, TCP or UDP.

All rows are read as if they were of that form, with headers side by side in one gather, and it is
said which are; the columns of the others mean nothing. What `netgen.capture.layers.ip` finds for such
packets step by step is the same.
"""

from __future__ import annotations

import numpy as np

from netgen.capture import headers
from netgen.capture.headers import gather
from netgen.capture.layers.cursor import Cursor, HeaderColumns
from netgen.capture.layers.fingerprint import FIRST_WORD, WORDS, fingerprint


def _stacked(ip: np.dtype) -> np.dtype:
    """IP and transport as one layout, and the words of the latter that fingerprints count."""
    at = ip.itemsize
    formats = {
        "ip": (ip, 0),
        "tcp": (headers.TCP, at),
        "udp": (headers.UDP, at),
        "words": ((">u4", WORDS), at + FIRST_WORD),
    }
    return np.dtype(formats)  # type: ignore[call-overload]


_IPV4, _IPV6 = _stacked(headers.IPV4), _stacked(headers.IPV6)
_NO_OPTIONS = 0x45  # version 4, five words
_IN_PARTS = 0x3FFF  # more fragments, or an offset


def plain(rows: Cursor) -> tuple[HeaderColumns, np.ndarray]:
    """Columns of rows at an IP header, right for those of the common form.

    Parameters
    ----------
    rows : Rows
        Each with a `kind` of IP.

    Returns
    -------
    Fields, ndarray of bool, shape (rows,)
        The columns, and the rows for which they hold.
    """
    v4 = rows.kind == headers.ETHERTYPE_IPV4
    count = int(np.count_nonzero(v4))
    if 0 < count < len(rows):
        # the version with more packets is read for all, and overwritten where it is the other
        few = np.flatnonzero(v4 if 2 * count < len(rows) else ~v4)
        fields, done = _read(rows.data, rows.at, rows.end, 2 * count >= len(rows))
        found, good = _read(rows.data, rows.at[few], rows.end[few], 2 * count < len(rows))
        fields.put(few, found)
        done[few] = good
        return fields, done
    return _read(rows.data, rows.at, rows.end, count > 0)


def _read(data: np.ndarray, at: np.ndarray, end: np.ndarray, v4: bool) -> tuple[HeaderColumns, np.ndarray]:
    count = len(at)
    layout = _IPV4 if v4 else _IPV6
    last = data.size - layout.itemsize
    if last < 0:
        return HeaderColumns.zeros(count), np.zeros(count, bool)
    # headers may be read beyond the end of a packet, but not of the buffer
    inside = bool((at <= last).all())
    head = gather(data, at if inside else np.minimum(at, last), layout)
    ip, tcp = head["ip"], head["tcp"]
    size = ip["length"].astype(np.int64)
    if v4:
        header = headers.IPV4.itemsize
        protocol = ip["protocol"].copy()
        good = (ip["version_ihl"] == _NO_OPTIONS) & ((ip["fragment"] & _IN_PARTS) == 0)
        src, dst = ip["src"].astype(np.uint64), ip["dst"].astype(np.uint64)
        src_high, dst_high = np.zeros((2, count), np.uint64)
        identification = ip["id"].astype(np.uint32)
    else:
        header = headers.IPV6.itemsize
        protocol = ip["next"].copy()
        good = ip["version_class_flow"] >> 28 == 6
        (src_high, src), (dst_high, dst) = halves(ip["src"]), halves(ip["dst"])
        identification = np.zeros(count, np.uint32)
        size += header
    is_tcp = protocol == headers.PROTOCOL_TCP
    good &= is_tcp | (protocol == headers.PROTOCOL_UDP)
    there = np.minimum(end - at, size)  # what follows is padding
    good &= there >= np.where(is_tcp, header + headers.TCP.itemsize, header + headers.UDP.itemsize)
    if not inside:
        good &= at <= last
    words = [head["words"][:, place].astype(np.uint32) for place in range(WORDS)]
    behind = header + headers.TCP.itemsize
    if not (there >= behind).all():
        for place in range(WORDS):
            words[place] *= there >= behind - 4 * (WORDS - 1 - place)
    before = np.where(is_tcp, (tcp["offset"] >> 4) * 4 + header, headers.UDP.itemsize + header)
    there -= before
    return HeaderColumns(
        size=size,
        version=np.full(count, 4 if v4 else 6, np.uint8),
        protocol=protocol,
        flags=tcp["flags"] * is_tcp,
        src_high=src_high,
        src_low=src,
        dst_high=dst_high,
        dst_low=dst,
        src_port=tcp["src_port"].astype(np.int32),
        dst_port=tcp["dst_port"].astype(np.int32),
        payload_at=at + before,
        payload_length=np.maximum(there, 0, out=there),
        seq=words[0] * is_tcp,
        fragment=np.zeros(count, np.uint8),
        fragment_id=np.zeros(count, np.uint32),
        fingerprint=fingerprint(identification, words, protocol, size),
    ), good


def halves(addresses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of IPv6 addresses, as numbers."""
    words = np.ascontiguousarray(addresses).view(">u8").reshape(-1, 2)
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)
