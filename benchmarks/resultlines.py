"""Results of long benchmarks: one JSON line per finished job, so that a restarted benchmark can continue."""

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
    """Read the lines of a file; leave out one that a crash cut short."""
    lines = []
    for number, text in enumerate(path.read_text().splitlines() if path.is_file() else [], 1):
        try:
            lines.append(json.loads(text))
        except ValueError:
            print(f"{path}, line {number} is cut short; it is left out", file=sys.stderr)
    return lines


def append(path: Path, line: Line) -> None:
    """Append a line, and flush it to disk; several processes may write to one file."""
    torn = path.is_file() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
    with path.open("a") as stream:
        stream.write("\n" * bool(torn) + json.dumps(line) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def commit() -> str:
    """Return the commit of netgen, with a hash of the changes to Python files since."""

    def git(*words: str) -> str:
        folder = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout

    changes = git("diff", "HEAD", "--", "*.py")
    changed = f"+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else ""
    return git("rev-parse", "--short=10", "HEAD").strip() + changed
