"""Flows to the rows of a table: one per flow, per initiating host, or per capture."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from netgen.capture.factorize import factorize
from netgen.capture.flows.assemble import Assembler, Flows
from netgen.capture.native.tables import ipv4_texts
from netgen.capture.table.arrow_utils import join_strings, sparse_string_array, string_array, to_arrow, to_numpy

#: Columns of the flow table with the ends of a flow.
ENDPOINT_COLUMNS = ("protocol", "src", "src_port", "dst", "dst_port", "vlan")

_NAME_COLUMNS = ("server_name", "server_name_source")
_NO_NAME = (None, None)


@dataclasses.dataclass(eq=False)
class FlowRows:
    """Rows of a table, and the flows that each is made of; shape (rows,) where not given."""

    row_of_flow: np.ndarray | None  # int64, shape (flows,): the row of each flow, -1 for none; None: each is a row
    flows: Flows  # all flows
    capture: np.ndarray  # index of the capture of each row, ascending; this and all that follow are int64
    start_ns: np.ndarray
    end_ns: np.ndarray
    packets: np.ndarray
    bytes: np.ndarray
    _names: dict[int, tuple[str, str]]  # by flow
    _flow_of_row: np.ndarray | None = None  # where each row is a flow, but not each flow a row
    _columns: pa.Table | None = None  # where a row has several flows

    def __len__(self) -> int:
        return len(self.capture)

    @property
    def are_flows(self) -> bool:
        """Whether each row is one flow."""
        return self._columns is None

    def columns(self, first: int, last: int) -> dict[str, Any]:
        """Return start, duration, totals, endpoints and server names of rows `first` to `last` - 1."""
        rows = slice(first, last)
        columns: dict[str, Any] = {name: getattr(self, name)[rows] for name in ("start_ns", "packets", "bytes")}
        columns["duration_ns"] = self.end_ns[rows] - columns["start_ns"]
        if self._columns is not None:
            table = self._columns.slice(first, last - first)
            return {**columns, **dict(zip(table.column_names, table.columns, strict=True))}
        flow = np.arange(first, last) if self._flow_of_row is None else self._flow_of_row[rows]
        columns.update(_endpoints(self.flows.take(rows if self._flow_of_row is None else flow)))
        begin, end = np.searchsorted(self._named_flows, (flow[0], flow[-1] + 1)) if len(flow) else (0, 0)
        named = self._named_flows[begin:end]
        row = np.searchsorted(flow, named)
        row = row[flow[row] == named]
        names = [self._names[number] for number in flow[row].tolist()]
        for index, column in enumerate(_NAME_COLUMNS):
            columns[column] = sparse_string_array(len(flow), row, [name[index] for name in names])
        return columns

    @functools.cached_property
    def _named_flows(self) -> np.ndarray:
        """Flows with a server name, in ascending order."""
        return np.sort(np.array([*self._names], np.int64))

    def keep(self, mask: np.ndarray) -> FlowRows:
        """Select rows by a boolean mask. The flows of other rows get row -1."""
        number = np.append(np.where(mask, np.cumsum(mask) - 1, -1), -1)
        totals = {name: getattr(self, name)[mask] for name in ("capture", "start_ns", "end_ns", "packets", "bytes")}
        if self._columns is not None:
            assert self.row_of_flow is not None
            columns = self._columns.filter(to_arrow(mask))
            return FlowRows(number[self.row_of_flow], self.flows, **totals, _names=self._names, _columns=columns)
        return FlowRows(number[:-1], self.flows, **totals, _names=self._names, _flow_of_row=np.flatnonzero(mask))


def group_flows(assembler: Assembler, group_by: str) -> FlowRows:
    """Group flows into rows (``flow``, ``host`` or ``capture``), after all captures have ended."""
    flows = assembler.columns()
    names = assembler.server_names
    for flow, text in _dns_names(flows, assembler):
        names.setdefault(flow, (text, "dns"))
    if group_by == "flow":
        totals = flows.capture, flows.start_ns, flows.end_ns, flows.packets, flows.bytes
        return FlowRows(None, flows, *totals, _names=names)
    endpoints = _endpoints(flows)
    if group_by == "capture":
        group = flows.capture
    else:
        host = endpoints["src"].dictionary_encode()
        group = flows.capture * (len(host.dictionary) + 1) + to_numpy(host.indices)
    _, first, row = np.unique(group, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))  # rows in the order in which they first occur
    return _merge(flows, rank[row], endpoints, names, group_by)


def _endpoints(flows: Flows) -> dict[str, pa.Array]:
    """Return addresses and ports of initiator and responder, VLAN and protocol."""
    key, up = flows.key, flows.up
    columns: dict[str, pa.Array] = {"protocol": to_arrow(key["protocol"])}
    for column, own, other in (("src", "a", "b"), ("dst", "b", "a")):
        high, low, port = (
            np.where(up, key[f"{own}_{field}"], key[f"{other}_{field}"]) for field in ("high", "low", "port")
        )
        columns[column] = address_texts(high, low, key["version"])
        columns[f"{column}_port"] = to_arrow(np.maximum(port, 0).astype(np.uint16), port < 0)
    vlan = key["vlan"]
    columns["vlan"] = to_arrow((vlan & 0xFFF).astype(np.uint16), vlan < 0)
    return {name: columns[name] for name in ENDPOINT_COLUMNS}


def address_texts(high: np.ndarray, low: np.ndarray, version: np.ndarray) -> pa.Array:
    """Format IP addresses (uint64 halves; an IPv4 address is the low 32 bits) as an Arrow array of strings."""
    is_ipv4 = version == 4
    if is_ipv4.all():
        return join_strings(*ipv4_texts(low))
    ipv6 = np.flatnonzero(~is_ipv4)
    code, distinct = factorize(np.stack([high[ipv6], low[ipv6]], axis=1).astype(">u8").view("V16").ravel())
    texts = [socket.inet_ntop(socket.AF_INET6, address).encode() for address in distinct.tolist()]
    length = np.empty(len(low), np.int64)
    ipv4_text, length[is_ipv4] = ipv4_texts(low[is_ipv4])
    length[ipv6] = np.array([len(text) for text in texts])[code]
    joined = np.empty(int(length.sum()), np.uint8)
    from_ipv4 = np.repeat(is_ipv4, length)
    joined[from_ipv4] = ipv4_text
    joined[~from_ipv4] = np.frombuffer(b"".join([texts[index] for index in code.tolist()]), np.uint8)
    return join_strings(joined, length)


def _dns_names(flows: Flows, assembler: Assembler) -> Iterator[tuple[int, str]]:
    """Yield the flows to an address that DNS gave to their client before, and the name that the client asked for."""
    answers: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for capture, number, name in assembler.dns_answers:
        for address in name.answers:
            answers.setdefault((capture, name.client, address), []).append((number, name.text))
    if not answers:
        return
    lows = np.array(sorted({address[2] for _, _, address in answers}), np.uint64)
    key = flows.key
    rows = np.flatnonzero(np.isin(key["a_low"], lows) | np.isin(key["b_low"], lows))
    columns = rows.tolist(), key[rows].tolist(), flows.capture[rows].tolist(), flows.number[rows].tolist()
    for row, endpoints, capture, number in zip(*columns, strict=True):
        a_high, a_low, b_high, b_low, *_, version, _ = endpoints
        a, b = (version, a_high, a_low), (version, b_high, b_low)
        for client, server in ((a, b), (b, a)):
            candidates = answers.get((capture, client, server), ())
            before = bisect.bisect_left(candidates, (number, ""))
            if before:
                yield row, candidates[before - 1][1]  # the last answer before the flow
                break


def _merge(
    flows: Flows, row: np.ndarray, endpoints: dict[str, pa.Array], names: dict[int, tuple[str, str]], group_by: str
) -> FlowRows:
    """Make rows of several flows: with what all flows agree on, and the server name with the most bytes."""
    order = np.argsort(row, kind="stable")
    first = np.flatnonzero(np.diff(row[order], prepend=-1))
    count = len(first)
    bytes_by_name: list[Counter[tuple[str, str]]] = [Counter() for _ in range(count)]
    for flow, name in sorted(names.items()):
        bytes_by_name[row[flow]][name] += int(flows.bytes[flow])
    top_names = [counter.most_common(1)[0][0] if counter else _NO_NAME for counter in bytes_by_name]

    def reduce(operation: np.ufunc, values: np.ndarray) -> np.ndarray:
        return operation.reduceat(values[order], first) if count else values[:0]

    columns = {name: pa.nulls(count, column.type) for name, column in endpoints.items()}
    lowest, highest = (reduce(operation, flows.key["protocol"]) for operation in (np.minimum, np.maximum))
    columns["protocol"] = to_arrow(lowest, lowest != highest)
    for index, column in enumerate(_NAME_COLUMNS):
        columns[column] = string_array([name[index] for name in top_names])
    if group_by == "host":
        columns["src"] = endpoints["src"].take(to_arrow(order[first]))
    return FlowRows(
        row,
        flows,
        capture=flows.capture[order][first],
        start_ns=reduce(np.minimum, flows.start_ns),
        end_ns=reduce(np.maximum, flows.end_ns),
        packets=reduce(np.add, flows.packets),
        bytes=reduce(np.add, flows.bytes),
        _names=names,
        _columns=pa.table(columns),
    )
