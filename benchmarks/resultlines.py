"""Results of long benchmarks: a JSON line a finished job, so that one started again goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def read(path: Path) -> list[Line]:
    """The lines of a file; one that a crash cut short is left out."""
    lines = []
    for number, text in enumerate(path.read_text().splitlines() if path.is_file() else [], 1):
        try:
            lines.append(json.loads(text))
        except ValueError:
            print(f"{path}, line {number} was cut short, and is left out", file=sys.stderr)
    return lines


def append(path: Path, line: Line) -> None:
    """A line more, on the disk when this returns; several processes may write to one file."""
    torn = path.is_file() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
    with path.open("a") as stream:
        stream.write("\n" * bool(torn) + json.dumps(line) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def commit() -> str:
    """netgen's commit; where Python files were changed since, with a fingerprint of the changes."""

    def git(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout

    changes = git("diff", "HEAD", "--", "*.py")
    changed = f"+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else ""
    return git("rev-parse", "--short=10", "HEAD").strip() + changed
