"""Record starts of a long pcap, found from many places at once.

A pcap is a linked list: followed from its head, each step waits for the memory that the last one
named. So many likely record starts are guessed, all their chains are followed at once, and chain
``i`` is believed only if chain ``i - 1`` ends exactly on its start. From the true first record on
that is a proof by induction, and a wrong guess is found: that stretch is walked again, one by one.
"""

from __future__ import annotations

import dataclasses
import struct

import numpy as np

from netgen.capture import native
from netgen.capture.formats.records import Order
from netgen.capture.native import packets as native_packets

#: Bytes between two guesses.
STRIDE = 128 * 1024

#: Bytes behind such a place in which a record start is looked for.
REACH = 2048

#: Below this many bytes, walking is as fast.
WORTH = 8 * STRIDE

#: Fewer chains than this are faster walked one by one.
FEW = 24

#: Records of a chain that are followed before looking whether they can be.
_STEPS = 32

#: Seconds around the file's first time stamp in which another one is expected.
BEFORE, AFTER = 86_400, 400 * 86_400

#: Records of a chain that must look right before its start is taken for one.
PROOF = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """What a guess needs to know of a file: byte order, bytes of a record header, limits."""

    order: Order
    record: int
    limit: int
    units: int  # of the fraction of a second


def _words(data: np.ndarray, order: Order) -> np.ndarray:
    """The 32-bit number at each byte of `data`."""
    return np.ndarray((len(data) - 3,), dtype=order + "u4", buffer=data.data, strides=(1,))


def guesses(data: np.ndarray, places: np.ndarray, reach: int, layout: Layout, seconds: int) -> np.ndarray:
    """The first likely record start within `reach` bytes from each of `places`, or -1.

    Parameters
    ----------
    data : ndarray of uint8
        The file.
    places : ndarray of int64, shape (guesses,)
        In ascending order.
    reach : int
        Bytes to look at.
    layout : Layout
        Of the file's records.
    seconds : int
        A time stamp of the file.

    Returns
    -------
    ndarray of int64, shape (guesses,)
    """
    low = max(seconds - BEFORE, 0)
    span = np.uint32(min(AFTER + BEFORE, 2**32 - 1 - low))
    if native.ready():
        return native_packets.guess(data, places, reach, layout, low=low, span=int(span), proof=PROOF)
    words = _words(data, layout.order)
    found = np.full(len(places), -1, np.int64)
    row, start = _timed(data, words, places, reach, layout.order, low, span)
    at = start.copy()
    good = np.ones(len(at), bool)
    last = len(data) - layout.record
    for _ in range(PROOF):
        inside = at <= last
        if not inside.all():  # a chain may end exactly where the file does
            good &= inside | (at == len(data))
        alive = np.flatnonzero(good & inside)
        spot = at[alive]
        captured, length = words[spot + 8].astype(np.int64), words[spot + 12].astype(np.int64)
        right = (words[spot] - np.uint32(low) <= span) & (words[spot + 4] < layout.units)
        right &= (captured <= layout.limit) & (captured <= length) & (length <= layout.limit) & (captured > 0)
        good[alive] = right
        at[alive] = spot + layout.record + captured
        keep = good
        row, start, at, good = row[keep], start[keep], at[keep], good[keep]
        if not len(row):
            return found
    first = np.flatnonzero(np.diff(row, prepend=-1))
    found[row[first]] = start[first]
    return found


def _timed(
    data: np.ndarray, words: np.ndarray, places: np.ndarray, reach: int, order: Order, low: int, span: np.uint32
) -> tuple[np.ndarray, np.ndarray]:
    """Bytes near each place at which a likely time stamp stands: number of the place, and where."""
    # the highest byte of a time takes few values, and bytes are compared many at once
    first, last = low >> 24, low + int(span) >> 24
    high = data[3 if order == "<" else 0 :]
    rows, starts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    stride = int(places[1] - places[0]) if len(places) > 1 else 1
    whole = int(np.searchsorted(places, len(words) - reach, "right"))
    if whole:
        # all at once: places lie a stride apart
        near = np.ndarray((whole, reach), np.uint8, high.data, int(places[0]), (stride, 1))
        row, column = np.divmod(np.flatnonzero(near - np.uint8(first) <= last - first), reach)
        rows.append(row)
        starts.append(column + places[row])
    for which in range(whole, len(places)):
        near = high[places[which] : places[which] + min(reach, len(words) - places[which])]
        here = np.flatnonzero(near - np.uint8(first) <= last - first)
        rows.append(np.full(len(here), which))
        starts.append(here + places[which])
    found, at = np.concatenate(rows), np.concatenate(starts)
    right = words[at] - np.uint32(low) <= span
    return found[right], at[right]


