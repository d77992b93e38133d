"""What ``--dry-run`` prints: flows, files and an estimate of their size."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netgen.cli import output

if TYPE_CHECKING:
    from netgen.capture.table.flow_table import FlowTable
    from netgen.exporters.pcap.options import CaptureOptions

SAMPLE_FLOWS = 200  # flows that are written to a temporary file to estimate the size of a table


def total_bytes(table: FlowTable) -> int:
    """Sum the IP bytes of all flows."""
    return int(table.table["bytes"].to_numpy().sum())


def print_plan(
    out: Path,
    table: FlowTable,
    *,
    flows: int,
    ip_bytes: float | None = None,
    options: CaptureOptions | None = None,
    card: bool = False,
    ground_truth: bool = False,
    as_json: bool,
) -> None:
    """Print which files a command would write, and about how large the first is.

    `table` holds all of the `flows`, or some; then `ip_bytes` are those of all.
    """
    from netgen.exporters.pcap.capture_file import estimate_capture_bytes
    from netgen.exporters.pcap.ground_truth import ground_truth_paths
    from netgen.exporters.tables.data_card import data_card_path
    from netgen.exporters.write import check_ending, is_capture

    file_format = check_ending(out)
    files, remark = [out], ""
    if is_capture(out):
        scale = 1 if ip_bytes is None else ip_bytes / max(total_bytes(table), 1)
        size = int(estimate_capture_bytes(table, options) * scale)
        files += ground_truth_paths(out) if ground_truth else []
        remark = " before compression" if ", " in file_format else ""
    else:
        size = _estimate_table_bytes(table, flows, out.name)
        files += [data_card_path(out)] if card else []
    plan: dict[str, Any] = {"would_write": [str(path) for path in files], "flows": flows, "estimated_bytes": size}
    if as_json:
        output.print_json(plan)
        return
    description = f"{file_format}, {output.plural(flows, 'flow')}, about {output.format_bytes(size)}{remark}"
    output.print_line("would write ", output.bold(out), f": {description}")
    for path in files[1:]:
        output.print_line("would write ", output.bold(path))


def _estimate_table_bytes(table: FlowTable, flows: int, name: str) -> int:
    """Estimate the size of a table file from flows of the whole table, evenly spaced."""
    import numpy as np

    from netgen.exporters.write import write

    rows = np.unique(np.linspace(0, len(table) - 1, SAMPLE_FLOWS).astype(np.int64))
    with tempfile.TemporaryDirectory() as folder:
        return write(table.take(rows), Path(folder, name)).bytes_written * flows // len(rows)
