"""Match flows with the rows of a label file, by addresses, ports, protocol and time.

Rows that name the same of the five endpoint fields form a group. Within a group they are sorted by
key (the named fields) and start. Bisection gives the first row that starts after a flow; a sweep in
order of time gives the last row that started before it and has not ended.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from netgen.capture.labels.protocol_names import OTHER
from netgen.capture.series.spec import LONGEST_NS

#: A start or an end that a row leaves open.
OPEN_START, OPEN_END = -LONGEST_NS - 1, LONGEST_NS + 1

_FAR = np.iinfo(np.int64).max
_TCP_UDP = (6, 17)  # protocols that are not OTHER


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """Addresses, ports and protocol of rows or flows, int64 and of shape (rows,) each."""

    src: np.ndarray  # index of an address; -1: any (of a row), unknown (of a flow)
    dst: np.ndarray
    src_port: np.ndarray  # -1: any, or none
    dst_port: np.ndarray
    protocol: np.ndarray  # IP protocol, or of a row `OTHER`; -1: any, or unknown

    def reversed(self) -> Endpoints:
        """Swap source and destination."""
        return Endpoints(self.dst, self.src, self.dst_port, self.src_port, self.protocol)

    def take(self, rows: np.ndarray) -> Endpoints:
        """Select rows."""
        return Endpoints(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


@dataclasses.dataclass(frozen=True)
class TimeWindows:
    """Time windows of the rows of a label file in nanoseconds, int64 and of shape (rows,) each."""

    start: np.ndarray  # inside the window, as `end` is; `OPEN_START` where there is none
    end: np.ndarray  # `OPEN_END` where there is none
    resolution: np.ndarray  # the start may be later by as much, because its text leaves it open

    def take(self, rows: np.ndarray) -> TimeWindows:
        """Select rows."""
        return TimeWindows(self.start[rows], self.end[rows], self.resolution[rows])


@dataclasses.dataclass(frozen=True)
class MatchResult:
    """The rows that match flows best; shape (flows,) each."""

    row: np.ndarray  # int64: the best row, -1 if none matches
    distance: np.ndarray  # int64: nanoseconds between the starts of row and flow
    tied: np.ndarray  # bool: whether a row of another class matches equally well


class Matcher:
    """Rows of a label file, indexed to match many flows; `label` is the index of each row's class.

    Of several rows that match, in either direction, the one that names most fields wins; then one that has a time; then
    the one whose start is nearest to the flow's; then the first of the file.
    """

    def __init__(self, endpoints: Endpoints, windows: TimeWindows, label: np.ndarray) -> None:
        self._label = label
        timed = (windows.start != OPEN_START) | (windows.end != OPEN_END)
        named = np.stack([getattr(endpoints, field.name) >= 0 for field in dataclasses.fields(Endpoints)])
        group = np.zeros(len(label), np.int64)
        for bit, flag in enumerate((*named, endpoints.protocol == OTHER, timed)):
            group |= flag.astype(np.int64) << bit
        group |= np.unique(windows.resolution, return_inverse=True)[1] << 7
        order = np.argsort(group, kind="stable")
        bounds = np.flatnonzero(np.diff(group[order])) + 1
        self._groups = [_RowGroup(rows, endpoints, windows, label) for rows in np.split(order, bounds) if rows.size]
        self._groups.sort(key=lambda group: group.rank, reverse=True)

    def match(self, flows: Endpoints, start: np.ndarray, end: np.ndarray) -> MatchResult:
        """Find the row that matches each flow best, given the times of its first and its last packet."""
        count = len(start)
        best = MatchResult(np.full(count, -1), np.full(count, _FAR), np.zeros(count, bool))
        rank = None
        unmatched = np.arange(count)
        for group in self._groups:
            if group.rank != rank:  # rows of a lower rank cannot replace a match
                unmatched = unmatched[best.row[unmatched] < 0]
                rank = group.rank
            for side in (flows, flows.reversed()):
                key = group.keys(side.take(unmatched))
                candidates = unmatched[key >= 0]
                nearest = group.nearest(key[key >= 0], start[candidates], end[candidates])
                self._keep_better(best, candidates, nearest)
        return best

    def _keep_better(self, best: MatchResult, flows: np.ndarray, match: MatchResult) -> None:
        """Replace the best matches of `flows` by those of `match` that are nearer, or equally near and earlier."""
        matched = match.row >= 0
        flows, row, distance, tied = flows[matched], match.row[matched], match.distance[matched], match.tied[matched]
        before = best.row[flows]
        equal = (before >= 0) & (distance == best.distance[flows])
        closer = (before < 0) | (distance < best.distance[flows])
        differs = self._label[row] != self._label[before]
        best.tied[flows] = np.where(closer, tied, best.tied[flows] | (equal & (tied | differs)))
        wins = closer | (equal & (row < before))
        best.row[flows[wins]], best.distance[flows[wins]] = row[wins], distance[wins]

    def matching_rows(self, flows: Endpoints, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the rows that match some flow, whether or not another row matches it better."""
        rows = [
            group.overlapping(group.keys(side), start, end)
            for group in self._groups
            for side in (flows, flows.reversed())
        ]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *rows]))

    def shifts(self, flows: Endpoints, start: np.ndarray) -> np.ndarray:
        """Return how much later each flow began than the nearest row of its two addresses, if there is one."""
        nearest = np.full(len(start), _FAR)
        for group in self._groups:
            if group.paired and group.timed:
                for side in (flows, flows.reversed()):
                    key = group.keys(side)
                    candidates = np.flatnonzero(key >= 0)
                    shift = group.shift(key[candidates], start[candidates])
                    closer = np.abs(shift) < np.abs(nearest[candidates])
                    nearest[candidates[closer]] = shift[closer]
        return nearest[nearest != _FAR]


