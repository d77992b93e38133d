"""The clock of a capture: how much time has passed, whatever the time stamps say.

Time stamps of real captures run backwards, are 0, or jump by years. Timeouts need a clock that only
goes forward. It shows the latest time seen; after a stamp far in the future, its reference is set back without
the clock going back (``docs/flows.md``, rule 5).
"""

from __future__ import annotations

import numpy as np

from netgen.capture.native import flows as native_flows

#: Packets of the file, IP or not, that are compared together.
BLOCK = 1024

_NEVER = -(1 << 62)


class Clock:
    """Nanoseconds passed since the first time stamp.

    A block of packets stamped further back than `slack_ns` sets the reference back. A step of the clock is `stride_ns`
    at most, so that no number of wild time stamps overflows it.
    """

    def __init__(self, slack_ns: int, stride_ns: int) -> None:
        self._slack_ns = slack_ns
        self._stride_ns = stride_ns
        # latest time stamp, block of packets, latest stamp in that block, what the clock shows
        self._state = np.array([_NEVER, 0, _NEVER, 0], np.int64)

    @property
    def now(self) -> int:
        """What the clock shows at the last packet."""
        return int(self._state[3])

    def advance(self, time_ns: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Return what the clock shows at each of the next packets, int64, not descending; the last is `now`.

        Packet numbers do not descend either, time stamps may.
        """
        limits = {"slack_ns": self._slack_ns, "stride_ns": self._stride_ns}
        return native_flows.advance_clock(time_ns, number, self._state, block=BLOCK, never=_NEVER, **limits)
