"""The clock of a capture: how much time has gone by, whatever the stamps say.

Time stamps of real captures run backwards, are 0, or jump by years. Timeouts need a clock that only
goes forward: it shows the latest time seen, and where it was led astray by a stamp far in the
future, it is set back without having gone back (``docs/flows.md``, rule 5).
"""

from __future__ import annotations

import numpy as np

from netgen.capture import native
from netgen.capture.native import flows

#: Packets (of the file, whether IP or not) that are looked at together.
BLOCK = 1024

_NEVER = -(1 << 62)


class Clock:
    """Nanoseconds gone by since the first time stamp.

    Parameters
    ----------
    slack_ns : int
        A block of packets stamped further back than this sets the clock back.
    stride_ns : int
        More than this the clock does not go on at once, so that no number of wild stamps overflows it.
    """

    def __init__(self, slack_ns: int, stride_ns: int) -> None:
        self._slack_ns = slack_ns
        self._stride_ns = stride_ns
        self._latest = _NEVER  # what the capture's clock stands at
        self._block = 0  # the current block, and the latest time stamp in it
        self._in_block = _NEVER
        self.now = 0

    def of(self, time_ns: np.ndarray, number: np.ndarray) -> np.ndarray:
        """What the clock shows at each of the next packets.

        Parameters
        ----------
        time_ns, number : ndarray of int64, shape (packets,)
            Time stamps, and packet numbers, not descending.

        Returns
        -------
        ndarray of int64, shape (packets,)
            Not descending; `now` is the last of them.
        """
        if not len(time_ns):
            return np.zeros(0, np.int64)
        if native.ready():
            return self._compiled(time_ns, number)
        stamp = np.where(time_ns == 0, _NEVER, time_ns)  # 0 is no time
        block = (number - 1) // BLOCK
        edges = np.flatnonzero(block[1:] != block[:-1]) + 1
        firsts = np.concatenate([[0], edges])
        if block[0] == self._block:
            stamp_of = np.maximum.reduceat(stamp, firsts)
            stamp_of[0] = max(int(stamp_of[0]), self._in_block)
        else:
            self._end_block()
            stamp_of = np.maximum.reduceat(stamp, firsts)
        shown = np.empty(len(stamp), np.int64)
        # stretches in which no block sets the clock back are done at once
        begin = 0
        while begin < len(firsts):
            highest = np.maximum.accumulate(np.maximum(stamp_of[begin:], self._latest))
            astray = np.flatnonzero(self._lies_back(stamp_of[begin:-1], highest[:-1]))
            end = begin + int(astray[0]) + 1 if astray.size else len(firsts)
            here = slice(int(firsts[begin]), int(firsts[end]) if end < len(firsts) else len(stamp))
            latest = np.maximum.accumulate(stamp[here])
            np.maximum(latest, self._latest, out=latest)
            base = self._latest if self._latest > _NEVER else self._first_of(latest)
            steps = np.diff(np.maximum(latest, base), prepend=base)
            shown[here] = self.now + np.cumsum(np.minimum(steps, self._stride_ns, out=steps))
            self.now = int(shown[here][-1])
            self._latest = int(stamp_of[end - 1]) if astray.size else int(latest[-1])
            begin = end
        self._block, self._in_block = int(block[-1]), int(stamp_of[-1])
        return shown

    def _compiled(self, time_ns: np.ndarray, number: np.ndarray) -> np.ndarray:
        state = np.array([self._latest, self._block, self._in_block, self.now], np.int64)
        limits = {"slack_ns": self._slack_ns, "stride_ns": self._stride_ns}
        shown = flows.advance_clock(time_ns, number, state, block=BLOCK, never=_NEVER, **limits)
        self._latest, self._block, self._in_block, self.now = state.tolist()
        return shown

    def _lies_back(self, stamp: np.ndarray, latest: np.ndarray) -> np.ndarray:
        found: np.ndarray = (stamp > _NEVER) & (stamp < latest - self._slack_ns)
        return found

    def _first_of(self, latest: np.ndarray) -> int:
        known = latest[latest > _NEVER]
        return int(known[0]) if known.size else _NEVER

    def _end_block(self) -> None:
        if self._in_block > _NEVER and self._latest - self._in_block > self._slack_ns:
            self._latest = self._in_block
        self._in_block = _NEVER
