"""The reader's innermost loops, compiled: the same numbers as in NumPy, sooner.

`packets.c`, `flows.c` and `tables.c` become one library when netgen is installed, where there is a C compiler
(``hatch_build.py``). Where there is none, NumPy does the same: each function names its twin.
"""

from netgen.capture.native.compiled import ready

__all__ = ["ready"]
