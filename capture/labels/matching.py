"""Which row of a labels file fits a flow: by ends, ports, protocol and time, a column at a time.

Rows are put into groups that name the same of these five. Within a group they are sorted by key and
start, so that the row that began last before a flow, and the next after it, are found by bisection;
whether a row was still going on when the flow began, by a tree of the latest ends.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture.labels.protocol_names import OTHER
from netgen.capture.series.spec import LONGEST_NS

#: A start or an end that a row leaves open.
OPEN_START, OPEN_END = -LONGEST_NS - 1, LONGEST_NS + 1

_FAR = np.iinfo(np.int64).max
_PORTS_TOLD_APART = (6, 17)  # TCP and UDP; what is neither is OTHER


@dataclasses.dataclass(frozen=True)
class Ends:
    """Who talked to whom, of rows or of flows.

    Parameters
    ----------
    src, dst : ndarray of int64, shape (rows,)
        Numbers of addresses; -1: any (of a row), unknown (of a flow).
    src_port, dst_port : ndarray of int64, shape (rows,)
        Ports; -1: any, or none.
    protocol : ndarray of int64, shape (rows,)
        IP protocol, or of a row `OTHER`; -1: any, or unknown.
    """

    src: np.ndarray
    dst: np.ndarray
    src_port: np.ndarray
    dst_port: np.ndarray
    protocol: np.ndarray

    def turned(self) -> Ends:
        """The same seen from the other side."""
        return Ends(self.dst, self.src, self.dst_port, self.src_port, self.protocol)

    def take(self, rows: np.ndarray) -> Ends:
        """Some of them."""
        return Ends(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class Windows:
    """When the rows of a labels file are.

    Parameters
    ----------
    start, end : ndarray of int64, shape (rows,)
        Nanoseconds, both within the window; `OPEN_START` and `OPEN_END` where there is none.
    width : ndarray of int64, shape (rows,)
        The start may be later by as much: what its text leaves open.
    """

    start: np.ndarray
    end: np.ndarray
    width: np.ndarray


@dataclasses.dataclass(frozen=True)
class Matches:
    """What was found for flows.

    Parameters
    ----------
    row : ndarray of int64, shape (flows,)
        The row that fits best, -1 if none does.
    tied : ndarray of bool, shape (flows,)
        A row of another class names as much and starts as near.
    """

    row: np.ndarray
    tied: np.ndarray


class Matcher:
    """The rows of a labels file, ready to be asked for many flows.

    Of several rows that fit, in either direction, the one that names most wins; then one that has a
    time; then the one whose start is nearest to the flow's; then the first of the file.

    Parameters
    ----------
    ends : Ends
        What the rows name.
    windows : Windows
        When they are.
    label : ndarray of int64, shape (rows,)
        Number of each row's class.
    """

    def __init__(self, ends: Ends, windows: Windows, label: np.ndarray) -> None:
        self._label = label
        timed = (windows.start != OPEN_START) | (windows.end != OPEN_END)
        named = np.stack([getattr(ends, field.name) >= 0 for field in dataclasses.fields(Ends)])
        kind = np.zeros(len(label), np.int64)
        for bit, which in enumerate((*named, ends.protocol == OTHER, timed)):
            kind |= which.astype(np.int64) << bit
        kind |= np.unique(windows.width, return_inverse=True)[1] << 7
        self._groups = [_Group(rows, ends, windows, label) for rows in _alike(kind)]
        self._groups.sort(key=lambda group: group.rank, reverse=True)

    def match(self, flows: Ends, start: np.ndarray, end: np.ndarray) -> Matches:
        """The row that fits each flow best.

        Parameters
        ----------
        flows : Ends
            Who talked to whom.
        start, end : ndarray of int64, shape (flows,)
            Times of the first and the last packet.
        """
        row = np.full(len(start), -1)
        distance = np.full(len(start), _FAR)
        tied = np.zeros(len(start), bool)
        rank = None
        waiting = np.arange(len(start))
        for group in self._groups:
            if group.rank != rank:  # who has a row by now is served
                waiting = waiting[row[waiting] < 0]
                rank = group.rank
            for seen in (flows, flows.turned()):
                key = group.keys(seen.take(waiting))
                here = waiting[key >= 0]
                found = group.nearest(key[key >= 0], start[here], end[here])
                self._better(here, *found, row, distance, tied)
        return Matches(row, tied)

    def _better(
        self,
        here: np.ndarray,
        found: np.ndarray,
        away: np.ndarray,
        mixed: np.ndarray,
        row: np.ndarray,
        distance: np.ndarray,
        tied: np.ndarray,
    ) -> None:
        fits = found >= 0
        here, found, away, mixed = here[fits], found[fits], away[fits], mixed[fits]
        before = row[here]
        equal = (before >= 0) & (away == distance[here])
        closer = (before < 0) | (away < distance[here])
        differs = self._label[found] != self._label[before]
        tied[here] = np.where(closer, mixed, tied[here] | (equal & (mixed | differs)))
        wins = closer | (equal & (found < before))
        row[here[wins]], distance[here[wins]] = found[wins], away[wins]

    def touched(self, flows: Ends, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Numbers of the rows that some flow fits, whether or not another row fits it better."""
        parts = [
            group.touched(group.keys(seen), start, end) for group in self._groups for seen in (flows, flows.turned())
        ]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))

    def shifts(self, flows: Ends, start: np.ndarray) -> np.ndarray:
        """How much later than the nearest row of the same ends each flow began; only those that have one."""
        nearest = np.full(len(start), _FAR)
        for group in self._groups:
            if group.paired and group.timed:
                for seen in (flows, flows.turned()):
                    key = group.keys(seen)
                    here = np.flatnonzero(key >= 0)
                    shift = group.shift(key[here], start[here])
                    closer = np.abs(shift) < np.abs(nearest[here])
                    nearest[here[closer]] = shift[closer]
        return nearest[nearest != _FAR]


