"""The class of each row of a table, by all the ways of labelling that were asked for."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from netgen.capture.errors import InputError
from netgen.capture.names.class_table import ClassTable
from netgen.capture.series.spec import parse_duration

LABEL_BY = ("folder", "file", "sni")

#: Endings of capture files, stripped from a name however many there are (``a.pcap.gz``).
ENDINGS = frozenset(
    (".pcap", ".pcapng", ".cap", ".dmp", ".dump", ".ntar", ".gz", ".zst", ".zstd", ".xz", ".bz2", ".lz4", ".zip")
)


@dataclasses.dataclass(frozen=True)
class LabelOptions:
    """How a labels file is to be read where it does not say so itself.

    Parameters
    ----------
    zone : str
        Of times that have none: ``UTC``, ``-03:00`` or a name such as ``Europe/Berlin``.
    offset_ns : int
        Added to the file's times to get the capture's.
    times : str, optional
        Format of the times, as of `datetime.strptime`; ``%I`` without ``%p`` are the hours of a
        working day, 8 to 11 before noon and 12 to 7 after.
    column : str, optional
        Name of the column that holds the class.
    """

    zone: str = "UTC"
    offset_ns: int = 0
    times: str | None = None
    column: str | None = None


def file_stem(path: str | os.PathLike[str]) -> str:
    """A capture file's name without its ending: ``netflix`` of ``netflix.pcap.gz``."""
    path = Path(path)
    while path.suffix.lower() in ENDINGS and path.stem:
        path = path.with_suffix("")
    return path.name


def folder_name(path: str | os.PathLike[str]) -> str:
    """The name of the folder that a file lies in."""
    return Path(path).absolute().parent.name


class Labeller:
    """The ways of labelling that were asked for, in order: labels file, file or server name, fixed."""

    def __init__(
        self,
        group_by: str,
        label: str | None,
        label_by: str | None,
        labels: str | os.PathLike[str] | None,
        sni_table: str | os.PathLike[str] | None,
        options: LabelOptions,
    ) -> None:
        check_label_by(label_by)
        check_label(label)
        if labels is not None and group_by != "flow":
            raise InputError(
                f"a labels file names flows, so it cannot label a {group_by}", "Leave out --by, or --labels"
            )
        if sni_table is not None and label_by != "sni":
            raise InputError(f"the table {sni_table} is not used", "Add --label-by sni")
        if labels is None and options != LabelOptions():
            raise InputError("how to read a labels file was said, but none was named", "Add --labels FILE.csv")
        self.label = label
        self.label_by = label_by
        self.file = None
        if labels is not None:
            from netgen.capture.labels.label_file import LabelFile  # takes long to load, and few need it

            self.file = LabelFile(labels, options)
        self.classes = ClassTable(sni_table) if label_by == "sni" else None

    def __call__(self, path: Path, columns: dict[str, Any]) -> list[str | None]:
        """The class of each of some rows of a capture, or None.

        Parameters
        ----------
        path : Path
            The capture.
        columns : dict
            What the rows are, as `netgen.capture.flows.rows.Rows.columns` tells it.
        """
        choices: list[list[str | None]] = []
        count = len(columns["start_ns"])
        if self.file is None and self.label_by is None:
            return [self.label] * count
        if self.file is not None:
            ends = (columns[name].to_pylist() for name in ("src", "src_port", "dst", "dst_port", "protocol"))
            choices.append(self.file.classes_of(*ends, columns["start_ns"].tolist(), columns["duration_ns"].tolist()))
        if self.label_by == "folder":
            choices.append([folder_name(path)] * count)
        elif self.label_by == "file":
            choices.append([file_stem(path)] * count)
        elif self.classes is not None:
            choices.append([self.classes.class_of(name) for name in columns["server_name"].to_pylist()])
        return first_known(*choices, [self.label] * count)

    @property
    def may_label(self) -> bool:
        """Whether any row can get a class."""
        return self.label is not None or self.label_by is not None or self.file is not None

    def notes(self) -> Counter[str]:
        """How the labels file was read, and what of it matched the flows of all calls."""
        return self.file.notes if self.file is not None else Counter()


def parse_offset(text: str | float) -> int:
    """``"2.5s"``, ``"-1h"`` or a number of seconds, as nanoseconds; 0 is allowed.

    Raises
    ------
    InputError
        If it is none.
    """
    match = re.fullmatch(r"\s*([+-]?)\s*(\S.*)", str(text), re.DOTALL)
    sign, digits = match.groups() if match else ("", "")
    if re.fullmatch(r"0+\.?0*\s*(ns|us|ms|s|m|h)?\s*", digits, re.IGNORECASE):
        return 0
    try:
        return -parse_duration(digits) if sign == "-" else parse_duration(digits)
    except InputError as error:
        raise InputError(f"{text!r} is no offset of a clock", "Write it like 2.5s, -250ms or -3h") from error


def check_label(label: str | None) -> None:
    """Refuse a class without a name."""
    if label is not None and not label.strip():
        raise InputError(f"{label!r} is no name of a class", "Name it, or leave it out: --label netflix")


def check_label_by(label_by: str | None) -> None:
    """Refuse a way of labelling that there is none of."""
    if label_by is not None and label_by not in LABEL_BY:
        raise InputError(f"flows cannot be labelled by {label_by!r}", f"Choose one of {', '.join(LABEL_BY)}")


def first_known(*choices: Iterable[str | None]) -> list[str | None]:
    """Row by row, the first of several columns of labels that knows one."""
    return [next((label for label in row if label is not None), None) for row in zip(*choices, strict=True)]
