"""Write flows as a capture file, merged in order of time: pcap or pcapng in nanoseconds, compressed or not."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netgen.capture.errors import OutputError
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
from netgen.capture.series.spec import NS
from netgen.capture.table.flow_table import FlowTable
from netgen.capture.table.schema import FLOW_COLUMNS
from netgen.exporters.pcap.addresses import addresses, capture_seed
from netgen.exporters.pcap.counter_rng import Words, flow_keys, occurrences, random_bits, uniform
from netgen.exporters.pcap.frames import Endpoints, frames
from netgen.exporters.pcap.ground_truth import GroundTruth
from netgen.exporters.pcap.layout import lay_out
from netgen.exporters.pcap.merge import Frames, Merger
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.pcap.packets import IPV6_OVERHEAD, TIMESTAMP_HEADERS, UDP_HEADERS, Ints, export_protocol
from netgen.exporters.pcap.payload import make_payload
from netgen.exporters.pcap.plan import Plan, ip_overheads, plan, protocols_of
from netgen.exporters.pcap.render import render
from netgen.exporters.pcap.sizes_and_times import load_profiles

SNAPLEN = 262_144  # bytes, as tcpdump's; with dpkt's 1500, tools report full frames as truncated

#: 2026-01-01T00:00:00Z: flows without a time begin at a fixed one, so that the same seed gives the same bytes.
EPOCH_NS = 1_767_225_600 * NS
DEFAULT_RATE = 10.0  # flows a second

_BLOCK_FLOWS = 1024  # flows planned at a time
_BLOCK_PACKETS = 100_000  # packets laid out at a time, except for a flow that has more
_RENDER_PACKETS = 1 << 16  # packets rendered at a time
_RENDER_BYTES = 1 << 24  # bytes rendered at a time

_ARRIVAL = 80  # stream of `random_bits`

Progress = Callable[[int, int], None]


class FlowFile:
    """A flow table on disk; `flows` holds all rows, without their series.

    Series are read when they are needed, because they take most of the memory.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        empty = FlowTable.read(path, rows=False)
        self.path, self._schema, self._file = Path(path), empty.table.schema, pq.ParquetFile(path)
        rows = self._file.read(FLOW_COLUMNS.names).select(FLOW_COLUMNS.names).cast(FLOW_COLUMNS)
        self.flows = dataclasses.replace(empty, table=rows)
        sizes = [self._file.metadata.row_group(index).num_rows for index in range(self._file.num_row_groups)]
        self._begins = np.r_[0, np.cumsum(sizes, dtype=np.int64)]
        self._group: tuple[int, FlowTable] | None = None  # the row group that was read last

    def take(self, rows: Ints) -> FlowTable:
        """Read the rows with these indices, in that order; fast if they lie close together."""
        group = self._groups_of(rows)
        order = np.argsort(group, kind="stable")
        read = [self._read(index).take(rows[group == index] - self._begins[index]).table for index in np.unique(group)]
        table = dataclasses.replace(self.flows, table=pa.concat_tables(read).combine_chunks())
        return table.take(np.argsort(order, kind="stable"))

    def reads_repeatedly(self, rows: Ints, block: int) -> bool:
        """Tell whether taking these rows, `block` at a time, would read row groups again and again."""
        group = self._groups_of(rows)
        reads = sum(len(np.unique(group[begin : begin + block])) for begin in range(0, len(rows), block))
        return len(self._begins) > 2 and reads > len(rows) // block + 4 * len(self._begins)

    def _groups_of(self, rows: Ints) -> Ints:
        return np.searchsorted(self._begins, rows, side="right") - 1

    def _read(self, index: int) -> FlowTable:
        if self._group is None or self._group[0] != index:
            self._group = None
            pa.default_memory_pool().release_unused()
            rows = self._file.read_row_group(index, use_threads=False).select(self._schema.names).cast(self._schema)
            self._group = index, dataclasses.replace(self.flows, table=rows)
        return self._group[1]


