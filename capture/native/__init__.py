"""The reader's innermost loops, compiled: the same numbers as in NumPy, sooner.

`packets.c` and `flows.c` become one library when netgen is installed, where there is a C compiler
(``hatch_build.py``). Where there is none, NumPy does the same: each function names its twin.
"""

from capture.native.library import ready

__all__ = ["ready"]
