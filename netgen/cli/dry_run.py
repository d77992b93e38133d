"""What ``--dry-run`` prints: flows, files and an estimate of their size."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netgen.cli import output

if TYPE_CHECKING:
    import numpy as np

    from netgen.capture.table.flow_table import FlowTable
    from netgen.exporters.pcap.options import CaptureOptions

SAMPLE_FLOWS = 200  # flows that are written to a temporary file to estimate the size of all


def take_sample(table: FlowTable) -> FlowTable:
    """Take flows from the whole table, evenly spaced."""
    import numpy as np

    rows: np.ndarray = np.unique(np.linspace(0, len(table) - 1, SAMPLE_FLOWS).astype(np.int64))
    return table.take(rows)


def total_bytes(table: FlowTable) -> int:
    """Sum the IP bytes of all flows."""
    return int(table.table["bytes"].to_numpy().sum())


def print_plan(
    out: Path,
    sample: FlowTable,
    *,
    flows: int,
    ip_bytes: float,
    options: CaptureOptions | None = None,
    card: bool = False,
    ground_truth: bool = False,
    as_json: bool,
) -> None:
    """Print which files a command would write, and about how large the first is.

    `sample` holds some of the `flows`, which have `ip_bytes` in all.
    """
    from netgen.exporters.pcap.ground_truth import ground_truth_paths
    from netgen.exporters.tables.data_card import data_card_path
    from netgen.exporters.write import is_capture, write

    capture = is_capture(out)
    with tempfile.TemporaryDirectory() as folder:
        name = "sample.pcap" if str(out) == "-" else out.name
        result = write(sample, Path(folder, name), ground_truth=False, options=options)
    scale = ip_bytes / max(total_bytes(sample), 1) if capture else flows / len(sample)
    size = int(result.bytes_written * scale)
    files = [
        out,
        *([data_card_path(out)] if card else []),
        *(ground_truth_paths(out) if capture and ground_truth else []),
    ]
    plan: dict[str, Any] = {"would_write": [str(path) for path in files], "flows": flows, "estimated_bytes": size}
    if as_json:
        output.print_json(plan)
        return
    metadata = f"{result.format}, {output.plural(flows, 'flow')}, about {output.format_bytes(size)}"
    output.print_line("would write ", output.bold(out), f": {metadata}")
    for path in files[1:]:
        output.print_line("would write ", output.bold(path))
