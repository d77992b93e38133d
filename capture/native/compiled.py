"""The compiled part of the reader (`netgen.capture.native`): where it is, and whether it can be used.

It is asked before NumPy is loaded, and when netgen is built, so this module loads nothing but ctypes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import zlib
from pathlib import Path

#: The library, and what it is made of.
LIBRARY = Path(__file__).with_name("reader.so")
SOURCES = [Path(__file__).with_name(f"{name}.c") for name in ("packets", "flows", "tables")]

#: Set to 0, this variable of the environment leaves the library out.
SWITCH = "NETGEN_COMPILED"


def fingerprint() -> int:
    """A number of the sources, which a library that was made of them says: an older one is not called."""
    return zlib.crc32(b"".join(source.read_bytes() for source in SOURCES))


def left_out() -> bool:
    """Whether the library is not wanted."""
    return os.environ.get(SWITCH) == "0"


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library; None if it was not built, is of other sources, is for another machine, or is to be left out."""
    if left_out() or sys.byteorder != "little":
        return None
    try:
        found = ctypes.CDLL(os.fspath(LIBRARY))
        found.netgen_sources.restype = ctypes.c_uint32
        return found if found.netgen_sources() == fingerprint() else None
    except (OSError, AttributeError):
        return None


def ready() -> bool:
    """Whether the library is there."""
    return library() is not None
