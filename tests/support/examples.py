"""Number of hypothesis examples of a test: a third by default, all of them with ``pytest -m ""``."""

import os

ALL_EXAMPLES = "NETGEN_ALL_EXAMPLES"


def examples(number: int) -> int:
    return number if os.environ.get(ALL_EXAMPLES) else max(5, number // 3)
