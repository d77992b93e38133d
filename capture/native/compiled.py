"""Load the compiled library of the reader, if it is there and may be used.

netgen's build runs this file by itself (``hatch_build.py``), so it imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import zlib
from pathlib import Path

#: The library, and its sources.
LIBRARY = Path(__file__).with_name("reader.so")
SOURCES = [Path(__file__).with_name(f"{name}.c") for name in ("packets", "flows", "tables")]

#: Environment variable; 0 switches the library off.
SWITCH = "NETGEN_COMPILED"


def fingerprint() -> int:
    """Return the CRC-32 of the C sources, which is compiled into the library: a stale build is rejected."""
    return zlib.crc32(b"".join(source.read_bytes() for source in SOURCES))


def is_disabled() -> bool:
    """Tell whether the environment switches the library off."""
    return os.environ.get(SWITCH) == "0"


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the library; None if it is missing, stale, for another machine, or switched off."""
    if is_disabled() or sys.byteorder != "little":
        return None
    try:
        loaded = ctypes.CDLL(os.fspath(LIBRARY))
        loaded.netgen_sources.restype = ctypes.c_uint32
        return loaded if loaded.netgen_sources() == fingerprint() else None
    except (OSError, AttributeError):
        return None


def ready() -> bool:
    """Tell whether compiled code is used."""
    return library() is not None
