"""Packets to flows: grouped by 5-tuple, split where a flow ends, and given a direction.

The rules are in ``docs/flows.md``. They are applied in the file's order, batch by batch, and the state of each open
flow is carried over, so the result does not depend on how the file was cut into batches. Of a flow only the totals are
kept; its packets are spilled at once (`netgen.capture.flows.spill`). Memory grows with the number of open flows.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import numpy.typing as npt

from netgen.capture.errors import InputError
from netgen.capture.flows.clock import Clock
from netgen.capture.flows.fragments import FragmentReassembler
from netgen.capture.flows.key_index import KeyIndex
from netgen.capture.flows.packet_batch import KEY, PacketBatch
from netgen.capture.flows.spill import SPILLED_PACKET, GrowableColumns, PacketSpill
from netgen.capture.names.finder import ServerName
from netgen.capture.native import flows as native_flows
from netgen.capture.native.layouts import FLOW_COLUMNS, OPEN_COLUMNS, Timeouts
from netgen.capture.series.spec import LONGEST_NS, NS

IDLE_TIMEOUT_NS = 120 * NS

#: Two copies of a packet, from a mirrored port or a second interface, are at most this far apart.
REPEAT_NS = 10_000_000

#: New flows after which the memory of earlier flows is released.
_RELEASE_INTERVAL = 1 << 16

#: Open keys after which those of ended flows are removed, at least.
_MIN_SWEEP = 1 << 16

#: Types of the columns of flows and of open flows; "i8" where not given.
_TYPES: dict[str, npt.DTypeLike] = {"key": KEY, "up": "?", "by": "u1", "seen": "u1", "mark": "u4", "size": "u4"}
_FLOW_TYPES, _OPEN_TYPES = ({name: _TYPES.get(name, "i8") for name in names} for names in (FLOW_COLUMNS, OPEN_COLUMNS))

_BACKWARDS = "packets stamped earlier than the one before"
_REPEATED = "packets seen twice"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Flows:
    """Flows of captures, one row each, in the order of their first packets; shape (flows,) each."""

    key: np.ndarray  # `netgen.capture.flows.packet_batch.KEY`: addresses, ports, VLAN and protocol
    start_ns: np.ndarray  # earliest time stamp, int64, as all that follow but `up`
    end_ns: np.ndarray  # latest time stamp
    packets: np.ndarray
    bytes: np.ndarray
    up: np.ndarray  # bool: whether the initiator is end `a` of the key
    capture: np.ndarray  # index of the capture, from 0
    number: np.ndarray  # number of the first packet in it, from 1

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: slice | np.ndarray) -> Flows:
        """Select rows."""
        return Flows(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})


class Assembler:
    """Assembles the flows of captures, one capture after another.

    A silence longer than `idle_timeout_ns` ends a flow; one older than `active_timeout_ns` ends, and a new one begins.
    `spill` holds the packets by flow. `server_names` are, by flow, the first TLS or QUIC name that its initiator sent,
    and its source; they are complete after `end_capture`. `dns_answers` are names from DNS with the indices of their
    capture and packet, in the file's order. `notes` counts oddities that lost nothing.
    """

    def __init__(self, *, idle_timeout_ns: int = IDLE_TIMEOUT_NS, active_timeout_ns: int | None = None) -> None:
        for option, value in (("--idle-timeout", idle_timeout_ns), ("--active-timeout", active_timeout_ns)):
            if value is not None and not 0 < value < LONGEST_NS:
                raise InputError(f"{option} must be between 1 ns and 146 years, got {value} ns", f"Try {option} 120s")
        self._timeouts = Timeouts(idle_timeout_ns, active_timeout_ns, REPEAT_NS)
        self.spill = PacketSpill()
        self.notes: Counter[str] = Counter()
        self.server_names: dict[int, tuple[str, str]] = {}
        self.dns_answers: list[tuple[int, int, ServerName]] = []
        self._interned: dict[tuple[str, str], tuple[str, str]] = {}  # one object for each distinct name
        self._flows = GrowableColumns(_FLOW_TYPES)
        self._capture = 0
        self._released = 0  # flows when memory was last released
        self._reset()

    def _reset(self) -> None:
        """Forget all open flows, before another capture."""
        longest = max(self._timeouts.idle, self._timeouts.active or 0)
        self._clock = Clock(self._timeouts.idle, stride_ns=min(4 * longest, 1 << 60))
        self._reassembler = FragmentReassembler()
        self._index = KeyIndex()  # rows of `_open`: each key has one while its flow may go on
        self._open = GrowableColumns(_OPEN_TYPES)
        self._names_sent: list[tuple[int, bool, tuple[str, str]]] = []  # flow, direction, name and source
        self._pending_names: list[tuple[int, ServerName]] = []  # of packets to come
        self._records = 0  # of the capture so far
        self._last = (0, 0)  # number and time of the last packet
        self._sweep = _MIN_SWEEP

    @property
    def flows(self) -> int:
        """Number of flows so far, of all captures."""
        return self._flows.rows

    def end_capture(self) -> None:
        """End the capture: add fragments without a first one, and assign server names to flows."""
        rest = self._reassembler.rest(self._last[0])
        if len(rest):
            self._assemble(rest)
        flow = np.array([flow for flow, _, _ in self._names_sent], np.int64)
        forward = np.array([forward for _, forward, _ in self._names_sent], bool)
        by_initiator = forward == self._flows["up"][flow]
        for number, _, name in itertools.compress(self._names_sent, by_initiator.tolist()):
            self.server_names.setdefault(number, name)
        self._capture += 1
        self._reset()

    def add(self, batch: PacketBatch) -> None:
        """Add the next packets of the capture."""
        before = self._records
        self._records += batch.records
        for name in batch.names:
            if name.kind == "dns":
                self.dns_answers.append((self._capture, name.number + before, name))
            else:
                self._pending_names.append((name.number + before, name))
        if not len(batch):
            return
        batch.number += before
        number, time_ns = self._last
        backwards = int((batch.time_ns[1:] < batch.time_ns[:-1]).sum()) + (number > 0 and batch.time_ns[0] < time_ns)
        self.notes[_BACKWARDS] += int(backwards)
        self._last = int(batch.number[-1]), int(batch.time_ns[-1])
        batch = self._reassembler.join(batch)
        if len(batch):
            self._assemble(batch)
        if len(self._index) > self._sweep:
            self._remove_ended()
        if self._flows.rows - self._released > _RELEASE_INTERVAL:
            self._released = self._flows.rows
            self.release()

    def columns(self) -> Flows:
        """Return the flows of all captures so far."""
        return Flows(**{field.name: self._flows[field.name] for field in dataclasses.fields(Flows)})

    def release(self) -> None:
        """Release the memory of flows that are in a file; it is read again when needed."""
        self._flows.release()

    def _assemble(self, batch: PacketBatch) -> None:
        row = self._index.add(batch.keys)[0]
        self._open.grow(self._index.top)
        by_row = np.argsort(batch.syn)

        def grow_flows(count: int) -> list[np.ndarray]:
            self._flows.grow(count)
            return [self._flows[name] for name in FLOW_COLUMNS]

        clock = self._clock.advance(batch.time_ns, batch.number)
        flow, flow_count, repeats = native_flows.assemble_flows(
            [
                *(batch.key, clock, batch.time_ns, batch.number, batch.size, batch.fingerprint),
                *(batch.forward, batch.flags, batch.syn[by_row], batch.syn_seq[by_row], batch.keys),
            ],
            row,
            [self._open[name] for name in OPEN_COLUMNS],
            grow_flows,
            flow_count=self._flows.rows,
            capture=self._capture,
            timeouts=self._timeouts,
        )
        self._flows.rows = flow_count  # less than it was grown to
        self.notes[_REPEATED] += repeats
        self.spill.add(native_flows.sort_by_flow(flow, batch.time_ns, batch.size, batch.forward, SPILLED_PACKET))
        if self._pending_names:
            self._match_names(batch, flow)

    def _match_names(self, batch: PacketBatch, flow: np.ndarray) -> None:
        """Find the flows of the packets that sent a server name."""
        last = int(batch.number[-1])
        due = [pending for pending in self._pending_names if pending[0] <= last]
        self._pending_names = [pending for pending in self._pending_names if pending[0] > last]
        numbers = np.array([number for number, _ in due], np.int64)
        row = np.searchsorted(batch.number, numbers)
        matched = (batch.number[row] == numbers).tolist()
        columns = zip(flow[row].tolist(), batch.forward[row].tolist(), due, strict=True)
        for flow_number, forward, (_, name) in itertools.compress(columns, matched):
            text = name.text, name.kind
            self._names_sent.append((flow_number, forward, self._interned.setdefault(text, text)))

    def _remove_ended(self) -> None:
        """Remove the keys whose flows have timed out: their next packet begins a new flow anyway."""
        idle = self._clock.now - self._open["clock"] > self._timeouts.idle
        ended = np.flatnonzero(self._index.used & idle)
        self._open["flow"][ended] = 0
        self._index.remove(ended)
        self._sweep = max(_MIN_SWEEP, 2 * len(self._index))
