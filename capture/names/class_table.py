"""Server names to classes, by the longest suffix in a table."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from netgen.capture.errors import InputError

#: The bundled table: suffix of a server name -> class.
BUNDLED_TABLE = Path(__file__).with_name("sni_classes.csv")


class ClassTable:
    """Suffixes of server names and their classes; rows of the CSV file `user` (``suffix,class``) come first.

    The longest suffix of whole labels wins: ``nflxvideo.net`` is a suffix of ``a.nflxvideo.net`` and not of
    ``notnflxvideo.net``. It is an InputError if the file cannot be read, or has a bad row.
    """

    def __init__(self, user: str | os.PathLike[str] | None = None) -> None:
        self._tables = [_read_table(Path(user))] if user is not None else []
        self._tables.append(_read_table(BUNDLED_TABLE))

    def class_of(self, name: str | None) -> str | None:
        """Return the class of a server name, or None."""
        if not name:
            return None
        labels = name.lower().strip(".").split(".")
        for table in self._tables:
            for first in range(len(labels)):
                suffix = ".".join(labels[first:])
                if suffix in table:
                    return table[suffix]
        return None


def _read_table(path: Path) -> dict[str, str]:
    hint = "Write one suffix,class a line, such as nflxvideo.net,netflix"
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the table of server names {path}: {error}", hint) from error
    table = {}
    for number, row in enumerate(rows, start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#") or (number == 1 and cells[:2] == ["suffix", "class"]):
            continue
        suffix = cells[0].lower().removeprefix("*").strip(".")
        if len(cells) != 2 or not suffix or not cells[1]:
            raise InputError(f"{path}, line {number}: {','.join(row)!r} is not a suffix and a class", hint)
        table[suffix] = cells[1]
    return table
