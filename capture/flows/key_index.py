"""A number for each key that is in use, found for many keys at once.

A hash table with open addressing in arrays: all keys look at their place in it, those that find
another one there look at the next, and so on. Where a key stands depends on a factor drawn anew in
each process, so no capture can be made that is slow to read; which number it gets does not.
"""

from __future__ import annotations

import os

import numpy as np

from netgen.capture import native
from netgen.capture.flows.keys import KEY
from netgen.capture.native import flows

_WORDS = KEY.itemsize // 8
_FACTORS = np.frombuffer(os.urandom(8 * _WORDS), np.uint64) | np.uint64(1)
_SHIFT = np.uint64(31)


class KeyIndex:
    """Numbers for keys, from 0; those given back are given out again."""

    def __init__(self) -> None:
        self._bits = 10
        self._table = np.zeros(1 << self._bits, np.int32)  # number and 1; 0: nobody
        self._key = np.zeros((512, _WORDS), np.uint64)  # by number
        self._hash = np.zeros(512, np.uint64)
        self._used = np.zeros(512, bool)
        self._free = np.zeros(0, np.int64)
        self._count = 0
        self.top = 0  # numbers ever given out

    def __len__(self) -> int:
        return self._count

    def of(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The number of each key, of which no two may be equal, and the rows of those that are new.

        Parameters
        ----------
        keys : ndarray of `KEY`, shape (keys,)
        """
        words = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, _WORDS)
        mixed = np.zeros(len(words), np.uint64)
        for place in range(_WORDS):
            mixed ^= mixed >> _SHIFT
            mixed += words[:, place]
            mixed *= _FACTORS[place]
        number = self._find(words, mixed)
        new = np.flatnonzero(number < 0)
        if new.size:
            number[new] = self._add(words[new], mixed[new])
        return number, new

    @property
    def used(self) -> np.ndarray:
        """Which numbers are in use, bool (top,)."""
        return self._used[: self.top]

    def give_back(self, numbers: np.ndarray) -> None:
        """Keys of these numbers are not in use any more."""
        self._used[numbers] = False
        self._free = np.concatenate([self._free, numbers])
        self._count -= len(numbers)
        self._place_all()

    def _home(self, mixed: np.ndarray) -> np.ndarray:
        return (mixed >> np.uint64(64 - self._bits)).astype(np.int64)

    def _find(self, words: np.ndarray, mixed: np.ndarray) -> np.ndarray:
        if native.ready():
            return flows.find_keys(words, mixed, self._table, self._bits, self._key, self._hash)
        number = np.full(len(words), -1, np.int64)
        todo, at = np.arange(len(words)), self._home(mixed)
        while todo.size:
            there = self._table[at].astype(np.int64) - 1
            some = np.flatnonzero(there >= 0)
            todo, at, there = todo[some], at[some], there[some]
            other = self._hash[there] != mixed[todo]
            other |= (self._key[there] != words[todo]).any(axis=1)
            number[todo[~other]] = there[~other]
            todo, at = todo[other], (at[other] + 1) & (len(self._table) - 1)
        return number

    def _add(self, words: np.ndarray, mixed: np.ndarray) -> np.ndarray:
        count = len(words)
        again, self._free = self._free[:count], self._free[count:]
        number = np.concatenate([again, np.arange(self.top, self.top + count - len(again))])
        self.top += count - len(again)
        if self.top > len(self._used):
            room = max(self.top, 2 * len(self._used)) - len(self._used)
            self._key = np.concatenate([self._key, np.zeros((room, _WORDS), np.uint64)])
            self._hash = np.concatenate([self._hash, np.zeros(room, np.uint64)])
            self._used = np.concatenate([self._used, np.zeros(room, bool)])
        self._key[number], self._hash[number], self._used[number] = words, mixed, True
        self._count += count
        if 2 * self._count > len(self._table):
            self._place_all()
        else:
            self._place(number, mixed)
        return number

    def _place(self, number: np.ndarray, mixed: np.ndarray) -> None:
        at = self._home(mixed)
        while number.size:
            free = np.flatnonzero(self._table[at] == 0)
            self._table[at[free]] = number[free] + 1  # of several, one stays
            left = np.flatnonzero(self._table[at] != number + 1)
            number, at = number[left], (at[left] + 1) & (len(self._table) - 1)

    def _place_all(self) -> None:
        self._bits = max(10, (3 * self._count).bit_length())
        self._table = np.zeros(1 << self._bits, np.int32)
        number = np.flatnonzero(self._used)
        self._place(number, self._hash[number])
