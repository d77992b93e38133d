"""Fixtures of the tests of netgen.capture: both versions of the reader, and disks that are full."""

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest


@pytest.fixture(scope="module", params=["compiled", "numpy"])
def either_reader(request: pytest.FixtureRequest) -> Iterator[None]:
    """The tests of a module once with the compiled part of the reader, and once with NumPy in its place."""
    from netgen.capture.native import compiled

    if request.param == "compiled":
        if not compiled.ready():
            pytest.skip("the compiled part of the reader is not built: install netgen where there is a C compiler")
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "library", lambda: None)
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of a file system of its own, of 64 kB; what the kernel says there is what a full disk says."""
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
