"""Records as columns, damage, and the interface of a capture format."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np

#: Records per chunk: fewer mean more calls, more overflow the cache.
CHUNK = 131_072

#: Longest record believed where the file does not promise more (libpcap's MAXIMUM_SNAPLEN).
MAX_CAPTURED = 262_144

#: Longest that a file may promise (libpcap's for USB and D-Bus); above, it is no promise.
MAX_SNAPLEN = 128 * 1024 * 1024

#: Link type of a pcapng packet whose interface was never declared.
NO_INTERFACE = -1

Order = Literal["<", ">"]
ORDERS: tuple[Order, Order] = ("<", ">")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RecordBatch:
    """Records of a capture as columns, int64 and of shape (records,) each."""

    data: np.ndarray  # uint8: the file, or the window of it that holds these records
    offset: np.ndarray  # where in `data` each packet begins
    captured: np.ndarray  # how many of its bytes are there
    length: np.ndarray  # bytes the packet had on the wire, as the capture says
    time_ns: np.ndarray  # nanoseconds since 1970
    linktype: np.ndarray  # LINKTYPE number, or `NO_INTERFACE`
    number: np.ndarray  # packet number in the file, from 1 (in a segment of a file, counted from its beginning)

    def __len__(self) -> int:
        return len(self.offset)


@dataclasses.dataclass(frozen=True, slots=True)
class Damage:
    """A place from which on a capture could not be read."""

    byte: int
    reason: str


class Format(Protocol):
    """One capture format, read along a chain of records.

    What it knows of the file so far (byte order, interfaces) is its `state`. State and `position` together determine
    what it reads next, so a file can be read in segments.
    """

    position: int
    number: int
    damage: list[Damage]
    notes: Counter[str]

    @property
    def state(self) -> Any:
        """What is known of the file; readers in equal states continue alike."""

    def chunks(self, data: np.ndarray, base: int, until: int, *, final: bool) -> Iterator[RecordBatch]:
        """Yield records that begin at `position` or later, and before `until`.

        `data` are the file's bytes from `base` on. Unless `final`, the file goes on after `data`, and a record that is
        not whole waits for more.
        """


def clipped(captured: np.ndarray, offset: np.ndarray, size: int) -> np.ndarray:
    """Return captured bytes, at least 0 and at most those up to the end of a buffer of `size`."""
    return captured.clip(0, np.maximum(size - offset, 0))
