"""Calls into the compiled library, and the choice between it and plain Python."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

import numpy as np

from netgen.capture.native import compiled

P = ParamSpec("P")
R = TypeVar("R")


def with_fallback(plain: Callable[P, R]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function that calls `plain`, the same function in Python, instead where there is no library."""

    def decorate(binding: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(binding)
        def choose(*args: P.args, **kwargs: P.kwargs) -> R:
            return (binding if compiled.ready() else plain)(*args, **kwargs)

        return choose

    return decorate


def call(name: str, *arguments: np.ndarray | int | None) -> int:
    """Call a function of the library. Arrays are passed as pointers, numbers as 64 bits, None as a null pointer."""
    function = getattr(compiled.library(), f"netgen_{name}")
    function.restype = ctypes.c_int64
    converted = (
        ctypes.c_void_p(argument.ctypes.data) if isinstance(argument, np.ndarray) else ctypes.c_int64(argument or 0)
        for argument in arguments
    )
    return int(function(*converted))


def addresses(columns: Iterable[np.ndarray]) -> np.ndarray:
    """Return pointers to arrays, as a C struct of them; the caller keeps the arrays alive."""
    return np.array([column.ctypes.data for column in columns], np.uintp)
