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

from capture.records import Order

#: Bytes between two guesses.
STRIDE = 64 * 1024

#: Bytes behind such a place in which a record start is looked for.
REACH = 2048

#: Below this many bytes, walking is as fast.
WORTH = 8 * STRIDE

#: Fewer chains than this are faster walked one by one.
FEW = 64

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
    rows, columns = [], []
    for which, place in enumerate(places.tolist()):
        near = words[place : place + reach] - np.uint32(low) <= span
        here = np.flatnonzero(near)
        rows.append(np.full(len(here), which))
        columns.append(here + place)
    if not rows:
        return found
    row, start = np.concatenate(rows), np.concatenate(columns)
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

    # all chains, a step at a time, until each has come to where the next begins
    steps = list[np.ndarray]()
    at = heads.copy()
    alive = np.arange(len(heads))
    members = list[np.ndarray]()
    spot, end = heads, ends
    while len(alive) >= FEW:
        ok = spot <= last
        captured = words[np.minimum(spot, last) + 8].astype(np.int64)
        after = spot + captured + record
        ok &= (captured <= layout.limit) & (after <= size)
        if not ok.all():
            at[alive[~ok]] = spot[~ok]
            alive, spot, after, end = alive[ok], spot[ok], after[ok], end[ok]
        steps.append(spot)
        members.append(alive)
        going = after < end
        if going.all():
            spot = after
        else:
            at[alive[~going]] = after[~going]
            alive, spot, end = alive[going], after[going], end[going]
    at[alive] = spot
    if not steps:
        return np.zeros(0, np.int64), begin

    chain, start = np.concatenate(members), np.concatenate(steps)
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