def write_capture(
    source: FlowTable | FlowFile,
    path: Path | None,
    options: CaptureOptions,
    file_format: str,
    *,
    progress: Progress | None = None,
) -> tuple[FrameStream, int]:
    """Write all flows to `path`, or to standard output; return what was written, and its bytes before compression.

    Memory holds one block of flows, and those packets that wait in the `Merger`. `file_format` is ``pcap`` or
    ``pcapng``, and after a comma ``gzip`` or ``zstd``. `progress` is called with (packets written, estimate of all
    packets).
    """
    container, _, compression = file_format.partition(", ")
    pcapng = container == "pcapng"
    stream = FrameStream(source, options)
    payload = make_payload(options)
    total = int(np.sum(stream.flows.table["packets"].to_numpy()))
    header = _pcapng_header(stream.flows.metadata, options) if pcapng else pcap_header()
    size = len(header)
    with contextlib.closing(stream), _open_output(path, compression) as file:
        file.write(header)
        for batch in stream:
            records = render(batch, stream.endpoints, payload, headers_only=options.headers_only, pcapng=pcapng)
            file.write(records.data)
            size += len(records)
            if progress:
                progress(stream.packets, max(stream.packets, total))
    return stream, size


def estimate_capture_bytes(source: FlowTable | FlowFile, options: CaptureOptions | None = None) -> int:
    """Estimate the size of an uncompressed pcap file of these flows, before any repairs."""
    options = options or CaptureOptions()
    table = (source.flows if isinstance(source, FlowFile) else source).table
    packets = table["packets"].to_numpy()
    kept = packets - table["truncated_packets"].to_numpy()
    size = table["bytes"].to_numpy() * kept / np.maximum(packets, 1)
    if options.headers_only:
        tcp = table["protocol"].fill_null(PROTOCOL_TCP).to_numpy() == PROTOCOL_TCP
        headers = np.where(tcp, TIMESTAMP_HEADERS, UDP_HEADERS) + IPV6_OVERHEAD * (options.ip_version == "6")
        size = np.minimum(size, headers * kept)
    return PCAP_FILE.itemsize + int((size + (PCAP_RECORD.itemsize + ETHERNET.itemsize) * kept).sum())


class FrameStream:
    """The frames of all flows in order of time, in batches; flows of the same time in the order of the table."""

    def __init__(self, source: FlowTable | FlowFile, options: CaptureOptions) -> None:
        self._options = options
        self.flows = source.flows if isinstance(source, FlowFile) else source  # perhaps without their series
        number = self.flows.table["flow"].to_numpy().astype(np.int64)
        self._occurrence = occurrences(number)
        keys = flow_keys(options.seed, number, self._occurrence)
        self._starts = start_times(self.flows, keys, options)
        self._order = np.argsort(self._starts, kind="stable")
        if isinstance(source, FlowFile) and source.reads_repeatedly(self._order, _BLOCK_FLOWS):
            source = FlowTable.read(source.path)
        self._source = source
        protocol = export_protocol(protocols_of(self.flows), ip_overheads(self.flows, options.ip_version)[0] > 0)
        seed = capture_seed(options.seed, self.flows.table, self.flows.metadata)
        ports = load_profiles(self.flows).server_ports(keys)
        self.endpoints = Endpoints.at(addresses(seed, number, self._occurrence, protocol, ports), keys)
        self.ground_truth = GroundTruth.empty(self._starts, protocol)  # complete when the iteration has ended
        self.repairs: Counter[str] = Counter()  # kind of repair -> number of flows so far
        self.packets = 0  # so far
        self._merger = Merger()

    def __iter__(self) -> Iterator[Frames]:
        """Yield batches of at most `_RENDER_PACKETS` packets and about `_RENDER_BYTES` bytes."""
        for batch in self._in_order():
            size = (batch["size"].astype(np.int64) + 64).cumsum()
            begin = 0
            while begin < len(batch):
                limit = _RENDER_BYTES + (size[begin - 1] if begin else 0)
                end = min(begin + _RENDER_PACKETS, max(int(np.searchsorted(size, limit, side="right")), begin + 1))
                self.packets += len(batch[begin:end])
                yield batch[begin:end]
                begin = end

    def close(self) -> None:
        """Remove temporary files."""
        self._merger.close()

    def _in_order(self) -> Iterator[Frames]:
        for rows, planned in self._plans():
            yield from self._merger.before(int(self._starts[rows].min()))
            packets = lay_out(planned, np.arange(len(rows)))
            self.ground_truth.add(rows, planned, packets)
            self._merger.add(frames(planned, packets, self._starts[rows], rows, self.endpoints))
            del packets  # before the merger needs memory
        yield from self._merger.before(None)

    def _plans(self) -> Iterator[tuple[Ints, Plan]]:
        """Yield rows of the table, in the order in which they begin, with their plan."""
        options = self._options
        for begin in range(0, len(self._order), _BLOCK_FLOWS):
            rows = self._order[begin : begin + _BLOCK_FLOWS]
            flows, occurrence = self._source.take(rows), self._occurrence[rows]
            planned = plan(flows, seed=options.seed, ip_version=options.ip_version, occurrence=occurrence)
            self.repairs.update(planned.repairs)
            block = planned.packet_counts.cumsum() // _BLOCK_PACKETS
            for selected in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(block)) + 1):
                yield rows[selected], planned.take(selected)


