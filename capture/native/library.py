"""The compiled library: found, checked and called."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterable

import numpy as np

from capture.spare import LIBRARY, SWITCH

#: The number that the library must say it is: another one was left by another version of netgen.
VERSION = 1


@functools.cache
def _library() -> ctypes.CDLL | None:
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        library = ctypes.CDLL(os.fspath(LIBRARY))
        return library if library.netgen_version() == VERSION else None
    except (OSError, AttributeError):  # not built, or for another machine
        return None


def ready() -> bool:
    """Whether the library is there."""
    return _library() is not None


def call(name: str, *arguments: np.ndarray | int) -> int:
    """What a function of the library returns; arrays go by their address, numbers as 64 bits."""
    function = getattr(_library(), f"netgen_{name}")
    function.restype = ctypes.c_int64
    found: int = function(
        *(
            ctypes.c_void_p(each.ctypes.data) if isinstance(each, np.ndarray) else ctypes.c_int64(each)
            for each in arguments
        )
    )
    return found


def addresses(columns: Iterable[np.ndarray]) -> np.ndarray:
    """Arrays as a struct of pointers to them; they must be kept for as long as it is used."""
    return np.array([each.ctypes.data for each in columns], np.uintp)