def scan(data: np.ndarray, begin: int, stop: int, layout: Layout, seconds: int) -> tuple[np.ndarray, int]:
    """Starts of all whole records from `begin` on that begin before `stop`, and where the last one ends.

    Stops early at a record that cannot be: the caller walks on from there and finds out why.

    Parameters
    ----------
    data : ndarray of uint8
        The file.
    begin, stop : int
        `begin` is where a record begins.
    layout, seconds
        As in `guesses`.
    """
    stride = 2 * STRIDE if native.ready() else STRIDE  # compiled, few chains are as good as many
    places = np.arange(begin + stride, stop - REACH, stride)
    guessed = guesses(data, places, REACH, layout, seconds)
    heads = np.append(begin, guessed[guessed >= 0])  # ascending: places lie further apart than guesses from them
    if native.ready():
        return native_packets.scan(data, heads, stop, layout)
    words = _words(data, layout.order)
    last, size, record = len(data) - layout.record, len(data), layout.record
    ends = np.append(heads[1:], stop)

    # all chains, many steps at a time, until each has come to where the next begins
    at = heads.copy()
    alive = np.arange(len(heads))
    blocks = list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]()
    total = np.zeros(len(heads), np.int64)
    sizes = words[8:]
    while len(alive) >= FEW:
        places = np.empty((_STEPS + 1, len(alive)), np.int64)
        places[0] = at[alive]
        try:
            for step in range(_STEPS):
                np.add(places[step], sizes[places[step]], out=places[step + 1])
                places[step + 1] += record
        except IndexError:  # at the end of the file; a place that cannot be leads anywhere forward, and is found below
            for step in range(_STEPS):
                np.add(places[step], sizes[np.minimum(places[step], last)], out=places[step + 1])
                places[step + 1] += record
        here, after = places[:-1], places[1:]
        right = here < ends[alive]
        if int(after[-1].max()) > size or int((after - here).max()) > layout.limit + record:
            right &= (here <= last) & (after - here <= layout.limit + record) & (after <= size)
            right = np.logical_and.accumulate(right, axis=0)
        count = np.count_nonzero(right, axis=0)
        blocks.append((here, right, alive, total[alive]))
        total[alive] += count
        at[alive] = places[count, np.arange(len(alive))]
        alive = alive[(count == _STEPS) & (at[alive] < ends[alive])]
    if not blocks:
        return np.zeros(0, np.int64), begin

    # chain by chain; where each record goes is known, so nothing need be sorted
    first = np.append(0, np.cumsum(total))
    start = np.empty(int(first[-1]), np.int64)
    for here, right, chains, done in blocks:
        place = (first[chains] + done) + np.arange(len(here))[:, None]
        start[place[right]] = here[right]
    if (at[:-1] == heads[1:]).all():  # every chain ended on the next: the usual case
        return start, int(at[-1])
    # a chain not followed to its end, a wrong guess, or damage: walk to the start of a later one
    unpack = struct.Struct(layout.order + "8xI").unpack_from
    buffer = data.data
    true: list[np.ndarray] = []
    number = {int(head): index for index, head in enumerate(heads)}
    position, index = begin, 0
    while True:
        true.append(start[first[index] : first[index + 1]])
        position = int(at[index])
        walked: list[int] = []
        while position < stop and position not in number:
            if position > last:
                break
            (captured,) = unpack(buffer, position)
            if captured > layout.limit or position + record + captured > size:
                break
            walked.append(position)
            position += record + captured
        true.append(np.array(walked, np.int64))
        following = number.get(position) if position < stop else None
        if following is None or following <= index:
            return np.concatenate(true), position
        index = following
