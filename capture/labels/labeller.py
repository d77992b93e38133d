"""Label the rows of a table by label file, folder, file name or server name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from netgen.capture.errors import InputError
from netgen.capture.labels.options import LabelOptions, check_label
from netgen.capture.names.class_table import ClassTable

LABEL_BY = ("folder", "file", "sni")

#: Suffixes of capture files; a name may have several (``a.pcap.gz``).
SUFFIXES = frozenset(
    (".pcap", ".pcapng", ".cap", ".dmp", ".dump", ".ntar", ".gz", ".zst", ".zstd", ".xz", ".bz2", ".lz4", ".zip")
)


def file_stem(path: str | os.PathLike[str]) -> str:
    """Return a capture file's name without its suffixes: ``netflix`` for ``netflix.pcap.gz``."""
    path = Path(path)
    while path.suffix.lower() in SUFFIXES and path.stem:
        path = path.with_suffix("")
    return path.name


def folder_name(path: str | os.PathLike[str]) -> str:
    """Return the name of a file's folder."""
    return Path(path).absolute().parent.name


class Labeller:
    """Labels rows by the first of these that knows a label: label file; folder, file or server name; fixed label."""

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
                f"a label file labels flows, so it cannot label a {group_by}", "Leave out --group-by, or --labels"
            )
        if sni_table is not None and label_by != "sni":
            raise InputError(f"the table {sni_table} is not used", "Add --label-by sni")
        if labels is None and options != LabelOptions():
            raise InputError("--labels-... options need a label file", "Add --labels FILE.csv")
        self.label = label
        self.label_by = label_by
        self.file = None
        if labels is not None:
            from netgen.capture.labels.label_file import LabelFile  # slow to import, and rarely needed

            self.file = LabelFile(labels, options)
        self.classes = ClassTable(sni_table) if label_by == "sni" else None

    def __call__(self, path: Path, columns: dict[str, Any]) -> list[str | None]:
        """Return the label of each row of a capture, or None; `columns` are those of `FlowRows.columns`."""
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

    def warnings(self) -> Counter[str]:
        """Return how the label file was read, and how much of it matched the flows of all calls."""
        return self.file.warnings if self.file is not None else Counter()


def check_label_by(label_by: str | None) -> None:
    """Refuse an unknown value of --label-by."""
    if label_by is not None and label_by not in LABEL_BY:
        raise InputError(f"--label-by {label_by!r} is not known", f"Choose one of {', '.join(LABEL_BY)}")


def first_known(*choices: Iterable[str | None]) -> list[str | None]:
    """Return the first label of each row that is not None, from several columns."""
    return [next((label for label in row if label is not None), None) for row in zip(*choices, strict=True)]
