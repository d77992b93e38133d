"""Captures from pipes and from standard input give the flows of the plain file."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.extraction import extract
from support.streams import PACK, pipe, read

from netgen.capture.errors import CaptureError
from netgen.capture.table.flow_table import FlowTable

COMMAND = Path(sys.executable).with_name("netgen")


def netgen(*words: Any, data: Any) -> Any:
    """Run the command with these bytes on standard input."""
    return subprocess.run([COMMAND, *map(str, words)], input=data, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("kind", [None, "zstd"])
def test_standard_input_is_read(tmp_path: Path, plain: Any, kind: str | None) -> None:
    out = tmp_path / "o.parquet"
    ran = netgen("extract", "-", "-o", out, "--json", data=PACK[kind](plain) if kind else plain)
    assert ran.returncode == 0, ran.stderr
    path = tmp_path / "a"
    path.write_bytes(plain)
    expected, read_report = read(path)
    result = FlowTable.read(out)
    assert result.table.drop_columns("source").equals(expected.drop_columns("source"))
    assert result.metadata["read_report"] == read_report
    assert set(result.table["source"].to_pylist()) == {"stdin"}
    assert json.loads(ran.stdout)["flows"] == 7


def test_standard_input_that_holds_no_capture_is_refused(tmp_path: Path) -> None:
    ran = netgen("extract", "-", "-o", tmp_path / "o.parquet", data=b"")
    assert ran.returncode == 1
    assert ran.stderr.decode().count("\n") == 1
    assert b"not a pcap or pcapng file (empty)" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_standard_input_that_is_closed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it after `netgen extract - <&-`
    with pytest.raises(CaptureError, match="cannot read -: it is closed"):
        extract("-")


def test_standard_input_is_read_once() -> None:
    with pytest.raises(CaptureError, match="standard input was named twice"):
        extract(["-", "-"])


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("kind", [None, "gzip", "xz"])
def test_a_named_pipe_is_read(tmp_path: Path, plain: Any, kind: str | None, jobs: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(plain)
    expected = read(path)
    path.unlink()
    with pipe(path, PACK[kind](plain) if kind else plain):
        table = extract(path, threads=jobs)
    assert (table.table, table.metadata["read_report"]) == expected


def test_a_pipe_and_files_are_read_in_the_order_they_were_named(tmp_path: Path, plain: Any) -> None:
    files = [tmp_path / "a", tmp_path / "c"]
    for path in files:
        path.write_bytes(plain)
    seen = []
    with pipe(tmp_path / "b", plain) as between:
        table = extract([files[0], between, files[1]], group_by="capture", progress=lambda _, total: seen.append(total))
    assert table.table["source"].to_pylist() == [str(tmp_path / name) for name in "abc"]
    assert set(seen) == {None}  # how much a pipe will hold nobody knows


def test_a_pipe_in_a_folder_is_no_capture(tmp_path: Path, plain: Any) -> None:
    """It would wait for whoever writes to it."""
    (tmp_path / "a").write_bytes(plain)
    os.mkfifo(tmp_path / "b")
    assert extract(tmp_path).metadata["read_report"]["files"] == 1