class _Group:
    """Rows that name the same fields and leave the same open of their times."""

    def __init__(self, rows: np.ndarray, ends: Ends, windows: Windows, label: np.ndarray) -> None:
        one = ends.take(rows[:1])
        self._named = {field.name: bool(getattr(one, field.name)[0] >= 0) for field in dataclasses.fields(Ends)}
        self._other = bool(one.protocol[0] == OTHER)
        self._width = int(windows.width[rows[0]])
        self.timed = bool((windows.start[rows[0]] != OPEN_START) or (windows.end[rows[0]] != OPEN_END))
        self.paired = self._named["src"] and self._named["dst"]
        self.rank = (sum(self._named.values()), self.timed)
        self._levels: list[np.ndarray] = []
        key = np.zeros(len(rows), np.int64)
        for part in self._parts(ends.take(rows)):
            unique, key = np.unique(key << 32 | part, return_inverse=True)
            self._levels.append(unique)
        # of equal starts the first of the file comes last, where a search from the right meets it first
        order = np.lexsort((-rows, windows.start[rows], key))
        self._row = rows[order]
        self._start = windows.start[self._row]
        self._end = windows.end[self._row]
        self._key = key[order]
        self._first = np.searchsorted(self._key, np.arange(len(self._levels[-1]) + 1))
        self._starts, place = np.unique(self._start, return_inverse=True)
        self._place = self._key << 32 | place
        self._latest = _tree(self._end)
        last = np.flatnonzero(np.append(self._place[1:] != self._place[:-1], True))
        size = np.diff(np.append(-1, last))
        self._last = np.repeat(last, size)  # of the rows of the same key and start
        self._label = label[self._row]
        others = self._label != self._label[self._last]
        self._mixed = np.repeat(np.logical_or.reduceat(others, last - size + 1), size)

    def _parts(self, ends: Ends) -> list[np.ndarray]:
        """The fields that are named, as numbers under 2**32, negative where a flow has none; at least one part."""
        parts = [getattr(ends, name) for name in ("src", "dst") if self._named[name]]
        ports = [getattr(ends, name) for name in ("src_port", "dst_port") if self._named[name]]
        if len(ports) == 2:
            ports = [np.where((ports[0] < 0) | (ports[1] < 0), -1, ports[0] << 16 | ports[1])]
        parts += ports
        if self._other:
            told_apart = np.isin(ends.protocol, _PORTS_TOLD_APART) | (ends.protocol < 0)
            parts.append(np.where(told_apart, -1, OTHER))
        elif self._named["protocol"]:
            parts.append(ends.protocol)
        return parts or [np.zeros(len(ends.src), np.int64)]

    def keys(self, flows: Ends) -> np.ndarray:
        """Number of each flow's key among those of the rows, -1 if no row has it."""
        key = np.zeros(len(flows.src), np.int64)
        known = np.ones(len(key), bool)
        for unique, part in zip(self._levels, self._parts(flows), strict=True):
            wanted = key << 32 | np.maximum(part, 0)
            key = np.minimum(np.searchsorted(unique, wanted), len(unique) - 1)
            known &= (part >= 0) & (unique[key] == wanted)
            key = np.where(known, key, 0)
        return np.where(known, key, -1)

    def _after(self, key: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Place of the first row of a key that starts later than a time."""
        return np.searchsorted(self._place, key << 32 | np.searchsorted(self._starts, time, side="right"))

    def nearest(self, key: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row that overlaps each flow and starts nearest to it, how near, and whether rows of two classes do."""
        after = self._after(key, start)
        left = _last_reaching(self._latest, after, start)
        left_fits = left >= self._first[key]
        left = np.where(left_fits, left, 0)
        # a start that is open is infinitely far; the text of one that is not leaves its width open
        left_away = np.maximum(start - self._start[left] - self._width, 0)
        left_away = np.where(left_fits, np.where(self._start[left] == OPEN_START, _FAR - 1, left_away), _FAR)
        right = self._last[np.minimum(after, len(self._last) - 1)]
        right_fits = (after < self._first[key + 1]) & (self._start[right] <= end)
        right_away = np.where(right_fits, self._start[right] - start, _FAR)
        best = np.where(right_away < left_away, right, left)
        both = left_fits & right_fits & (left_away == right_away)
        lower = self._row[right] < self._row[left]
        best = np.where(both & lower, right, best)
        either = self._mixed[left] | self._mixed[right] | (self._label[left] != self._label[right])
        mixed = np.where(both, either, self._mixed[best])
        return np.where(left_fits | right_fits, self._row[best], -1), np.minimum(left_away, right_away), mixed

    def touched(self, key: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Rows that overlap one of some flows of the same key."""
        flows = np.flatnonzero(key >= 0)
        flows = flows[np.lexsort((start[flows], key[flows]))]
        key, start, latest = key[flows], start[flows], _tree(end[flows])
        keys, first = np.unique(key, return_index=True)
        if not keys.size:
            return keys
        # the rows of these keys alone: there may be many captures with few flows each
        size = self._first[keys + 1] - self._first[keys]
        begin = np.repeat(self._first[keys] - np.append(0, np.cumsum(size)[:-1]), size)
        rows = begin + np.arange(len(begin))
        starts, place = np.unique(start, return_inverse=True)
        before = np.searchsorted(starts, self._end[rows], side="right")
        before = np.searchsorted(key << 32 | place, self._key[rows] << 32 | before)
        reaching = _last_reaching(latest, before, self._start[rows])
        return self._row[rows[reaching >= np.repeat(first, size)]]

    def shift(self, key: np.ndarray, start: np.ndarray) -> np.ndarray:
        """How much later than the nearest start among the rows of its key each flow began; `_FAR` if all are open."""
        after = self._after(key, start)
        shift = np.full(len(key), _FAR)
        for place, fits in ((after - 1, after > self._first[key]), (after, after < self._first[key + 1])):
            place = np.where(fits, place, 0)
            fits &= self._start[place] != OPEN_START
            away = start - self._start[place] - self._width // 2
            shift = np.where(fits & (np.abs(away) < np.abs(shift)), away, shift)
        return shift


def _alike(kind: np.ndarray) -> list[np.ndarray]:
    """Rows of each kind, in order."""
    order = np.argsort(kind, kind="stable")
    return [part for part in np.split(order, np.flatnonzero(np.diff(kind[order])) + 1) if part.size]


def _tree(values: np.ndarray) -> list[np.ndarray]:
    """Maxima of 1, 2, 4, ... values that stand together, until there is one."""
    levels = [values]
    while len(levels[-1]) > 1:
        below = levels[-1]
        if len(below) % 2:
            below = np.append(below, np.iinfo(np.int64).min)
        levels.append(np.maximum(below[::2], below[1::2]))
    return levels


def _last_reaching(tree: list[np.ndarray], before: np.ndarray, least: np.ndarray) -> np.ndarray:
    """The last place before each given one whose value is not under `least`; -1 if there is none."""
    found = np.full(len(before), -1)
    depth = np.zeros(len(before), np.int64)
    at = before.copy()
    waiting = np.arange(len(before))
    for level, values in enumerate(tree):  # up: the last block that holds such a value
        odd = waiting[(at[waiting] & 1) == 1]
        block = at[odd] - 1
        hit = values[block] >= least[odd]
        found[odd[hit]], depth[odd[hit]] = block[hit], level
        at[odd] = block
        at >>= 1
        waiting = waiting[(found[waiting] < 0) & (at[waiting] > 0)]
    for level in range(len(tree) - 1, 0, -1):  # down: the last value within the block
        here = np.flatnonzero((depth == level) & (found >= 0))
        right = np.minimum(2 * found[here] + 1, len(tree[level - 1]) - 1)
        found[here] = np.where(tree[level - 1][right] >= least[here], right, 2 * found[here])
        depth[here] = level - 1
    return found
