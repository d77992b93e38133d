"""The compiled library, called."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import numpy as np

from netgen.capture.native import compiled


def call(name: str, *arguments: np.ndarray | int) -> int:
    """What a function of the library returns; arrays go by their address, numbers as 64 bits."""
    function = getattr(compiled.library(), f"netgen_{name}")
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
