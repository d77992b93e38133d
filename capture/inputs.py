"""Which files are meant by the paths that a person names."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from netgen.capture.errors import CaptureError
from netgen.capture.formats.source import STDIN

HINT = "Name a pcap or pcapng file, or a folder that holds some"


@dataclasses.dataclass(frozen=True)
class Input:
    """A file to read.

    Parameters
    ----------
    path : Path
        Where it is.
    source : str
        As the flow table names it.
    named : bool
        By itself, not found in a folder.
    size : int
        Bytes of it; 0 for a pipe, whose length nobody knows.
    """

    path: Path
    source: str
    named: bool
    size: int


def find_inputs(paths: list[str | os.PathLike[str]]) -> list[Input]:
    """Every file that was named or lies in a folder that was, in a fixed order.

    Raises
    ------
    CaptureError
        If there is none, or a path does not exist.
    """
    if not paths:
        raise CaptureError("no capture was named", HINT)
    found: list[Input] = []
    for given in paths:
        path = Path(given)
        if str(given) == STDIN:
            found.append(Input(path, "stdin", named=True, size=0))
        elif path.is_dir():
            files = sorted(each for each in path.rglob("*") if each.is_file())
            if not files:
                raise CaptureError(f"the folder {path} is empty", HINT)
            name = Path(path.absolute().name)
            found += [
                Input(each, (name / each.relative_to(path)).as_posix(), named=False, size=each.stat().st_size)
                for each in files
            ]
        elif path.exists():
            found.append(Input(path, str(given), named=True, size=path.stat().st_size if path.is_file() else 0))
        else:
            raise CaptureError(f"{path} does not exist", HINT)
    seen = set[Path]()
    for each in found:
        file = each.path.resolve()
        if file in seen:
            called = "standard input" if str(each.path) == STDIN else str(each.path)
            raise CaptureError(f"{called} was named twice: its packets would count twice", "Name it once")
        seen.add(file)
    return found
