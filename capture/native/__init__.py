"""The reader's innermost loops, compiled if netgen was installed where there is a C compiler (``hatch_build.py``).

Call the functions of `packets`, `flows` and `tables`. Each runs compiled code, or the plain Python version in `plain`.
"""

from netgen.capture.native.compiled import ready

__all__ = ["ready"]
