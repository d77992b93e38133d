"""Flows -> a classic pcap file in nanoseconds, all flows merged in order of time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np

from capture.errors import OutputError
from capture.flows import FlowTable
from capture.headers import LINKTYPE_ETHERNET, PCAP_FILE, PCAP_MAGIC_NS
from capture.series import NS
from exporters.draws import draw, uniform
from exporters.mend import Ints
from exporters.packets import Frames, frames, render
from exporters.plan import Plan

#: 2026-01-01T00:00:00Z: a fixed time, so that the same seed gives the same bytes.
EPOCH_NS = 1_767_225_600 * NS
MEAN_GAP_NS = NS // 10  # between the arrivals of two flows: ten a second
SNAPLEN = 262_144  # tcpdump's; dpkt's 1500 makes tools call full frames truncated

_ARRIVAL = 80  # stream of `draw`
_BLOCK_PACKETS = 250_000
_BLOCK_BYTES = 1 << 26


def start_times(table: FlowTable, plan: Plan, start_ns: int | None = None) -> Ints:
    """When each flow begins, ns since 1970, shape (flows,).

    A flow keeps its own `start_ns`; flows without one arrive as a Poisson process from `start_ns`
    (default `EPOCH_NS`) on.

    Raises
    ------
    OutputError
        If a time does not fit a pcap file, which counts seconds from 1970 to 2106.
    """
    column = table.table["start_ns"]
    known = column.is_valid().to_numpy()
    starts: Ints = np.array(column.fill_null(0).to_numpy(), dtype=np.int64)
    keys = plan.keys[~known]
    gaps = (-np.log1p(-uniform(draw(keys, _ARRIVAL))) * MEAN_GAP_NS).astype(np.int64)
    base = EPOCH_NS if start_ns is None else start_ns
    starts[~known] = base + gaps.cumsum() - (gaps[0] if len(gaps) else 0)
    outside = (starts < 0) | (starts + plan.spec.span_ns >= NS << 32)
    if outside.any():
        row = int(outside.argmax())
        raise OutputError(
            f"flow {row} begins {int(starts[row])} ns after 1970, which a pcap file cannot hold",
            "Give another start, or a table without start_ns",
        )
    return starts


def write_pcap(table: FlowTable, plan: Plan, path: Path, *, start_ns: int | None = None) -> int:
    """Write all flows of `plan` to `path`; the number of packets.

    Memory holds one block of flows, and what of them comes after the next block's first packet.
    """
    starts = start_times(table, plan, start_ns)
    packets = 0
    with path.open("wb") as stream:
        stream.write(_file_header())
        for batch in _in_order(plan, starts):
            packets += len(batch)
            _write_frames(stream, batch)
    return packets


def _file_header() -> bytes:
    header = np.zeros(1, dtype=PCAP_FILE)
    header["magic"], header["major"], header["minor"] = PCAP_MAGIC_NS, 2, 4
    header["snaplen"], header["linktype"] = SNAPLEN, LINKTYPE_ETHERNET
    return header.tobytes()


def _in_order(plan: Plan, starts: Ints) -> Iterator[Frames]:
    """Frames of all flows, in order of time; at the same time, the flow that began earlier first."""
    order = np.argsort(starts, kind="stable")
    blocks = list(plan.blocks(order, _BLOCK_PACKETS))
    waiting: Frames | None = None
    for index, rows in enumerate(blocks):
        batch = frames(plan, plan.packets(rows), starts)
        if waiting is not None:
            batch = waiting.join(batch)
        batch = batch.take(np.argsort(batch.time_ns, kind="stable"))
        done = len(batch)
        if index + 1 < len(blocks):  # no flow to come has a packet before its start
            done = int(np.searchsorted(batch.time_ns, starts[blocks[index + 1][0]]))
        yield batch.take(slice(0, done))
        waiting = batch.take(slice(done, None))


def _write_frames(stream: BinaryIO, batch: Frames) -> None:
    """Render and write in pieces of bounded size."""
    piece = (batch.size + 64).cumsum() // _BLOCK_BYTES
    edges = np.r_[0, np.flatnonzero(np.diff(piece)) + 1, len(batch)] if len(batch) else np.zeros(0, dtype=np.int64)
    for begin, end in pairwise(edges):
        stream.write(render(batch.take(slice(int(begin), int(end)))).data)
