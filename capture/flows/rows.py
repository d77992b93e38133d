"""Flows to the rows of a table: one a flow, one an initiating address, or one a capture."""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from netgen.capture.flows.addresses import address_texts
from netgen.capture.flows.assemble import Assembler, Flows
from netgen.capture.table.arrow_utils import sparse_string_array, string_array, to_arrow, to_numpy

#: Columns that tell what a row is, as in the flow table.
FLOW_COLUMNS = ("protocol", "src", "src_port", "dst", "dst_port", "vlan", "server_name", "server_name_source")


@dataclasses.dataclass(eq=False)
class FlowRows:
    """Rows of a table, and which flows they are made of.

    Parameters
    ----------
    row : ndarray of int64, shape (flows,), or None
        The row of each flow, -1: none. None: each flow is a row.
    flows : FlowColumns
        All flows.
    capture : ndarray of int64, shape (rows,)
        Number of the capture each row is from, ascending.
    start_ns, end_ns, packets, bytes : ndarray of int64, shape (rows,)
        Totals.
    """

    row: np.ndarray | None
    flows: Flows
    capture: np.ndarray
    start_ns: np.ndarray
    end_ns: np.ndarray
    packets: np.ndarray
    bytes: np.ndarray
    _names: dict[int, tuple[str, str]]  # by flow
    _flow: np.ndarray | None = None  # where each row is a flow, but not each flow a row
    _columns: pa.Table | None = None  # where a row is more than a flow

    def __len__(self) -> int:
        return len(self.capture)

    @property
    def are_flows(self) -> bool:
        """Whether each row is one flow."""
        return self._columns is None

    def columns(self, first: int, last: int) -> dict[str, Any]:
        """Columns that tell what rows `first` to `last` - 1 are: those of `FLOW_COLUMNS`, start, duration and totals."""
        here = slice(first, last)
        columns: dict[str, Any] = {name: getattr(self, name)[here] for name in ("start_ns", "packets", "bytes")}
        columns["duration_ns"] = self.end_ns[here] - columns["start_ns"]
        if self._columns is not None:
            part = self._columns.slice(first, last - first)
            return {**columns, **dict(zip(part.column_names, part.columns, strict=True))}
        which = np.arange(first, last) if self._flow is None else self._flow[here]
        columns.update(_ends(self.flows.take(here if self._flow is None else which)))
        begin, end = np.searchsorted(self._named, (which[0], which[-1] + 1)) if len(which) else (0, 0)
        at = np.searchsorted(which, self._named[begin:end])
        at = at[which[at] == self._named[begin:end]]
        names = [self._names[flow] for flow in which[at].tolist()]
        for place, name in enumerate(("server_name", "server_name_source")):
            columns[name] = sparse_string_array(len(which), at, [each[place] for each in names])
        return columns

    @functools.cached_property
    def _named(self) -> np.ndarray:
        """Flows with a name, in ascending order."""
        return np.sort(np.array([*self._names], np.int64))

    def keep(self, wanted: np.ndarray) -> FlowRows:
        """The rows of a boolean mask, numbered anew; flows of the others have row -1."""
        number = np.append(np.where(wanted, np.cumsum(wanted) - 1, -1), -1)
        totals = {name: getattr(self, name)[wanted] for name in ("capture", "start_ns", "end_ns", "packets", "bytes")}
        if self._columns is not None:
            assert self.row is not None
            columns = self._columns.filter(to_arrow(wanted))
            return FlowRows(number[self.row], self.flows, **totals, _names=self._names, _columns=columns)
        return FlowRows(number[:-1], self.flows, **totals, _names=self._names, _flow=np.flatnonzero(wanted))


_NO_NAME = (None, None)


def group_flows(assembler: Assembler, group_by: str) -> FlowRows:
    """Rows of a table.

    Parameters
    ----------
    assembler : Assembler
        After all captures have ended.
    by : {"flow", "host", "capture"}
        What a row is.
    """
    flows = assembler.columns()
    names = assembler.names
    for flow, text in _told(flows, assembler):
        names.setdefault(flow, (text, "dns"))
    if group_by == "flow":
        return FlowRows(
            None, flows, flows.capture, flows.start_ns, flows.end_ns, flows.packets, flows.bytes, _names=names
        )
    columns = _ends(flows)
    if group_by == "capture":
        group = flows.capture
    else:
        host = columns["src"].dictionary_encode()
        group = flows.capture * (len(host.dictionary) + 1) + to_numpy(host.indices)
    _, first, row = np.unique(group, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))  # rows in the order in which they first occur
    return _merged(flows, rank[row], columns, names, group_by)


