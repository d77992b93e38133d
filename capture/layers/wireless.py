"""IEEE 802.11 frames, and the headers that monitor mode puts before them."""

from __future__ import annotations

import numpy as np

from netgen.capture import headers
from netgen.capture.headers import gather
from netgen.capture.layers.cursor import ENCRYPTED, LINK, LLC, NONE, Cursor

#: Words of a radiotap header that say which fields follow, at most.
MAX_WORDS = 16

# bits of the frame control, little-endian
_TYPE, _DATA = 0x000C, 0x0008
_EMPTY, _QOS = 0x0040, 0x0080
_FOUR_ADDRESSES = 0x0300
_PROTECTED, _ORDER = 0x4000, 0x8000

_LATER_FRAGMENT = 0x000F  # of the sequence control
_AGGREGATE = 0x0080  # of the QoS control

# radiotap: bits of the presence word, and of the flags field
_HAS_TIME, _HAS_FLAGS, _HAS_MORE = 1 << 0, 1 << 1, 1 << 31
_FCS, _PADDED = 0x10, 0x20
_FCS_SIZE = 4

_PRISM_SIZE = 144
_AVS_MAGIC = 0x80211000
_WORD = np.dtype("<u4")


def wlan(cursor: Cursor, rows: np.ndarray, *, padded: bool = False) -> None:
    """Read data frames up to LLC; management, control and empty frames carry no IP.

    The header may be padded to a multiple of 4 bytes.
    """
    rows, header = cursor.read_header(rows, headers.WLAN_QOS, advance=False)  # control frames have little more
    rows = rows[(header["control"] & (_TYPE | _EMPTY)) == _DATA]
    rows, header = cursor.read_header(rows, headers.WLAN, advance=False)
    control = header["control"].astype(np.uint16)
    is_encrypted = (control & _PROTECTED) != 0
    cursor.reason[rows[is_encrypted]] = ENCRYPTED
    readable = ~is_encrypted & ((header["sequence"] & _LATER_FRAGMENT) == 0)
    rows, control = rows[readable], control[readable]
    has_qos = (control & _QOS) != 0
    has_fourth = (control & _FOUR_ADDRESSES) == _FOUR_ADDRESSES
    cursor.advance(rows, headers.WLAN.itemsize + 6 * has_fourth)
    with_qos, qos = cursor.read_header(rows[has_qos], headers.WLAN_QOS)
    aggregate = with_qos[(qos["control"] & _AGGREGATE) != 0]
    cursor.advance(rows[has_qos & ((control & _ORDER) != 0)], 4)  # HT control
    if padded:  # each part of the header has an even length
        cursor.advance(rows[has_qos ^ has_fourth], 2)
    cursor.notes["802.11 aggregate, first packet read"] += len(aggregate)
    cursor.advance(aggregate, headers.ETHERNET.itemsize)  # addresses and length of the first part
    cursor.set_next(rows, LLC)


def radiotap(cursor: Cursor, rows: np.ndarray) -> None:
    """Read a radiotap header; of its fields only the flags count: padding, frame check sequence."""
    rows, header = cursor.read_header(rows, headers.RADIOTAP, advance=False)
    good = (header["version"] == 0) & (header["length"] >= headers.RADIOTAP.itemsize)
    rows, header = rows[good], header[good]
    present, length = header["present"].astype(np.uint32), header["length"].astype(np.int64)
    start = cursor.at[rows]
    stop = np.minimum(start + length, cursor.end[rows])
    at = start + headers.RADIOTAP.itemsize
    unfinished = np.flatnonzero(present & _HAS_MORE)
    for _ in range(MAX_WORDS):
        unfinished = unfinished[at[unfinished] + _WORD.itemsize <= stop[unfinished]]
        word = gather(cursor.data, at[unfinished], _WORD)
        at[unfinished] += _WORD.itemsize
        unfinished = unfinished[(word & _HAS_MORE) != 0]
    # a time stamp may precede the flags, aligned to its 8 bytes
    at += np.where(present & _HAS_TIME, -(at - start) % 8 + 8, 0)
    flagged = np.flatnonzero(((present & _HAS_FLAGS) != 0) & (at < stop))
    flags = np.zeros(len(rows), np.uint8)
    flags[flagged] = cursor.data[at[flagged]]
    cursor.advance(rows, length)
    cursor.trim(rows[(flags & _FCS) != 0], _FCS_SIZE)
    cursor.set_next(rows, LINK + headers.LINKTYPE_WLAN)
    padded = rows[(flags & _PADDED) != 0]
    cursor.set_next(padded, NONE)
    wlan(cursor, padded, padded=True)


def prism(cursor: Cursor, rows: np.ndarray) -> None:
    """Read a Prism header, of fixed size; some drivers write an AVS header under its link type."""
    rows, header = cursor.read_header(rows, headers.AVS, advance=False)
    is_avs = (header["version"] & 0xFFFFF000) == _AVS_MAGIC
    cursor.set_next(rows[is_avs], LINK + headers.LINKTYPE_AVS)
    cursor.advance(rows[~is_avs], _PRISM_SIZE)
    cursor.set_next(rows[~is_avs], LINK + headers.LINKTYPE_WLAN)
