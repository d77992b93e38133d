"""Packets to flows: grouped by 5-tuple, split where a flow ends, and given a direction.

The rules stand in ``docs/flows.md``. They are applied in the file's order, part by part, with what
is known of every open flow carried over; so memory grows with the flows that are open, and the
result does not depend on how the file was cut into parts. Packets themselves are put by at once
(`netgen.capture.flows.spill`); of a flow only its totals are kept.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np

from netgen.capture import headers, native
from netgen.capture.errors import InputError
from netgen.capture.flows.batch import PacketBatch
from netgen.capture.flows.clock import Clock
from netgen.capture.flows.fragments import FragmentReassembler
from netgen.capture.flows.growable import GrowableColumns
from netgen.capture.flows.key_index import KeyIndex
from netgen.capture.flows.keys import KEY
from netgen.capture.flows.spill import ROW, Spill
from netgen.capture.names.finder import ServerName
from netgen.capture.native import flows
from netgen.capture.native.layouts import FLOW_COLUMNS, OPEN_COLUMNS, Timeouts
from netgen.capture.series.spec import LONGEST_NS, NS

IDLE_TIMEOUT_NS = 120 * NS

#: New flows after which the memory of the old ones is given back.
_RELEASED = 1 << 16

#: A packet seen twice comes again within this time (a mirrored port, two interfaces).
REPEAT_NS = 10_000_000

_ENDS = headers.TCP_FIN | headers.TCP_RST
_SYN = headers.TCP_SYN | headers.TCP_ACK
# what has been seen of a flow, as bits
_CLOSED, _FORWARD, _BACK = np.uint8(1), np.uint8(2), np.uint8(4)
# who the initiator is said to be by: the first packet, a SYN-ACK, a SYN; what goes to itself goes up
_BY_FIRST, _BY_ANSWER, _BY_SYN, _TO_ITSELF = range(4)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Flows:
    """Flows of captures, one row each, in the order of their first packets; shape (flows,) each.

    Parameters
    ----------
    key : ndarray of `netgen.capture.flows.batch.KEY`
        Ends, ports, VLAN and protocol.
    start_ns, end_ns, packets, bytes : ndarray of int64
        Earliest and latest time stamp; totals.
    up : ndarray of bool
        Whether the initiator is end `a` of the key.
    capture, number : ndarray of int64
        Number of the capture, from 0, and of the first packet in it, from 1.
    """

    key: np.ndarray
    start_ns: np.ndarray
    end_ns: np.ndarray
    packets: np.ndarray
    bytes: np.ndarray
    up: np.ndarray
    capture: np.ndarray
    number: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    def take(self, which: slice | np.ndarray) -> Flows:
        """Some of the flows."""
        return Flows(**{each.name: getattr(self, each.name)[which] for each in dataclasses.fields(self)})


class Assembler:
    """Makes flows of captures, one capture after the other.

    Parameters
    ----------
    idle_timeout_ns : int
        A flow that is silent for longer has ended.
    active_timeout_ns : int, optional
        A flow that lasts longer is ended and begun anew.

    Attributes
    ----------
    spill : Spill
        The packets, by number of their flow.
    names : dict of int to (str, str)
        The first TLS or QUIC name that the initiator of a flow sent, and its kind; complete after
        `end_capture`.
    answers : list of (int, int, Name)
        Names that DNS told, with the numbers of their capture and packet, in the order they were seen.
    notes : Counter
        Oddities that lost nothing.
    """

    def __init__(self, *, idle_timeout_ns: int = IDLE_TIMEOUT_NS, active_timeout_ns: int | None = None) -> None:
        for name, value in (("idle", idle_timeout_ns), ("active", active_timeout_ns)):
            if value is not None and not 0 < value < LONGEST_NS:
                raise InputError(f"an {name} timeout of {value} ns cannot be used", "Take one such as 120s")
        self.idle_timeout_ns = idle_timeout_ns
        self.active_timeout_ns = active_timeout_ns
        self.spill = Spill()
        self.notes: Counter[str] = Counter()
        self.names: dict[int, tuple[str, str]] = {}
        self._texts: dict[tuple[str, str], tuple[str, str]] = {}  # each name once
        self.answers: list[tuple[int, int, ServerName]] = []
        self._flows = GrowableColumns(
            **{"key": KEY, "start_ns": "i8", "end_ns": "i8", "packets": "i8", "bytes": "i8"},
            **{"up": "?", "by": "u1", "begun": "i8", "capture": "i8", "number": "i8"},
        )
        self._capture = 0
        self._released = 0  # flows when their memory was last given back
        self._forget()

    def _forget(self) -> None:
        """Nothing is open: what comes next is another capture."""
        longest = max(self.idle_timeout_ns, self.active_timeout_ns or 0)
        self._clock = Clock(self.idle_timeout_ns, stride_ns=min(4 * longest, 1 << 60))
        self._joiner = FragmentReassembler()
        self._slots = KeyIndex()  # a number for each key, for as long as it has a flow that has not ended
        self._open = GrowableColumns(  # flow: its number and 1; seq: that of the last SYN and 1
            **{"key": KEY, "flow": "i8", "clock": "i8", "seen": "u1", "seq_forward": "i8", "seq_back": "i8"},
            **{"mark": "u4", "size": "u4", "time_ns": "i8"},
        )
        self._said: list[tuple[int, tuple[str, str]]] = []  # flow and direction, and what was said
        self._ahead: list[tuple[int, ServerName]] = []
        self._records = 0  # of the capture so far
        self._last = (0, 0)  # number and time of the last packet
        self._sweep = 1 << 16

    @property
    def flows(self) -> int:
        """Number of flows so far, of all captures."""
        return self._flows.rows

    def end_capture(self) -> None:
        """The capture has ended: settle what had to wait for that."""
        rest = self._joiner.rest(self._last[0])
        if len(rest):
            self._assemble(rest)
        flow = np.array([flow for flow, _ in self._said], np.int64)
        right = (flow & 1) == self._flows["up"][flow >> 1]  # who is asked for a name does not say it
        for number, said in itertools.compress(self._said, right.tolist()):
            self.names.setdefault(number >> 1, said)
        self._capture += 1
        self._forget()

    def add(self, part: PacketBatch) -> None:
        """Take the next packets of the capture."""
        before = self._records
        self._records += part.records
        for name in part.names:
            if name.kind == "dns":
                self.answers.append((self._capture, name.number + before, name))
            else:
                self._ahead.append((name.number + before, name))
        if not len(part):
            return
        part.number += before
        number, time_ns = self._last
        backwards = int((part.time_ns[1:] < part.time_ns[:-1]).sum()) + (number > 0 and part.time_ns[0] < time_ns)
        self.notes[_BACKWARDS] += int(backwards)
        self._last = int(part.number[-1]), int(part.time_ns[-1])
        part = self._joiner.join(part)
        if len(part):
            self._assemble(part)
        if len(self._slots) > self._sweep:
            self._drop_ended()
        if self._flows.rows - self._released > _RELEASED:
            self._released = self._flows.rows
            self.release()

    def columns(self) -> Flows:
        """The flows of all captures so far."""
        names = ("key", "start_ns", "end_ns", "packets", "bytes", "up", "capture", "number")
        return Flows(**{name: self._flows[name] for name in names})

    def release(self) -> None:
        """Give back the memory of flows, which comes again when they are looked at."""
        self._flows.release()

    # -- a part at a time -------------------------------------------------------------------

    def _assemble(self, part: PacketBatch) -> None:
        clock = self._clock.of(part.time_ns, part.number)
        if native.ready():
            self._assemble_compiled(part, clock)
            return
        # in order of key, and in the file's order within; two bytes sort by radix
        key = part.key.astype(np.uint16) if len(part.keys) < 1 << 16 else part.key
        order = np.argsort(key, kind="stable")
        slot = self._slots_of(part.keys)
        rows = _Sorted(
            order=order,
            slot=slot[part.key[order]],
            clock=clock[order],
            time_ns=part.time_ns[order],
            size=part.size[order],
            forward=part.forward[order],
            flags=part.flags[order],
            mark=part.fingerprint[order],
            syn=np.zeros(0, np.int64),
            syn_seq=part.syn_seq,
            head=np.ones(len(order), bool),
        )
        np.not_equal(rows.slot[1:], rows.slot[:-1], out=rows.head[1:])
        place = np.empty(len(order), np.int32)  # of each row of the part in that order
        place[order] = np.arange(len(order), dtype=np.int32)
        if len(part.syn):
            at = place[part.syn].astype(np.int64)
            by_place = np.argsort(at)
            rows.syn, rows.syn_seq = at[by_place], part.syn_seq[by_place].astype(np.int64)
        self._count_repeats(rows)
        first, flow = self._settle(rows, self._begins(rows), part.number)
        count = np.diff(first, append=len(order))
        by_flow = np.argsort(flow)  # of the stretches; the rows of one stay together
        lengths = count[by_flow]
        moved = np.repeat(first[by_flow] - np.cumsum(lengths) + lengths, lengths) + np.arange(len(order))
        columns = (rows.time_ns[moved], rows.size[moved], rows.forward[moved])
        self.spill.add(np.repeat(flow[by_flow], lengths), *columns)
        if self._ahead:
            self._place_names(part, place, np.repeat(flow, count), rows.forward)

    def _slots_of(self, keys: np.ndarray) -> np.ndarray:
        """Where in what is open each key is, with room made for new ones."""
        slot, new = self._slots.of(keys)
        self._open.grow(self._slots.top)
        _raw(self._open["key"])[slot[new]] = _raw(keys)[new]
        return slot

    def _assemble_compiled(self, part: PacketBatch, clock: np.ndarray) -> None:
        """The same, packet by packet (`netgen.capture.native`)."""
        slot = self._slots_of(part.keys)
        by_row = np.argsort(part.syn)

        def with_room(rows: int) -> list[np.ndarray]:
            self._flows.grow(rows)
            return [self._flows[name] for name in FLOW_COLUMNS]

        flow, rows, repeats = flows.assemble_flows(
            [
                *(part.key, clock, part.time_ns, part.number, part.size, part.fingerprint, part.forward, part.flags),
                *(part.syn[by_row], part.syn_seq[by_row], part.keys),
            ],
            slot,
            [self._open[name] for name in OPEN_COLUMNS],
            with_room,
            flow_count=self._flows.rows,
            capture=self._capture,
            timeouts=Timeouts(self.idle_timeout_ns, self.active_timeout_ns, REPEAT_NS),
        )
        self._flows.rows = rows  # what else there was room for stays free
        self.notes[_REPEATED] += repeats
        self.spill.put(flows.sort_by_flow(flow, part.time_ns, part.size, part.forward, ROW))
        if self._ahead:
            self._place_names(part, np.arange(len(part)), flow, part.forward)

    def _begins(self, rows: _Sorted) -> np.ndarray:
        """Which packets begin a flow."""
        before = np.empty(len(rows), np.int64)
        before[1:] = rows.clock[:-1]
        heads = np.flatnonzero(rows.head)
        slot = rows.slot[heads]
        before[heads] = self._open["clock"][slot]
        begins: np.ndarray = rows.clock - before > self.idle_timeout_ns
        begins[heads] |= self._open["flow"][slot] == 0
        ends = np.append(heads[1:], len(rows))
        unsettled = rows.syn[~begins[rows.syn] & ~self._sent_again(rows, begins)]
        runs = np.unique(np.searchsorted(heads, unsettled, "right") - 1)
        if self.active_timeout_ns is not None:
            since = rows.clock[heads]
            going = ~begins[heads]
            since[going] = self._flows["begun"][self._open["flow"][slot[going]] - 1]
            long = np.flatnonzero(rows.clock[ends - 1] - since > self.active_timeout_ns)
            runs = np.unique(np.concatenate([runs, long]))
        if len(runs):
            splitter = _Splitter(rows, begins, self._open, self._flows["begun"], self.active_timeout_ns)
            for run in runs.tolist():
                splitter.split(int(heads[run]), int(ends[run]))
        return begins

    def _sent_again(self, rows: _Sorted, begins: np.ndarray) -> np.ndarray:
        """Which SYNs are certainly those of the SYN before them in their direction, so that they begin nothing."""
        syn, seq = rows.syn, rows.syn_seq
        slot, forward = rows.slot[syn], rows.forward[syn]
        # the one before, in this part or else in what is open
        same = np.zeros(len(syn), bool)
        same[1:] = (slot[1:] == slot[:-1]) & (forward[1:] == forward[:-1]) & (seq[1:] == seq[:-1])
        first = np.ones(len(syn), bool)
        first[1:] = slot[1:] != slot[:-1]
        known = np.where(forward, self._open["seq_forward"][slot], self._open["seq_back"][slot])
        same |= first & (known == seq + 1)
        if self.active_timeout_ns is not None or not same.any():
            return np.zeros(len(syn), bool)
        # and no flow begins between them
        begun = np.cumsum(begins)
        since = np.empty(len(syn), np.int64)
        since[1:] = begun[syn[:-1]]
        head = np.flatnonzero(rows.head)
        head = head[np.searchsorted(head, syn, "right") - 1]
        since[first] = begun[head[first]] - begins[head[first]]
        found: np.ndarray = same & (begun[syn] == since)
        return found

    def _settle(self, rows: _Sorted, begins: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take the packets into their flows' totals; where each stretch of one flow begins, and which flow it is."""
        flows, opened = self._flows, self._open
        first = np.flatnonzero(rows.head | begins)  # of each stretch of packets of one flow
        new = begins[first]
        slot = rows.slot[first]
        flow = opened["flow"][slot] - 1
        begun = rows.order[first[new]]
        # flows are numbered in the order of their first packets in the file
        flow[new] = flows.rows + np.argsort(np.argsort(begun))
        fresh = flow[new]
        flows.grow(flows.rows + len(fresh))
        _raw(flows["key"])[fresh] = _raw(opened["key"])[slot[new]]
        flows["start_ns"][fresh] = rows.time_ns[first[new]]
        flows["end_ns"][fresh] = rows.time_ns[first[new]]
        flows["up"][fresh] = rows.forward[first[new]]
        flows["by"][fresh] = np.where(_to_itself(flows["key"][fresh]), _TO_ITSELF, _BY_FIRST)
        flows["begun"][fresh] = rows.clock[first[new]]
        flows["capture"][fresh] = self._capture
        flows["number"][fresh] = number[begun]
        flows["start_ns"][flow] = np.minimum(flows["start_ns"][flow], np.minimum.reduceat(rows.time_ns, first))
        flows["end_ns"][flow] = np.maximum(flows["end_ns"][flow], np.maximum.reduceat(rows.time_ns, first))
        count = np.diff(first, append=len(rows))
        flows["packets"][flow] += count
        flows["bytes"][flow] += np.add.reduceat(rows.size, first, dtype=np.int64)
        each = np.repeat(flow, count)
        self._direct(each, np.flatnonzero(rows.flags & _SYN == _SYN), rows, _BY_ANSWER)
        self._direct(each, rows.syn, rows, _BY_SYN)

        # what stays open: the last stretch of each key
        seen = np.where(rows.flags & _ENDS, _CLOSED, np.uint8(0)) | np.where(rows.forward, _FORWARD, _BACK)
        seen = np.bitwise_or.reduceat(seen, first)
        seen[~new] |= opened["seen"][slot[~new]]
        last = np.flatnonzero(np.append(rows.head[first[1:]], True))
        slot, end = slot[last], np.append(first[1:], len(rows))[last] - 1
        opened["flow"][slot] = flow[last] + 1
        opened["clock"][slot] = rows.clock[end]
        opened["seen"][slot] = seen[last]
        for name in ("mark", "size", "time_ns"):
            opened[name][slot] = getattr(rows, name)[end]
        forgotten = slot[new[last]]
        opened["seq_forward"][forgotten] = opened["seq_back"][forgotten] = 0
        kept = each[rows.syn] == opened["flow"][rows.slot[rows.syn]] - 1
        syn, seq = rows.syn[kept], rows.syn_seq[kept] + 1
        for name, way in (("seq_forward", rows.forward[syn]), ("seq_back", ~rows.forward[syn])):
            opened[name][rows.slot[syn[way]]] = seq[way]  # of several, the last stays
        return first, flow

    def _direct(self, flow: np.ndarray, at: np.ndarray, rows: _Sorted, by: int) -> None:
        """Let the first of the packets `at` in each flow say who its initiator is."""
        flows = self._flows
        number, first = np.unique(flow[at], return_index=True)
        better = flows["by"][number] < by
        number, at = number[better], at[first[better]]
        flows["by"][number] = by
        flows["up"][number] = rows.forward[at] == (by == _BY_SYN)

    def _count_repeats(self, rows: _Sorted) -> None:
        """Packets that come again at once: a mirrored port, or a capture on two interfaces."""
        heads = np.flatnonzero(rows.head)
        slot = rows.slot[heads]
        repeat = np.zeros(len(rows), bool)
        repeat[1:] = _again(rows.mark, rows.size, rows.time_ns)
        opened = self._open
        known = opened["flow"][slot] > 0
        pairs = [np.stack([opened[name][slot], getattr(rows, name)[heads]]) for name in ("mark", "size", "time_ns")]
        repeat[heads] = known & _again(*pairs)[0]
        self.notes[_REPEATED] += int(repeat.sum())

    def _place_names(self, part: PacketBatch, place: np.ndarray, flow: np.ndarray, forward: np.ndarray) -> None:
        last = int(part.number[-1])
        here = [each for each in self._ahead if each[0] <= last]
        self._ahead = [each for each in self._ahead if each[0] > last]
        at = np.searchsorted(part.number, np.array([number for number, _ in here], np.int64))
        right = (part.number[at] == [number for number, _ in here]).tolist()
        of = (flow[place[at]] << 1 | forward[place[at]]).tolist()
        for (_, name), good, direction in zip(here, right, of, strict=True):
            if good:
                said = self._texts.setdefault((name.text, name.kind), (name.text, name.kind))
                self._said.append((direction, said))

    def _drop_ended(self) -> None:
        """Forget the keys whose flows have ended: a packet to come begins a new one anyway."""
        opened = self._open
        ended = np.flatnonzero(self._slots.used & (self._clock.now - opened["clock"] > self.idle_timeout_ns))
        opened["flow"][ended] = 0
        self._slots.give_back(ended)
        self._sweep = max(1 << 16, 2 * len(self._slots))


