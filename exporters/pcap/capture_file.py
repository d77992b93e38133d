"""Flows -> a capture file, all flows merged in order of time: pcap or pcapng in nanoseconds, compressed or not."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from netgen.capture.headers import (
    ETHERNET,
    LINKTYPE_ETHERNET,
    PCAP_FILE,
    PCAP_MAGIC_NS,
    PCAP_RECORD,
    PCAPNG_BYTE_ORDER,
    PCAPNG_INTERFACE,
    PCAPNG_SECTION,
    PROTOCOL_TCP,
)
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.addresses import addresses, capture_seed
from netgen.exporters.pcap.arrivals import start_times
from netgen.exporters.pcap.counter_rng import flow_keys, occurrences
from netgen.exporters.pcap.flow_file import FlowFile
from netgen.exporters.pcap.frames import Endpoints, frames
from netgen.exporters.pcap.ground_truth import GroundTruth, connection_numbers
from netgen.exporters.pcap.layout import lay_out
from netgen.exporters.pcap.merge import Frames, Merger
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.pcap.packets import IPV6_OVERHEAD, TIMESTAMP_HEADERS, UDP_HEADERS, Ints, export_protocol
from netgen.exporters.pcap.payload import payload_of
from netgen.exporters.pcap.plan import Plan, ip_overheads, plan, protocols_of
from netgen.exporters.pcap.render import render
from netgen.exporters.pcap.sizes_and_times import load_profiles

SNAPLEN = 262_144  # tcpdump's; dpkt's 1500 makes tools call full frames truncated

_BLOCK_FLOWS = 1024  # flows planned at a time
_BLOCK_PACKETS = 100_000  # packets laid out at a time, but for a flow that has more
_PIECE_PACKETS = 1 << 16  # packets rendered at a time
_PIECE_BYTES = 1 << 24

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """Format of a capture file: pcap or pcapng, plain or compressed with ``"gzip"`` or ``"zstd"``."""

    pcapng: bool = False
    compression: str | None = None


@dataclasses.dataclass(frozen=True)
class CaptureSummary:
    """What was written to a capture.

    Parameters
    ----------
    packets, bytes : int
        Bytes before compression.
    repairs : dict
        Reason -> flows that had to be changed for it.
    truth : Truth
    ends : Ends
    """

    packets: int
    bytes: int
    repairs: dict[str, int]
    ground_truth: GroundTruth
    ends: Endpoints


def write_capture(
    table: FlowTable | FlowFile,
    path: Path | None,
    options: CaptureOptions,
    file_format: FileFormat,
    *,
    progress: Progress | None = None,
) -> CaptureSummary:
    """Write all flows of a table to `path`, or to standard output.

    Memory holds one block of flows, and packets that wait for their turn as far as `Merger` keeps
    them in memory.

    Parameters
    ----------
    table : FlowTable or FlowFile
    path : Path or None
    options : CaptureOptions
    file_format : FileFormat
    progress : callable, optional
        Called with (packets written, estimate of all packets).
    """
    export = _Export(table, options)
    payload = payload_of(options)
    total, packets, size = int(np.sum(table.table["packets"].to_numpy())) if progress else 0, 0, 0
    with contextlib.closing(export.merger), _sink(path, file_format.compression) as stream:
        head = _section(table.metadata, options) if file_format.pcapng else _file_header()
        stream.write(head)
        size += len(head)
        for batch in export.in_order():
            for piece in _pieces(batch):
                records = render(
                    piece, export.ends, payload=payload, headers_only=options.headers_only, pcapng=file_format.pcapng
                )
                stream.write(records.data)
                size += len(records)
                packets += len(piece)
                if progress:
                    progress(packets, max(packets, total))
    return CaptureSummary(packets, size, export.repairs, export.truth, export.ends)


def estimate_capture_bytes(table: FlowTable | FlowFile, options: CaptureOptions) -> int:
    """Estimate the size of an uncompressed pcap file of these flows, before any repairs."""
    packets = table.table["packets"].to_numpy()
    kept = packets - table.table["truncated_packets"].to_numpy()
    size = table.table["bytes"].to_numpy() * kept / np.maximum(packets, 1)
    if options.headers_only:
        tcp = table.table["protocol"].fill_null(PROTOCOL_TCP).to_numpy() == PROTOCOL_TCP
        headers = np.where(tcp, TIMESTAMP_HEADERS, UDP_HEADERS) + IPV6_OVERHEAD * (options.ip_version == "6")
        size = np.minimum(size, headers * kept)
    overhead = PCAP_RECORD.itemsize + ETHERNET.itemsize
    return PCAP_FILE.itemsize + int((size + overhead * kept).sum())


class _Export:
    """A table on its way into packets."""

    def __init__(self, table: FlowTable | FlowFile, options: CaptureOptions) -> None:
        self.options = options
        number = table.table["flow"].to_numpy().astype(np.int64)
        self.occurrence = occurrences(number)
        keys = flow_keys(options.seed, number, self.occurrence)
        self.starts = start_times(table, keys, options)
        protocol = export_protocol(protocols_of(table), ip_overheads(table, options.ip_version)[0] > 0)
        own, ports = capture_seed(options.seed, table.table, table.metadata), load_profiles(table).server_ports(keys)
        self.ends = Endpoints.at(addresses(own, number, self.occurrence, protocol, ports), keys)
        self.order = np.argsort(self.starts, kind="stable")
        if isinstance(table, FlowFile) and table.scattered(self.order, _BLOCK_FLOWS):
            table = FlowTable.read(table.path)
        self.table = table
        self.truth = GroundTruth.empty(self.starts, protocol)
        self.repairs: dict[str, int] = {}
        self.merger = Merger()

    def in_order(self) -> Iterator[Frames]:
        """Frames of all flows in order of time; at the same time, the flow that began earlier first."""
        for rows, planned in self._blocks():
            yield from self.merger.before(int(self.starts[rows].min()))
            packets = lay_out(planned, np.arange(len(rows)))
            self._note(rows, planned, packets.offset_ns, packets.flow)
            self.merger.add(frames(planned, packets, self.starts[rows], rows, self.ends))
            del packets
        yield from self.merger.before(None)

    def _blocks(self) -> Iterator[tuple[Ints, Plan]]:
        """Rows of the table, in the order in which they begin, with their plan."""
        for at in range(0, len(self.order), _BLOCK_FLOWS):
            rows = self.order[at : at + _BLOCK_FLOWS]
            planned = plan(
                self.table.take(rows),
                seed=self.options.seed,
                ip_version=self.options.ip_version,
                occurrence=self.occurrence[rows],
            )
            for reason, number in planned.repairs.items():
                self.repairs[reason] = self.repairs.get(reason, 0) + number
            block = planned.packet_counts.cumsum() // _BLOCK_PACKETS
            for part in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(block)) + 1):
                yield rows[part], planned.take(part)

    def _note(self, rows: Ints, planned: Plan, offset_ns: Ints, flow: Ints) -> None:
        """Write down the truth of some flows."""
        truth = self.truth
        truth.connection[rows], truth.v6[rows] = connection_numbers(planned), planned.ip_overhead > 0
        truth.repaired[rows] = planned.repaired
        totals = planned.series.sum(2)
        truth.bytes[rows], truth.packets[rows] = totals[:, :2], totals[:, 2:]
        last = np.r_[flow[1:] != flow[:-1], True][: len(flow)]
        truth.end_ns[rows[flow[last]]] += offset_ns[last]


def _pieces(batch: Frames) -> Iterator[Frames]:
    """Frames in pieces that can be rendered in bounded memory."""
    load = (batch["size"].astype(np.int64) + 64).cumsum()
    while len(batch):
        many = min(_PIECE_PACKETS, max(int(np.searchsorted(load, _PIECE_BYTES, side="right")), 1))
        yield batch[:many]
        batch, load = batch[many:], load[many:] - load[many - 1]


def _file_header() -> bytes:
    header = np.zeros(1, dtype=PCAP_FILE)
    header["magic"], header["major"], header["minor"] = PCAP_MAGIC_NS, 2, 4
    header["snaplen"], header["linktype"] = SNAPLEN, LINKTYPE_ETHERNET
    return header.tobytes()


def _section(metadata: dict[str, Any], options: CaptureOptions) -> bytes:
    """The blocks of a pcapng file before its packets: section header and interface, times in nanoseconds."""
    wrote = f"netgen {importlib.metadata.version('netgen')}"
    comment = "Not real traffic: written by netgen from a table of flows. " + json.dumps(
        capture_metadata(metadata, options)
    )
    section = np.array([PCAPNG_BYTE_ORDER], "<u4").tobytes() + bytes([1, 0, 0, 0]) + b"\xff" * 8
    section += _option(1, comment.encode()) + _option(4, wrote.encode()) + _option(0, b"")
    interface = np.array([LINKTYPE_ETHERNET, SNAPLEN], "<u4").tobytes()  # 16 bits of link type, 16 of nothing
    interface += _option(2, b"netgen0") + _option(9, b"\x09") + _option(0, b"")
    return _block(PCAPNG_SECTION, section) + _block(PCAPNG_INTERFACE, interface)


def _option(code: int, value: bytes) -> bytes:
    head = np.array([code, len(value)], "<u2").tobytes()
    return head + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    length = np.array([len(body) + 12], "<u4").tobytes()
    return np.array([kind], "<u4").tobytes() + length + body + length


def capture_metadata(metadata: dict[str, Any], options: CaptureOptions) -> dict[str, Any]:
    """How a capture was made, as JSON types."""
    keys = ("made_by", "model", "weights_sha256", "guidance", "sampling_steps")
    notes = {key: metadata[key] for key in keys if key in metadata}
    if "seed" in metadata:
        notes["model_seed"] = metadata["seed"]
    chosen = {key: value for key, value in dataclasses.asdict(options).items() if value is not None}
    return {"netgen": importlib.metadata.version("netgen"), **notes, **chosen}


@contextlib.contextmanager
def _sink(path: Path | None, compression: str | None) -> Iterator[BinaryIO]:
    """What to write to; standard output without a path."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif compression is None:
        with path.open("wb") as stream:
            yield stream
    else:
        with pa.CompressedOutputStream(str(path), compression) as packed:
            yield packed
