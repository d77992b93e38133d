"""Write files completely or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netgen.capture.errors import OutputError


def check_output(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Raise an `OutputError` if the folder is missing, the path is a folder, or the file exists and not `force`."""
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(
            f"cannot write {path}: the folder {path.parent} does not exist",
            f"Make it first: mkdir -p {path.parent}",
        )
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder", "Name a file in it")
    if path.exists() and not force:
        raise OutputError(f"{path} exists already", "Name another with -o, or add --force to replace it")
    return path


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if no error occurs.

    The temporary file is synced before the rename, so after a crash the file is either the old
    one or the new one. Errors of the file system become :class:`OutputError`.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise output_error(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def output_error(path: Path, error: OSError) -> OutputError:
    """Convert an error of the file system to one that says what could not be written, and what to do."""
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        hint = "Free some space or write elsewhere with -o; nothing was left behind"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR):
        hint = f"Make the folder first: mkdir -p {path.parent}"
    else:
        hint = "Write elsewhere with -o; nothing was left behind"
    return OutputError(f"cannot write {path}: {reason}", hint)