def start_times(flows: FlowTable, keys: Words, options: CaptureOptions) -> Ints:
    """Choose the time of each flow's first packet, ns since 1970, shape (flows,).

    Flows keep their `start_ns` unless `options.rate` is given. Flows without a time arrive as a Poisson process.
    `options.start_ns` moves the first flow of either kind to that time. A pcap file counts seconds from 1970 to 2106.
    """
    column = flows.table["start_ns"]
    known = column.is_valid().to_numpy() & (options.rate is None)
    starts = np.array(column.fill_null(0).to_numpy(), dtype=np.int64)
    base = EPOCH_NS if options.start_ns is None else options.start_ns
    if options.start_ns is not None and known.any():
        starts[known] += base - int(starts[known].min())
    gaps = np.rint(-np.log1p(-uniform(random_bits(keys[~known], _ARRIVAL))) * (NS / (options.rate or DEFAULT_RATE)))
    arrivals = gaps.cumsum() - gaps[:1].sum()  # floats, so that sums beyond 64 bits are rejected and do not wrap
    outside = np.zeros(len(starts), dtype=bool)
    outside[~known] = late = arrivals >= float(NS << 32)
    starts[~known] = base + np.where(late, 0, arrivals).astype(np.int64)
    durations = flows.spec.span_ns or flows.table["duration_ns"].to_numpy()
    outside |= (starts < 0) | (starts + durations >= NS << 32)
    if outside.any():
        row = int(outside.argmax())
        raise OutputError(
            f"flow {row} begins {int(starts[row])} ns after 1970, which a pcap file cannot hold",
            "Give another start (--start 2026-01-01) or, for many flows, a higher --rate",
        )
    return starts


def pcap_header() -> bytes:
    """Build the header of a pcap file in nanoseconds."""
    header = np.zeros(1, dtype=PCAP_FILE)
    header["magic"], header["major"], header["minor"] = PCAP_MAGIC_NS, 2, 4
    header["snaplen"], header["linktype"] = SNAPLEN, LINKTYPE_ETHERNET
    return header.tobytes()


def _pcapng_header(metadata: dict[str, Any], options: CaptureOptions) -> bytes:
    """Build the blocks of a pcapng file before its packets: section header and interface, times in nanoseconds."""
    made = json.dumps(capture_metadata(metadata, options))
    comment = f"Not real traffic: written by netgen from a table of flows. {made}"
    application = f"netgen {importlib.metadata.version('netgen')}"
    section = struct.pack("<IHHq", PCAPNG_BYTE_ORDER, 1, 0, -1)  # version 1.0, of unknown length
    interface = struct.pack("<II", LINKTYPE_ETHERNET, SNAPLEN)  # 16 bits of link type, 16 reserved
    return _pcapng_block(PCAPNG_SECTION, section, {1: comment.encode(), 4: application.encode()}) + _pcapng_block(
        PCAPNG_INTERFACE, interface, {2: b"netgen0", 9: b"\x09"}
    )


def _pcapng_block(kind: int, body: bytes, options: dict[int, bytes]) -> bytes:
    for code, value in {**options, 0: b""}.items():
        body += struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def capture_metadata(metadata: dict[str, Any], options: CaptureOptions) -> dict[str, Any]:
    """Describe how a capture was made, as JSON types."""
    keys = ("made_by", "model", "weights_sha256", "guidance", "sampling_steps")
    model = {key: metadata[key] for key in keys if key in metadata}
    if "seed" in metadata:
        model["model_seed"] = metadata["seed"]
    given = {key: value for key, value in dataclasses.asdict(options).items() if value is not None}
    return {"netgen": importlib.metadata.version("netgen"), **model, **given}


@contextlib.contextmanager
def _open_output(path: Path | None, compression: str) -> Iterator[BinaryIO]:
    """Open the file to write, or standard output if there is no path."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with pa.CompressedOutputStream(str(path), compression) if compression else path.open("wb") as file:
            yield file