_BACKWARDS = "packets stamped earlier than the one before"
_REPEATED = "packets seen twice"


def _raw(keys: np.ndarray) -> np.ndarray:
    """Keys as bytes without names, which are copied faster."""
    return keys.view(f"V{KEY.itemsize}")


def _to_itself(key: np.ndarray) -> np.ndarray:
    """Which keys have the same end twice."""
    same = [key[f"a_{field}"] == key[f"b_{field}"] for field in ("high", "low", "port")]
    found: np.ndarray = np.logical_and.reduce(same)
    return found


def _again(mark: np.ndarray, size: np.ndarray, time_ns: np.ndarray) -> np.ndarray:
    """Which rows repeat the one before: shape (rows - 1, ...)."""
    near = np.abs(time_ns[1:] - time_ns[:-1]) <= REPEAT_NS
    found: np.ndarray = (mark[1:] == mark[:-1]) & (mark[1:] != 0) & (size[1:] == size[:-1]) & near
    return found


@dataclasses.dataclass(slots=True, eq=False)
class _Sorted:
    """Packets of a part in order of key, and in the file's order within; see `PacketBatch` for the columns."""

    order: np.ndarray  # the row of the part
    slot: np.ndarray
    clock: np.ndarray
    time_ns: np.ndarray
    size: np.ndarray
    forward: np.ndarray
    flags: np.ndarray
    mark: np.ndarray
    syn: np.ndarray
    syn_seq: np.ndarray
    head: np.ndarray  # whether a packet is the first of its key

    def __len__(self) -> int:
        return len(self.order)


