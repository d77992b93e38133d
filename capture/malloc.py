"""Memory of arrays that come and go: kept by the process, for the next ones."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
_LARGEST = 64 << 20

#: Bytes of freed tensors to keep while a network runs: what a step of training makes and drops.
TENSOR_BYTES = 512 << 20


def keep_freed_memory(kept: int = 64 << 20) -> None:
    """Let the C library keep so many bytes that are freed, instead of giving them back at once.

    Arrays of a stretch of packets are as large as what glibc takes from the system one by one, and
    each comes back as pages of zeros: 3 % of the CPU time of an extraction. It is for a process of
    netgen's own to ask for, and nothing happens with another C library.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM_THRESHOLD, kept)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_ARENA_MAX, 1)  # threads hand arrays to each other, and each would keep its own
