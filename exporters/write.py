"""One call for every format: the ending of the path says which."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from capture.errors import OutputError
from capture.files import check_output, whole_file
from capture.flows import FlowTable
from exporters.pcap import write_pcap
from exporters.plan import plan
from exporters.table_csv import write_csv

#: Ending -> format.
FORMATS = {".parquet": "Parquet flow table", ".csv": "CSV", ".pcap": "pcap"}


@dataclasses.dataclass(frozen=True)
class WriteReport:
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
    mended : dict
        Reason -> flows that had to be changed for it before packets could carry them.
    """

    path: Path
    format: str
    flows: int
    packets: int | None
    bytes_written: int
    mended: dict[str, int] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {**dataclasses.asdict(self), "path": str(self.path)}


def check_ending(path: str | os.PathLike[str]) -> str:
    """The format that the ending of `path` names.

    Raises
    ------
    OutputError
        If it names none.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FORMATS:
        found = f"the ending {ending!r}" if ending else "no ending"
        raise OutputError(
            f"cannot write {path}: {found} names no format", f"End the name in one of {', '.join(FORMATS)}"
        )
    return FORMATS[ending]


def write(
    table: FlowTable,
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    force: bool = False,
    start_ns: int | None = None,
) -> WriteReport:
    """Write a flow table as Parquet, CSV or pcap, whole or not at all.

    Parameters
    ----------
    table : FlowTable
    path : path
        Ends in ``.parquet``, ``.csv`` or ``.pcap``.
    seed : int
        Of addresses, times and all else that a capture has and a table has not.
    force : bool
        Replace a file that exists.
    start_ns : int, optional
        When a capture's flows without a start time begin to arrive, ns since 1970.

    Raises
    ------
    OutputError
        If the ending names no format, or the file cannot be written there.
    """
    form = check_ending(path)
    path = check_output(path, force=force)
    packets: int | None = None
    mended: dict[str, int] = {}
    if form == FORMATS[".parquet"]:
        table.write(path, force=force)
    elif form == FORMATS[".csv"]:
        with whole_file(path) as temporary:
            write_csv(table, temporary)
    else:
        planned = plan(table, seed=seed)
        mended = planned.mended
        with whole_file(path) as temporary:
            packets = write_pcap(table, planned, temporary, start_ns=start_ns)
    return WriteReport(path, form, len(table), packets, path.stat().st_size, mended)
