"""Memory of arrays that come and go: kept by the process, for the next ones."""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 64 << 20


def keep_freed() -> None:
    """Let the C library keep up to 64 MB that is freed, instead of giving it back at once.

    Arrays of a stretch of packets are as large as what glibc takes from the system one by one, and
    each comes back as pages of zeros: a tenth of the time of an extraction. It is for a process of
    netgen's own to ask for, and nothing happens with another C library.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            library.mallopt(option, _KEPT)