class _RowGroup:
    """Rows that name the same fields, with starts of the same resolution."""

    def __init__(self, rows: np.ndarray, endpoints: Endpoints, windows: TimeWindows, label: np.ndarray) -> None:
        one, first = endpoints.take(rows[:1]), rows[0]
        self._named = {field.name: bool(getattr(one, field.name)[0] >= 0) for field in dataclasses.fields(Endpoints)}
        self._other = bool(one.protocol[0] == OTHER)
        self._resolution = int(windows.resolution[first])
        self.timed = bool((windows.start[first] != OPEN_START) or (windows.end[first] != OPEN_END))
        self.paired = self._named["src"] and self._named["dst"]
        self.rank = (sum(self._named.values()), self.timed)
        self._levels: list[np.ndarray] = []
        key = np.zeros(len(rows), np.int64)
        for field in self._fields(endpoints.take(rows)):
            unique, key = np.unique(key << 32 | field, return_inverse=True)
            self._levels.append(unique)
        # among equal starts the first row of the file comes last
        order = np.lexsort((-rows, windows.start[rows], key))
        self._row = rows[order]
        self._start = windows.start[self._row]
        self._end = windows.end[self._row]
        self._key = key[order]
        self._first = np.searchsorted(self._key, np.arange(len(self._levels[-1]) + 1))
        self._starts, rank = np.unique(self._start, return_inverse=True)
        self._position = self._key << 32 | rank
        last = np.flatnonzero(np.append(self._position[1:] != self._position[:-1], True))
        size = np.diff(np.append(-1, last))
        self._last = np.repeat(last, size)  # last of the rows with the same key and start
        self._label = label[self._row]
        others = self._label != self._label[self._last]
        self._mixed = np.repeat(np.logical_or.reduceat(others, last - size + 1), size)

    def _fields(self, endpoints: Endpoints) -> list[np.ndarray]:
        """Return the named fields as numbers under 2**32, negative where a flow has none; at least one field."""
        fields = [getattr(endpoints, name) for name in ("src", "dst") if self._named[name]]
        ports = [getattr(endpoints, name) for name in ("src_port", "dst_port") if self._named[name]]
        if len(ports) == 2:
            ports = [np.where((ports[0] < 0) | (ports[1] < 0), -1, ports[0] << 16 | ports[1])]
        fields += ports
        if self._other:
            known = np.isin(endpoints.protocol, _TCP_UDP) | (endpoints.protocol < 0)
            fields.append(np.where(known, -1, OTHER))
        elif self._named["protocol"]:
            fields.append(endpoints.protocol)
        return fields or [np.zeros(len(endpoints.src), np.int64)]

    def keys(self, flows: Endpoints) -> np.ndarray:
        """Return the index of each flow's key, -1 if no row has it."""
        key = np.zeros(len(flows.src), np.int64)
        known = np.ones(len(key), bool)
        for unique, field in zip(self._levels, self._fields(flows), strict=True):
            wanted = key << 32 | np.maximum(field, 0)
            key = np.minimum(np.searchsorted(unique, wanted), len(unique) - 1)
            known &= (field >= 0) & (unique[key] == wanted)
            key = np.where(known, key, 0)
        return np.where(known, key, -1)

    def _after(self, key: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return the position of the first row of a key that starts later than a time."""
        return np.searchsorted(self._position, key << 32 | np.searchsorted(self._starts, time, side="right"))

    def _last_running(self, key: np.ndarray, after: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return the last row of a key, before position `after`, that has not ended at a time; -1 if there is none."""
        running = np.full(len(key), -1)
        stack: list[int] = []  # positions of rows that have started and may still run
        current = position = -1
        for flow in np.lexsort((time, after, key)).tolist():
            if key[flow] != current:
                current, position = key[flow], int(self._first[key[flow]])
                stack.clear()
            stack.extend(range(position, after[flow]))
            position = max(position, int(after[flow]))
            while stack and self._end[stack[-1]] < time[flow]:  # ended for all later flows, too
                stack.pop()
            if stack:
                running[flow] = stack[-1]
        return running

    def nearest(self, key: np.ndarray, start: np.ndarray, end: np.ndarray) -> MatchResult:
        """Return the row that overlaps each flow and starts nearest to it; tied: rows of two classes do."""
        after = self._after(key, start)
        left = self._last_running(key, after, start)
        left_matches = left >= 0
        left = np.where(left_matches, left, 0)
        # an open start is infinitely far; another one may be later by its resolution
        left_distance = np.maximum(start - self._start[left] - self._resolution, 0)
        left_distance = np.where(self._start[left] == OPEN_START, _FAR - 1, left_distance)
        left_distance = np.where(left_matches, left_distance, _FAR)
        right = self._last[np.minimum(after, len(self._last) - 1)]
        right_matches = (after < self._first[key + 1]) & (self._start[right] <= end)
        right_distance = np.where(right_matches, self._start[right] - start, _FAR)
        best = np.where(right_distance < left_distance, right, left)
        both = left_matches & right_matches & (left_distance == right_distance)
        best = np.where(both & (self._row[right] < self._row[left]), right, best)
        either = self._mixed[left] | self._mixed[right] | (self._label[left] != self._label[right])
        return MatchResult(
            np.where(left_matches | right_matches, self._row[best], -1),
            np.minimum(left_distance, right_distance),
            np.where(both, either, self._mixed[best]),
        )

    def overlapping(self, key: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return the rows that overlap a flow of the same key."""
        flows = np.flatnonzero(key >= 0)
        flows = flows[np.lexsort((start[flows], key[flows]))]
        key, start, end = key[flows], start[flows], end[flows]
        keys, first = np.unique(key, return_index=True)
        if not keys.size:
            return keys
        # latest end of the flows of a key, from its first one on
        ends, rank = np.unique(end, return_inverse=True)
        latest = ends[np.maximum.accumulate(key * len(ends) + rank) % len(ends)]
        # the rows of these keys alone: there may be many captures with few flows each
        size = self._first[keys + 1] - self._first[keys]
        begin = np.repeat(self._first[keys] - np.append(0, np.cumsum(size)[:-1]), size)
        rows = begin + np.arange(len(begin))
        starts, rank = np.unique(start, return_inverse=True)
        before = np.searchsorted(starts, self._end[rows], side="right")
        before = np.searchsorted(key << 32 | rank, self._key[rows] << 32 | before)
        started = before > np.repeat(first, size)
        return self._row[rows[started & (latest[before - 1] >= self._start[rows])]]

    def shift(self, key: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return how much later each flow began than the nearest row of its key; `_FAR` if all starts are open."""
        after = self._after(key, start)
        shift = np.full(len(key), _FAR)
        for position, exists in ((after - 1, after > self._first[key]), (after, after < self._first[key + 1])):
            position = np.where(exists, position, 0)
            exists &= self._start[position] != OPEN_START
            distance = start - self._start[position] - self._resolution // 2
            shift = np.where(exists & (np.abs(distance) < np.abs(shift)), distance, shift)
        return shift
