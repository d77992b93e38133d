"""netgen.capture.files: a file appears whole or not at all, and what was there before survives."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netgen.capture.errors import OutputError
from netgen.capture.files import atomic_file, check_output

MEGABYTE = bytes(1 << 20)


@pytest.fixture
def old(tmp_path: Path) -> Any:
    """Return a file that is to be replaced, alone in its folder."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "x.bin"
    path.write_bytes(b"old")
    return path


def write_half(path: Any, error: Any) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"ha")
        raise error


def survived(path: Any) -> Any:
    return path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_the_new_file_appears_at_the_end_and_not_before(old: Any) -> None:
    with atomic_file(old) as temporary:
        temporary.write_bytes(b"new")
        assert old.read_bytes() == b"old"
        assert temporary.parent == old.parent  # a rename across file systems would not be atomic
    assert old.read_bytes() == b"new"
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_whatever_is_raised_while_writing_nothing_half_written_is_left(error: Any, old: Any) -> None:
    """The error itself goes on unchanged."""
    with pytest.raises(error):
        write_half(old, error)
    assert survived(old)


def test_a_new_file_that_fails_leaves_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half-way"):
        write_half(tmp_path / "x.bin", ValueError("half-way"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_gives_a_hint(small_disk: Any) -> None:
    old = small_disk / "x.bin"
    old.write_bytes(b"old")
    with (
        pytest.raises(OutputError, match=r"cannot write .*x\.bin: No space left on device\. Free some space") as caught,
        atomic_file(old) as temporary,
    ):
        temporary.write_bytes(MEGABYTE)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert survived(old)


def test_a_read_only_disk_is_an_output_error(small_disk: Any) -> None:
    """Even where root asks."""
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(OutputError, match="Read-only file system"), atomic_file(small_disk / "x.bin"):
        pytest.fail("a file was opened on a disk that takes none")
    assert list(small_disk.iterdir()) == []


def test_a_file_that_may_not_grow_leaves_the_old_one(old: Any, size_limit: Any) -> None:
    """The same as a full disk, without root: the kernel refuses to let the file grow."""
    with pytest.raises(OutputError, match="File too large"), size_limit(1 << 16), atomic_file(old) as temporary:
        temporary.write_bytes(MEGABYTE)
    assert survived(old)


def test_a_killed_process_leaves_the_old_file(old: Any) -> None:
    """Not even Python's cleaning up is needed for the old file to be whole."""
    program = (
        "import os, signal, sys; from netgen.capture.files import atomic_file\n"
        "with atomic_file(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'ha'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, old], check=False)
    assert done.returncode == -signal.SIGKILL
    assert old.read_bytes() == b"old"


def test_a_missing_folder_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "no" / "x.bin"
    for write in (lambda: atomic_file(path).__enter__(), lambda: check_output(path)):
        with pytest.raises(OutputError, match=r"Make .*: mkdir -p .*/no$"):
            write()
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be_is_an_output_error(old: Any) -> None:
    with pytest.raises(OutputError, match="Not a directory"), atomic_file(old / "y.bin"):
        pytest.fail("a file was opened inside a file")
    with pytest.raises(OutputError, match="does not exist"):
        check_output(old / "y.bin")
    assert survived(old)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(umask: int, tmp_path: Path) -> None:
    """Not the 0600 of a temporary file."""
    before = os.umask(umask)
    try:
        with atomic_file(tmp_path / "x.bin") as temporary:
            temporary.write_bytes(b"new")
        plain = tmp_path / "plain"
        plain.touch()
    finally:
        os.umask(before)
    mode = stat.S_IMODE((tmp_path / "x.bin").stat().st_mode)
    assert mode == 0o666 & ~umask == stat.S_IMODE(plain.stat().st_mode)


def test_an_output_is_refused_before_any_work(old: Any) -> None:
    """A file that exists, unless forced; a folder in any case."""
    with pytest.raises(OutputError, match=r"x\.bin exists already\. Name another with -o, or add --force"):
        check_output(old)
    assert check_output(old, force=True) == old
    assert check_output(str(old.parent / "new.bin")) == old.parent / "new.bin"
    for force in (False, True):
        with pytest.raises(OutputError, match="it is a folder"):
            check_output(old.parent, force=force)
    assert survived(old)
