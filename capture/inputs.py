"""Find the capture files among named files and folders."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from netgen.capture.errors import CaptureError
from netgen.capture.formats.source import STDIN

HINT = "Name a pcap or pcapng file, or a folder that holds some"


@dataclasses.dataclass(frozen=True)
class Input:
    """A file to read."""

    path: Path
    source: str  # its name in the flow table
    named: bool  # whether it was named itself, rather than its folder
    size: int  # in bytes; 0 for a pipe


def find_inputs(paths: list[str | os.PathLike[str]]) -> list[Input]:
    """Return every named file, and every file in a named folder, in a fixed order; a CaptureError if there is none."""
    if not paths:
        raise CaptureError("no capture was named", HINT)
    inputs: list[Input] = []
    for given in paths:
        path = Path(given)
        if str(given) == STDIN:
            inputs.append(Input(path, "stdin", named=True, size=0))
        elif path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            if not files:
                raise CaptureError(f"the folder {path} is empty", HINT)
            name = Path(path.absolute().name)
            inputs += [
                Input(file, (name / file.relative_to(path)).as_posix(), named=False, size=file.stat().st_size)
                for file in files
            ]
        elif path.exists():
            inputs.append(Input(path, str(given), named=True, size=path.stat().st_size if path.is_file() else 0))
        else:
            raise CaptureError(f"{path} does not exist", HINT)
    seen = set[Path]()
    for item in inputs:
        file = item.path.resolve()
        if file in seen:
            name_shown = "standard input" if str(item.path) == STDIN else str(item.path)
            raise CaptureError(f"{name_shown} was named twice: its packets would count twice", "Name it once")
        seen.add(file)
    return inputs
