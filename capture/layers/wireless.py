"""IEEE 802.11 frames, and what monitor mode puts before them."""

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

# radiotap: bits of the presence word, and of the field of flags
_HAS_TIME, _HAS_FLAGS, _HAS_MORE = 1 << 0, 1 << 1, 1 << 31
_FCS, _PADDED = 0x10, 0x20
_FCS_SIZE = 4

_PRISM_SIZE = 144
_AVS_MAGIC = 0x80211000
_WORD = np.dtype("<u4")


def wlan(rows: Cursor, here: np.ndarray, *, padded: bool = False) -> None:
    """Data frames, to their LLC header; management, control and empty frames carry no IP.

    Parameters
    ----------
    rows : Rows
        Rows of a chunk.
    here : ndarray of int64
        Those at an 802.11 header.
    padded : bool
        Whether the header is padded to a multiple of 4 bytes.
    """
    here, head = rows.head(here, headers.WLAN_QOS, move=False)  # control frames have little more
    control = head["control"]
    here = here[(control & (_TYPE | _EMPTY)) == _DATA]
    here, head = rows.head(here, headers.WLAN, move=False)
    control = head["control"].astype(np.uint16)
    encrypted = (control & _PROTECTED) != 0
    rows.reason[here[encrypted]] = ENCRYPTED
    going = ~encrypted & ((head["sequence"] & _LATER_FRAGMENT) == 0)
    here, control = here[going], control[going]
    qos = (control & _QOS) != 0
    rows.skip(here, headers.WLAN.itemsize + 6 * ((control & _FOUR_ADDRESSES) == _FOUR_ADDRESSES))
    with_qos, quality = rows.head(here[qos], headers.WLAN_QOS)
    aggregate = with_qos[(quality["control"] & _AGGREGATE) != 0]
    # HT control
    rows.skip(here[qos & ((control & _ORDER) != 0)], 4)
    if padded:
        # every part of the header has an even length
        rows.skip(here[qos ^ ((control & _FOUR_ADDRESSES) == _FOUR_ADDRESSES)], 2)
    rows.notes["802.11 aggregate, first packet read"] += len(aggregate)
    rows.skip(aggregate, headers.ETHERNET.itemsize)  # addresses and length of the first part
    rows.expect(here, LLC)


def radiotap(rows: Cursor, here: np.ndarray) -> None:
    """A radiotap header, of whose fields only the flags count: padding, frame check sequence."""
    here, head = rows.head(here, headers.RADIOTAP, move=False)
    good = (head["version"] == 0) & (head["length"] >= headers.RADIOTAP.itemsize)
    here, head = here[good], head[good]
    present, length = head["present"].astype(np.uint32), head["length"].astype(np.int64)
    start = rows.at[here]
    stop = np.minimum(start + length, rows.end[here])
    behind = start + headers.RADIOTAP.itemsize
    more = np.flatnonzero(present & _HAS_MORE)
    for _ in range(MAX_WORDS):
        more = more[behind[more] + _WORD.itemsize <= stop[more]]
        if not more.size:
            break
        word = gather(rows.data, behind[more], _WORD)
        behind[more] += _WORD.itemsize
        more = more[(word & _HAS_MORE) != 0]
    # the time, if there, comes before the flags, aligned to its 8 bytes
    behind += np.where(present & _HAS_TIME, -(behind - start) % 8 + 8, 0)
    flagged = np.flatnonzero(((present & _HAS_FLAGS) != 0) & (behind < stop))
    flags = np.zeros(len(here), np.uint8)
    flags[flagged] = rows.data[behind[flagged]]
    rows.skip(here, length)
    rows.trim(here[(flags & _FCS) != 0], _FCS_SIZE)
    padded = (flags & _PADDED) != 0
    rows.expect(here, LINK + headers.LINKTYPE_WLAN)
    if padded.any():
        rows.expect(here[padded], NONE)
        wlan(rows, here[padded], padded=True)


def prism(rows: Cursor, here: np.ndarray) -> None:
    """A Prism header, of fixed size; some drivers write an AVS header under its link type."""
    here, head = rows.head(here, headers.AVS, move=False)
    avs = (head["version"] & 0xFFFFF000) == _AVS_MAGIC
    rows.expect(here[avs], LINK + headers.LINKTYPE_AVS)
    rows.skip(here[~avs], _PRISM_SIZE)
    rows.expect(here[~avs], LINK + headers.LINKTYPE_WLAN)
