"""When flows begin."""

from __future__ import annotations

import numpy as np

from netgen.capture.errors import OutputError
from netgen.capture.series.spec import NS
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.counter_rng import Words, random_bits, uniform
from netgen.exporters.pcap.flow_file import FlowFile
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.pcap.packets import Ints

#: 2026-01-01T00:00:00Z: a fixed time, so that the same seed gives the same bytes.
EPOCH_NS = 1_767_225_600 * NS
RATE = 10.0  # flows a second

_ARRIVAL = 80  # stream of `random_bits`


def start_times(table: FlowTable | FlowFile, keys: Words, options: CaptureOptions) -> Ints:
    """When each flow begins, ns since 1970, shape (flows,).

    A flow keeps its own `start_ns`, unless `options.rate` is given; flows without one arrive as a
    Poisson process. With `options.start_ns` the first of either begins then.

    Raises
    ------
    OutputError
        If a time does not fit a pcap file, which counts seconds from 1970 to 2106.
    """
    column = table.table["start_ns"]
    known = column.is_valid().to_numpy() & (options.rate is None)
    starts: Ints = np.array(column.fill_null(0).to_numpy(), dtype=np.int64)
    base = EPOCH_NS if options.start_ns is None else options.start_ns
    if options.start_ns is not None and known.any():
        starts[known] += base - int(starts[known].min())
    mean = NS / (options.rate or RATE)
    gaps = np.rint(-np.log1p(-uniform(random_bits(keys[~known], _ARRIVAL))) * mean)
    arrived = gaps.cumsum() - gaps[:1].sum()  # floats: a sum beyond 64 bits is refused, not wrapped
    outside = np.zeros(len(starts), dtype=bool)
    outside[~known] = arrived >= float(NS << 32)
    starts[~known] = base + np.where(outside[~known], 0, arrived).astype(np.int64)
    lasts = table.spec.span_ns or table.table["duration_ns"].to_numpy()
    outside |= (starts < 0) | (starts + lasts >= NS << 32)
    if outside.any():
        row = int(outside.argmax())
        raise OutputError(
            f"flow {row} begins {int(starts[row])} ns after 1970, which a pcap file cannot hold",
            "Give another start (--start 2026-01-01) or, for many flows, a higher --rate",
        )
    return starts
