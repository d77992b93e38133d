"""The class of each row of a table, by all the ways of labelling that were asked for."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from capture.classes import ClassTable
from capture.errors import InputError
from capture.labels import LabelFile, LabelOptions, check_label_by, file_stem, first_known, folder_name
from capture.tablerows import Rows


class Labeller:
    """The ways of labelling that were asked for, in order: labels file, file or server name, fixed."""

    def __init__(
        self,
        by: str,
        label: str | None,
        label_by: str | None,
        labels: str | os.PathLike[str] | None,
        sni_table: str | os.PathLike[str] | None,
        options: LabelOptions,
    ) -> None:
        check_label_by(label_by)
        if labels is not None and by != "flow":
            raise InputError(f"a labels file names flows, so it cannot label a {by}", "Leave out --by, or --labels")
        if sni_table is not None and label_by != "sni":
            raise InputError(f"the table {sni_table} is not used", "Add --label-by sni")
        if labels is None and options != LabelOptions():
            raise InputError("how to read a labels file was said, but none was named", "Add --labels FILE.csv")
        self.label = label
        self.label_by = label_by
        self.file = LabelFile(labels, options) if labels is not None else None
        self.classes = ClassTable(sni_table) if label_by == "sni" else None

    def __call__(self, path: Path, rows: Rows) -> list[str | None]:
        """The class of each row of a capture, or None."""
        choices: list[list[str | None]] = []
        count = len(rows)
        if self.file is not None:
            ends = (rows.columns[name].to_pylist() for name in ("src", "src_port", "dst", "dst_port", "protocol"))
            choices.append(self.file.classes_of(*ends, rows.start_ns.tolist(), rows.duration_ns.tolist()))
        if self.label_by == "folder":
            choices.append([folder_name(path)] * count)
        elif self.label_by == "file":
            choices.append([file_stem(path)] * count)
        elif self.classes is not None:
            choices.append([self.classes.class_of(name) for name in rows.columns["name"].to_pylist()])
        return first_known(*choices, [self.label] * count)

    def notes(self) -> Counter[str]:
        """How the labels file was read, and what of it matched the flows of all calls."""
        return self.file.notes if self.file is not None else Counter()
