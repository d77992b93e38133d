"""Fixtures of the tests of netgen.capture: both versions of the reader, full disks, commands that fail."""

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.commands import one_error_line


@pytest.fixture(scope="module", params=["compiled", "numpy"])
def either_reader(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests of a module twice: with the compiled reader, and with its NumPy replacement."""
    from netgen.capture.native import compiled

    if request.param == "compiled":
        if not compiled.ready():
            pytest.skip("the compiled reader is not built: install netgen with a C compiler")
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 64 kB and return its folder, to provoke the errors of a full disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("there is no mount command here, so no small disk can be had")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small disk takes root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="session")
def size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Context: no file of this process may grow over so many bytes; works without root, unlike `small_disk`."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make an empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def inputs(tmp_path: Path, tiny_flows: Any, tiny_model_file: Path, packet: Any, pcap_file: Any) -> Any:
    """Write an input for every command: a capture, a trace, a flow table and a model."""
    pcap_file(
        [(1_700_000_000 * 10**9 + index * 20_000_000, packet.udp4(5000, 53, bytes(700))) for index in range(9)],
        "in/a.pcap",
    )
    folder = tmp_path / "in"
    (folder / "t.csv").write_text("time,size\n0,60\n1,-1500\n")
    tiny_flows.write(folder / "t.parquet")
    shutil.copy(tiny_model_file, folder / "m.safetensors")
    return folder


@pytest.fixture
def fault(netgen_command: Any) -> Any:
    """Return a function that runs a command which must fail, and returns its one-line error."""

    def run(*words: Any) -> Any:
        outcome = netgen_command(*words)
        assert outcome.code == 1, outcome
        assert not outcome.out or outcome.out.startswith("Training will end")  # the plan comes before the fault
        return one_error_line(outcome.err)

    return run
