"""One call for every format: the ending of the path says which."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

from capture.errors import OutputError
from capture.files import check_output, whole_file
from capture.flows import FlowTable
from exporters.card import card as card_of
from exporters.card import card_path
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
    card : Path or None
        The data card beside it.
    """

    path: Path
    format: str
    flows: int
    packets: int | None
    bytes_written: int
    mended: dict[str, int] = dataclasses.field(default_factory=dict)
    card: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {**dataclasses.asdict(self), "path": str(self.path), "card": str(self.card) if self.card else None}


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


def check_outputs(path: str | os.PathLike[str], *, card: bool = False, force: bool = False) -> str:
    """Refuse early what `write` would refuse; the format that the ending names.

    Raises
    ------
    OutputError
        If the ending names no format or none that has a card, or a file cannot be written there.
    """
    form = check_ending(path)
    path = check_output(path, force=force)
    if card:
        if form != FORMATS[".parquet"]:
            raise OutputError(f"{path} cannot have a data card: only Parquet has one", "End the name in .parquet")
        check_output(card_path(path), force=force)
    return form


def write(
    table: FlowTable,
    path: str | os.PathLike[str],
    *,
    seed: int = 0,
    force: bool = False,
    start_ns: int | None = None,
    card: bool = False,
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
        Replace files that exist.
    start_ns : int, optional
        When a capture's flows without a start time begin to arrive, ns since 1970.
    card : bool
        Write a data card beside a Parquet file, ``NAME.card.md``: what is in it, how it was made,
        and what it is not.

    Raises
    ------
    OutputError
        If the ending names no format, or a file cannot be written there.
    """
    form = check_outputs(path, card=card, force=force)
    path = Path(path)
    beside = card_path(path) if card else None
    packets: int | None = None
    mended: dict[str, int] = {}
    if form == FORMATS[".parquet"]:
        # the card appears when the table has: neither is there without the other
        with whole_file(beside) if beside else contextlib.nullcontext() as temporary:
            if temporary:
                temporary.write_bytes(card_of(table, path.name).encode("utf-8", "backslashreplace"))
            table.write(path, force=force)
    elif form == FORMATS[".csv"]:
        with whole_file(path) as temporary:
            write_csv(table, temporary)
    else:
        planned = plan(table, seed=seed)
        mended = planned.mended
        with whole_file(path) as temporary:
            packets = write_pcap(table, planned, temporary, start_ns=start_ns)
    return WriteReport(path, form, len(table), packets, path.stat().st_size, mended, beside)