def _ends(flows: Flows) -> dict[str, pa.Array]:
    """Addresses and ports of initiator and responder, VLAN and protocol."""
    key, up = flows.key, flows.up
    columns: dict[str, pa.Array] = {"protocol": to_arrow(key["protocol"])}
    for name, ours, theirs in (("src", "a", "b"), ("dst", "b", "a")):
        high, low, port = (
            np.where(up, key[f"{ours}_{field}"], key[f"{theirs}_{field}"]) for field in ("high", "low", "port")
        )
        columns[name] = address_texts(high, low, key["version"])
        columns[f"{name}_port"] = to_arrow(np.maximum(port, 0).astype(np.uint16), port < 0)
    vlan = key["vlan"]
    columns["vlan"] = to_arrow((vlan & 0xFFF).astype(np.uint16), vlan < 0)
    return {name: columns[name] for name in FLOW_COLUMNS[:6]}


def _told(flows: Flows, assembler: Assembler) -> Iterator[tuple[int, str]]:
    """Flows between a client and an address that DNS gave it before, and the name it had asked for."""
    said: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for capture, number, name in assembler.answers:
        for answer in name.answers:
            said.setdefault((capture, name.client, answer), []).append((number, name.text))
    if not said:
        return
    lows = np.array(sorted({answer[2] for _, _, answer in said}), np.uint64)
    key = flows.key
    rows = np.flatnonzero(np.isin(key["a_low"], lows) | np.isin(key["b_low"], lows))
    captures, numbers = flows.capture[rows].tolist(), flows.number[rows].tolist()
    for row, ends, capture, number in zip(rows.tolist(), key[rows].tolist(), captures, numbers, strict=True):
        a_high, a_low, b_high, b_low, *_, version, _ = ends
        a, b = (version, a_high, a_low), (version, b_high, b_low)
        for client, server in ((a, b), (b, a)):
            told = said.get((capture, client, server), ())
            # of several answers, the last before the flow
            before = bisect.bisect_left(told, (number, ""))
            if before:
                yield row, told[before - 1][1]
                break


def _merged(
    flows: Flows, row: np.ndarray, columns: dict[str, pa.Array], names: dict[int, tuple[str, str]], group_by: str
) -> FlowRows:
    """Rows made of several flows: only what all agree on, and the name with the most bytes."""
    order = np.argsort(row, kind="stable")
    first = np.flatnonzero(np.diff(row[order], prepend=-1))
    count = len(first)
    heard: list[Counter[tuple[str, str]]] = [Counter() for _ in range(count)]
    for flow, said in sorted(names.items()):
        heard[row[flow]][said] += int(flows.bytes[flow])
    loudest = [each.most_common(1)[0][0] if each else _NO_NAME for each in heard]

    def reduced(how: np.ufunc, values: np.ndarray) -> np.ndarray:
        out: np.ndarray = how.reduceat(values[order], first) if count else values[:0]
        return out

    merged = {name: pa.nulls(count, column.type) for name, column in columns.items()}
    lowest, highest = (reduced(how, flows.key["protocol"]) for how in (np.minimum, np.maximum))
    merged["protocol"] = to_arrow(lowest, lowest != highest)
    for place, name in enumerate(("server_name", "server_name_source")):
        merged[name] = string_array([each[place] for each in loudest])
    if group_by == "host":
        merged["src"] = columns["src"].take(to_arrow(order[first]))
    return FlowRows(
        row,
        flows,
        capture=flows.capture[order][first],
        start_ns=reduced(np.minimum, flows.start_ns),
        end_ns=reduced(np.maximum, flows.end_ns),
        packets=reduced(np.add, flows.packets),
        bytes=reduced(np.add, flows.bytes),
        _names=names,
        _columns=pa.table(merged),
    )
