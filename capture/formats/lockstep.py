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

from capture.formats.records import Order

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
    words = _words(data, layout.order)
    low = max(seconds - BEFORE, 0)
    span = np.uint32(min(AFTER + BEFORE, 2**32 - 1 - low))
    found = np.full(len(places), -1, np.int64)
    row, start = _timed(data, words, places, reach, low, span)
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
    data: np.ndarray, words: np.ndarray, places: np.ndarray, reach: int, low: int, span: np.uint32
) -> tuple[np.ndarray, np.ndarray]:
    """Bytes near each place at which a likely time stamp stands: number of the place, and where."""
    rows, starts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    stride = int(places[1] - places[0]) if len(places) > 1 else 1
    whole = int(np.searchsorted(places, len(words) - reach, "right"))
    if whole:
        # all at once: places lie a stride apart
        near = np.ndarray((whole, reach), words.dtype, data.data, int(places[0]), (stride, 1))
        row, column = np.nonzero(near - np.uint32(low) <= span)
        rows.append(row)
        starts.append(column + places[row])
    for which in range(whole, len(places)):
        here = np.flatnonzero(words[places[which] : places[which] + reach] - np.uint32(low) <= span)
        rows.append(np.full(len(here), which))
        starts.append(here + places[which])
    return np.concatenate(rows), np.concatenate(starts)


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
    places = np.arange(begin + STRIDE, stop - REACH, STRIDE)
    guessed = guesses(data, places, REACH, layout, seconds)
    heads = np.unique(np.append(guessed[guessed >= 0], begin))
    words = _words(data, layout.order)
    last, size, record = len(data) - layout.record, len(data), layout.record
    ends = np.append(heads[1:], stop)

    # all chains, many steps at a time, until each has come to where the next begins
    at = heads.copy()
    alive = np.arange(len(heads))
    starts, members = list[np.ndarray](), list[np.ndarray]()
    while len(alive) >= FEW:
        places = np.empty((_STEPS + 1, len(alive)), np.int64)
        places[0] = at[alive]
        for step in range(_STEPS):
            # a place that cannot be leads anywhere forward; it is found below
            np.add(places[step], words[np.minimum(places[step], last) + 8], out=places[step + 1])
            places[step + 1] += record
        here, after = places[:-1], places[1:]
        good = (here < ends[alive]) & (here <= last) & (after - here <= layout.limit + record) & (after <= size)
        right = np.logical_and.accumulate(good, axis=0)
        count = right.sum(axis=0)
        starts.append(here.T[right.T])
        members.append(np.repeat(alive, count))
        at[alive] = places[count, np.arange(len(alive))]
        alive = alive[(count == _STEPS) & (at[alive] < ends[alive])]
    if not starts:
        return np.zeros(0, np.int64), begin

    chain, start = np.concatenate(members), np.concatenate(starts)
    # two bytes are enough for the chains of a segment, and sort by radix
    order = np.argsort(chain.astype(np.uint16) if len(heads) < 1 << 16 else chain, kind="stable")
    start = start[order]
    first = np.searchsorted(chain[order], np.arange(len(heads) + 1))
    if (at[:-1] == heads[1:]).all():  # every chain ended on the next: the usual case
        return start, int(at[-1])

    # a chain not followed to its end, a wrong guess, or damage: walk to the start of a later one
    unpack = struct.Struct(layout.order + "8xI").unpack_from
    buffer = data.data
    true: list[np.ndarray] = []
    place = {int(head): index for index, head in enumerate(heads)}
    position, index = begin, 0
    while True:
        true.append(start[first[index] : first[index + 1]])
        position = int(at[index])
        walked: list[int] = []
        while position < stop and position not in place:
            if position > last:
                break
            (captured,) = unpack(buffer, position)
            if captured > layout.limit or position + record + captured > size:
                break
            walked.append(position)
            position += record + captured
        true.append(np.array(walked, np.int64))
        following = place.get(position) if position < stop else None
        if following is None or following <= index:
            return np.concatenate(true), position
        index = following
