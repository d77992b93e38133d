"""One call for every format: the ending of the path says which."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

from netgen.capture.errors import OutputError
from netgen.capture.files import check_output, output_error, whole_file
from netgen.capture.table.flow_table import FlowTable
from netgen.exporters.pcap.capture_file import Form, Progress, capture_notes, write_capture
from netgen.exporters.pcap.flow_file import FlowFile
from netgen.exporters.pcap.ground_truth import ground_truth_paths, ground_truth_table, write_ground_truth
from netgen.exporters.pcap.options import CaptureOptions
from netgen.exporters.tables.csv_file import write_csv
from netgen.exporters.tables.data_card import card as card_of
from netgen.exporters.tables.data_card import data_card_path

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

#: Instead of a path: a pcap to standard output.
STDOUT = "-"


@dataclasses.dataclass(frozen=True)
class WriteResult:
    """What was written.

    Parameters
    ----------
    path : Path
    format : str
        One of the values of `FORMATS`.
    flows : int
    packets : int or None
        Packets in a capture; None for tables.
    bytes_written : int
        Size of the file.
    repairs : dict
        Reason -> flows that had to be changed for it before packets could carry them.
    card : Path or None
        The data card beside it.
    ground_truth : tuple of Path
        The truth about a capture beside it, as CSV and Parquet.
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
        """The report as JSON types."""
        return {
            **dataclasses.asdict(self),
            "path": str(self.path),
            "card": str(self.card) if self.card else None,
            "ground_truth": [str(each) for each in self.ground_truth],
        }


def check_ending(path: str | os.PathLike[str]) -> str:
    """The format that the ending of `path` names.

    Raises
    ------
    OutputError
        If it names none.
    """
    path = Path(path)
    if str(path) == STDOUT:
        return FORMATS[".pcap"]
    for count in (2, 1):
        ending = "".join(path.suffixes[-count:]).lower()
        if ending in FORMATS:
            return FORMATS[ending]
    found = f"the ending {path.suffix.lower()!r}" if path.suffix else "no ending"
    raise OutputError(f"cannot write {path}: {found} names no format", f"End the name in one of {', '.join(FORMATS)}")


def is_capture(path: str | os.PathLike[str]) -> bool:
    """Whether the ending of `path` names a capture."""
    return check_ending(path).startswith("pcap")


def check_outputs(
    path: str | os.PathLike[str], *, card: bool = False, ground_truth: bool = True, force: bool = False
) -> str:
    """Refuse early what `write` would refuse; the format that the ending names.

    Raises
    ------
    OutputError
        If the ending names no format or none that has a card, or a file cannot be written there.
    """
    form = check_ending(path)
    if str(path) == STDOUT:
        return form
    path = check_output(path, force=force)
    if card:
        if form != FORMATS[".parquet"]:
            raise OutputError(f"{path} cannot have a data card: only Parquet has one", "End the name in .parquet")
        check_output(data_card_path(path), force=force)
    if ground_truth and is_capture(path):
        for beside in ground_truth_paths(path):
            check_output(beside, force=force)
    return form


def write(
    table: FlowTable | FlowFile,
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    force: bool = False,
    start_ns: int | None = None,
    card: bool = False,
    ground_truth: bool = True,
    options: CaptureOptions | None = None,
    progress: Progress | None = None,
) -> WriteResult:
    """Write a flow table as Parquet, CSV or a capture, whole or not at all.

    Parameters
    ----------
    table : FlowTable or FlowFile
    path : path
        Ends in one of `FORMATS`; ``-``: a pcap to standard output.
    seed : int
        Of addresses, times and all else that a capture has and a table has not.
    force : bool
        Replace files that exist.
    start_ns : int, optional
        When the capture's first flow begins, ns since 1970.
    card : bool
        Write a data card beside a Parquet file, ``NAME.card.md``: what is in it, how it was made,
        and what it is not.
    ground_truth : bool
        Write the truth about a capture beside it, ``NAME.labels.csv`` and ``NAME.labels.parquet``.
    options : CaptureOptions, optional
        All that can be chosen of a capture; instead of `seed` and `start_ns`.
    progress : callable, optional
        Told (packets written, packets in all), of captures.

    Raises
    ------
    OutputError
        If the ending names no format, or a file cannot be written there.
    """
    form = check_outputs(path, card=card, ground_truth=ground_truth, force=force)
    path = Path(path)
    if form.startswith("pcap"):
        chosen = CaptureOptions(seed=seed, start_ns=start_ns) if options is None else options
        return _write_capture(table, path, form, chosen, ground_truth, progress)
    if isinstance(table, FlowFile):
        table = FlowTable.read(table.path)
    beside = data_card_path(path) if card else None
    if form == FORMATS[".parquet"]:
        # the card appears when the table has: neither is there without the other
        with whole_file(beside) if beside else contextlib.nullcontext() as temporary:
            if temporary:
                temporary.write_bytes(card_of(table, path.name).encode("utf-8", "backslashreplace"))
            table.write(path, force=force)
    else:
        with whole_file(path) as temporary:
            write_csv(table, temporary)
    return WriteResult(path, form, len(table), None, path.stat().st_size, card=beside)


def _write_capture(
    table: FlowTable | FlowFile,
    path: Path,
    form: str,
    options: CaptureOptions,
    ground_truth: bool,
    progress: Progress | None,
) -> WriteResult:
    kind, _, compression = form.partition(", ")
    how = Form(kind == "pcapng", compression or None)
    if str(path) == STDOUT:
        written = write_capture(table, None, options, how, progress=progress)
        return WriteResult(
            path, form, len(table), written.packets, written.bytes, written.repairs,
            connections=written.truth.connections,
        )  # fmt: skip
    beside = ground_truth_paths(path) if ground_truth else ()
    with contextlib.ExitStack() as stack:  # the capture appears last: what lies beside it is there when it is
        temporary = stack.enter_context(whole_file(path))
        truths = [stack.enter_context(whole_file(each)) for each in beside]
        try:
            written = write_capture(table, temporary, options, how, progress=progress)
        except OSError as error:  # else it would be said of what lies beside it
            raise output_error(path, error) from error
        if truths:
            rows = ground_truth_table(written.truth, table, written.ends, options.seed)
            write_ground_truth(rows, {"capture": path.name, **capture_notes(table.metadata, options)}, *truths)
    return WriteResult(
        path, form, len(table), written.packets, path.stat().st_size, written.repairs, ground_truth=tuple(beside),
        connections=written.truth.connections,
    )  # fmt: skip