class _Splitter:
    """Splits the packets of one key where a SYN or the active timeout begins a new flow.

    The idle timeout looks at neighbours only, and is done for all at once; these two look back to
    where the flow began, so each key they matter for is gone through by itself.
    """

    def __init__(
        self, rows: _Sorted, begins: np.ndarray, opened: GrowableColumns, begun: np.ndarray, active_ns: int | None
    ) -> None:
        self._rows, self._begins, self._opened, self._begun, self._active_ns = rows, begins, opened, begun, active_ns
        self._closed = np.concatenate([[0], np.cumsum((rows.flags & _ENDS) != 0)])
        self._forward = np.concatenate([[0], np.cumsum(rows.forward)])

    def split(self, first: int, last: int) -> None:
        """Mark in `begins` which of the packets `first` to `last` - 1, all of one key, begin a flow."""
        rows, begins = self._rows, self._begins
        slot = int(rows.slot[first])
        opened = {name: int(self._opened[name][slot]) for name in ("flow", "seen", "seq_forward", "seq_back")}
        start, seen = first, 0
        seqs = {True: 0, False: 0}  # last SYN's number and 1, by direction; 0: none
        since = int(rows.clock[first])
        if not begins[first]:
            seen = opened["seen"]
            seqs = {True: opened["seq_forward"], False: opened["seq_back"]}
            since = int(self._begun[opened["flow"] - 1])
        syns = slice(*np.searchsorted(rows.syn, (first, last)))
        seq_of = dict(zip(rows.syn[syns].tolist(), rows.syn_seq[syns].tolist(), strict=True))
        stops = sorted({*seq_of, *(np.flatnonzero(begins[first:last]) + first).tolist(), last})
        for at in stops:
            while self._active_ns is not None:
                over = start + int(np.searchsorted(rows.clock[start:at], since + self._active_ns, "right"))
                if over >= at:
                    break
                begins[over] = True
                start, seen, seqs, since = over, 0, {True: 0, False: 0}, int(rows.clock[over])
            if at == last:
                return
            new = bool(begins[at])
            if self._active_ns is not None:
                new = new or int(rows.clock[at]) - since > self._active_ns
            if at in seq_of:
                forward, seq = bool(rows.forward[at]), seq_of[at] + 1
                new = new or (seqs[forward] != seq and self._over(start, at, seen, forward))
            if new:
                begins[at] = True
                start, seen, seqs, since = at, 0, {True: 0, False: 0}, int(rows.clock[at])
            if at in seq_of:
                seqs[forward] = seq

    def _over(self, start: int, at: int, seen: int, forward: bool) -> bool:
        """Whether the flow that began at `start` has seen an end, or packets in this direction."""
        sent = int(self._forward[at] - self._forward[start])
        sent = sent if forward else at - start - sent
        bit = _FORWARD if forward else _BACK
        return bool(self._closed[at] > self._closed[start] or sent or seen & (_CLOSED | bit))
