"""Write flows to a file: the ending of its name chooses the format."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

from netgen.capture.errors import OutputError
from netgen.capture.files import atomic_file, check_output, output_error
from netgen.capture.importers.foreign_tables import read_table
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.capture_file import (
    FlowFile,
    Progress,
    capture_metadata,
    estimate_capture_bytes,
    write_capture,
)
from netgen.exporters.pcap.ground_truth import ground_truth_paths, ground_truth_table, write_ground_truth
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.tables.csv_file import write_csv
from netgen.exporters.tables.data_card import data_card, data_card_path

#: Ending -> format.
FORMATS = {
    ".parquet": "Parquet flow table",
    ".csv": "CSV",
    ".pcap": "pcap",
    ".pcap.gz": "pcap, gzip",
    ".pcap.zst": "pcap, zstd",
    ".pcapng": "pcapng",
    ".pcapng.gz": "pcapng, gzip",
    ".pcapng.zst": "pcapng, zstd",
}

#: Instead of a path: write a pcap to standard output.
STDOUT = "-"

#: `write` warns of captures that will be larger.
LARGE_CAPTURE_BYTES = 10**9

Flows = FlowTable | str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class WriteResult:
    """What `write` wrote.

    Parameters
    ----------
    path : Path
    format : str
        One of the values of `FORMATS`.
    flows : int
    packets : int or None
        Packets of a capture; None for tables.
    bytes_written : int
        Size of the file.
    repairs : dict
        Kind of repair -> number of flows that were repaired so that packets can carry them.
    card : Path or None
        The data card.
    ground_truth : tuple of Path
        The ground truth of a capture, as CSV and Parquet.
    connections : dict
        What became of a capture's TCP connections, one of `netgen.exporters.pcap.ground_truth.CONNECTIONS` -> flows.
    """

    path: Path
    format: str
    flows: int
    packets: int | None
    bytes_written: int
    repairs: dict[str, int] = dataclasses.field(default_factory=dict)
    card: Path | None = None
    ground_truth: tuple[Path, ...] = ()
    connections: dict[str, int] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return {
            **dataclasses.asdict(self),
            "path": str(self.path),
            "card": str(self.card) if self.card else None,
            "ground_truth": [str(path) for path in self.ground_truth],
        }


def check_ending(path: str | os.PathLike[str]) -> str:
    """Return the format that the ending of `path` stands for.

    Raises
    ------
    OutputError
        If no format has this ending.
    """
    path = Path(path)
    if str(path) == STDOUT:
        return FORMATS[".pcap"]
    for count in (2, 1):
        ending = "".join(path.suffixes[-count:]).lower()
        if ending in FORMATS:
            return FORMATS[ending]
    problem = f"unknown ending {path.suffix.lower()!r}" if path.suffix else "its name has no ending"
    raise OutputError(f"cannot write {path}: {problem}", f"End the name in one of {', '.join(FORMATS)}")


def is_capture(path: str | os.PathLike[str]) -> bool:
    """Tell whether `path` has the ending of a capture."""
    return check_ending(path).startswith("pcap")


def check_outputs(
    path: str | os.PathLike[str], *, card: bool = False, ground_truth: bool = True, force: bool = False
) -> str:
    """Check early that `write` can write, and return the format that the ending stands for.

    Raises
    ------
    OutputError
        If the ending is unknown, the format has no data card, or a file exists or cannot be written.
    """
    file_format = check_ending(path)
    if str(path) == STDOUT:
        return file_format
    path = check_output(path, force=force)
    if card:
        if file_format != FORMATS[".parquet"]:
            raise OutputError(
                f"{path} cannot have a data card: only Parquet files have one", "End the name in .parquet"
            )
        check_output(data_card_path(path), force=force)
    if ground_truth and is_capture(path):
        for truth_path in ground_truth_paths(path):
            check_output(truth_path, force=force)
    return file_format


def write(
    flows: Flows,
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    card: bool = False,
    ground_truth: bool = True,
    options: CaptureOptions | None = None,
    progress: Progress | None = None,
) -> WriteResult:
    """Write flows as Parquet, CSV or a capture. If it fails, no file is left behind.

    Parameters
    ----------
    flows : FlowTable or path
        A table, or a Parquet or CSV file that holds one.
    path : path
        Ends in one of `FORMATS`; ``-`` writes a pcap to standard output.
    force : bool
        Replace files that exist.
    card : bool
        Write the data card of a Parquet file, ``NAME.card.md``.
    ground_truth : bool
        Write the ground truth of a capture, ``NAME.labels.csv`` and ``NAME.labels.parquet``.
    options : CaptureOptions, optional
        Seed, times, payload and addresses of a capture.
    progress : callable, optional
        Called with (packets written, packets in total) while a capture is written.

    Returns
    -------
    WriteResult

    Raises
    ------
    OutputError
        If the ending is unknown, or a file exists or cannot be written.

    Warns
    -----
    UserWarning
        If an uncompressed capture will be larger than `LARGE_CAPTURE_BYTES`.
    """
    file_format = check_outputs(path, card=card, ground_truth=ground_truth, force=force)
    path = Path(path)
    if file_format.startswith("pcap"):
        if isinstance(flows, FlowTable):
            source: FlowTable | FlowFile = flows
        else:
            source = FlowFile(flows) if Path(flows).suffix.lower() == ".parquet" else read_table(flows)
        return _write_capture(source, path, file_format, options or CaptureOptions(), ground_truth, progress)
    flows = flows if isinstance(flows, FlowTable) else read_table(flows)
    card_file = data_card_path(path) if card else None
    if file_format == FORMATS[".parquet"]:
        # the card is moved into place after the table: neither exists without the other
        with atomic_file(card_file) if card_file else contextlib.nullcontext() as temporary:
            if temporary:
                temporary.write_bytes(data_card(flows, path.name).encode("utf-8", "backslashreplace"))
            flows.write(path, force=force)
    else:
        with atomic_file(path) as temporary:
            write_csv(flows, temporary)
    return WriteResult(path, file_format, len(flows), None, path.stat().st_size, card=card_file)


def _write_capture(
    source: FlowTable | FlowFile,
    path: Path,
    file_format: str,
    options: CaptureOptions,
    ground_truth: bool,
    progress: Progress | None,
) -> WriteResult:
    flows = source.flows if isinstance(source, FlowFile) else source
    size = estimate_capture_bytes(source, options)
    if size > LARGE_CAPTURE_BYTES and ", " not in file_format:
        message = f"{path} will take about {size / 10**9:.1f} GB; a name that ends in .zst compresses it"
        warnings.warn(message, stacklevel=3)

    truth_paths: tuple[Path, ...] = ()
    if str(path) == STDOUT:
        stream, size = write_capture(source, None, options, file_format, progress=progress)
    else:
        truth_paths = ground_truth_paths(path) if ground_truth else ()
        with contextlib.ExitStack() as stack:  # the capture is moved into place last, after its ground truth
            temporary = stack.enter_context(atomic_file(path))
            truth_files = [stack.enter_context(atomic_file(truth_path)) for truth_path in truth_paths]
            try:
                stream, _ = write_capture(source, temporary, options, file_format, progress=progress)
            except OSError as error:  # otherwise the error would name the ground truth
                raise output_error(path, error) from error
            if truth_files:
                rows = ground_truth_table(stream.ground_truth, flows, stream.endpoints, options.seed)
                metadata = {"capture": path.name, **capture_metadata(flows.metadata, options)}
                write_ground_truth(rows, metadata, *truth_files)
        size = path.stat().st_size
    return WriteResult(
        path, file_format, len(flows), stream.packets, size, dict(stream.repairs),
        ground_truth=truth_paths, connections=stream.ground_truth.connections,
    )  # fmt: skip
