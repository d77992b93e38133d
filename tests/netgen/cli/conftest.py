"""Fixtures of the command line's tests."""

from pathlib import Path
from typing import Any

import pytest
from support.commands import write_capture


@pytest.fixture(scope="session")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Write captures, a folder a class."""
    folder = tmp_path_factory.mktemp("captures")
    for seed, (name, flows) in enumerate({"chat": 6, "video": 9}.items()):
        (folder / name).mkdir()
        write_capture(folder / name / "one.pcap", flows, seed)
    return folder


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make an empty current folder."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
