"""Numbers for the keys of open flows, for many keys at once.

A hash table with open addressing and linear probing. The hash depends on random factors of the process, so that nobody
can craft a capture that is slow to read; the numbers do not depend on it.
"""

from __future__ import annotations

import os

import numpy as np

from netgen.capture.flows.packet_batch import KEY
from netgen.capture.native import flows as native_flows

_WORDS = KEY.itemsize // 8
_FACTORS = np.frombuffer(os.urandom(8 * _WORDS), np.uint64) | np.uint64(1)
_SHIFT = np.uint64(31)


class KeyIndex:
    """Numbers for keys, from 0; numbers of removed keys are used again."""

    def __init__(self) -> None:
        self._bits = 10
        self._table = np.zeros(1 << self._bits, np.int32)  # number + 1; 0: empty
        self._key = np.zeros((512, _WORDS), np.uint64)  # by number
        self._hash = np.zeros(512, np.uint64)
        self._used = np.zeros(512, bool)
        self._free = np.zeros(0, np.int64)
        self._count = 0
        self.top = 0  # numbers ever used

    def __len__(self) -> int:
        return self._count

    def add(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of each key (`KEY`, no two of them equal), and the rows of those that are new."""
        words = np.ascontiguousarray(keys).view(np.uint64).reshape(-1, _WORDS)
        hashes = np.zeros(len(words), np.uint64)
        for word, factor in zip(words.T, _FACTORS, strict=True):
            hashes ^= hashes >> _SHIFT
            hashes += word
            hashes *= factor
        number = native_flows.find_keys(words, hashes, self._table, self._bits, self._key, self._hash)
        new = np.flatnonzero(number < 0)
        if new.size:
            number[new] = self._insert(words[new], hashes[new])
        return number, new

    @property
    def used(self) -> np.ndarray:
        """Which numbers are in use, bool, shape (top,)."""
        return self._used[: self.top]

    def remove(self, numbers: np.ndarray) -> None:
        """Remove the keys with these numbers."""
        self._used[numbers] = False
        self._free = np.concatenate([self._free, numbers])
        self._count -= len(numbers)
        self._rebuild()

    def _insert(self, words: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        count = len(words)
        reused, self._free = self._free[:count], self._free[count:]
        number = np.concatenate([reused, np.arange(self.top, self.top + count - len(reused))])
        self.top += count - len(reused)
        if self.top > len(self._used):
            extra = max(self.top, 2 * len(self._used)) - len(self._used)
            self._key = np.concatenate([self._key, np.zeros((extra, _WORDS), np.uint64)])
            self._hash = np.concatenate([self._hash, np.zeros(extra, np.uint64)])
            self._used = np.concatenate([self._used, np.zeros(extra, bool)])
        self._key[number], self._hash[number], self._used[number] = words, hashes, True
        self._count += count
        if 2 * self._count > len(self._table):
            self._rebuild()
        else:
            self._write_numbers(number)
        return number

    def _write_numbers(self, number: np.ndarray) -> None:
        """Write numbers into the table, each at the first empty position from its hash on."""
        position = (self._hash[number] >> np.uint64(64 - self._bits)).astype(np.int64)
        while number.size:
            empty = np.flatnonzero(self._table[position] == 0)
            self._table[position[empty]] = number[empty] + 1  # of several, one stays
            left = np.flatnonzero(self._table[position] != number + 1)
            number, position = number[left], (position[left] + 1) & (len(self._table) - 1)

    def _rebuild(self) -> None:
        self._bits = max(10, (3 * self._count).bit_length())
        self._table = np.zeros(1 << self._bits, np.int32)
        self._write_numbers(np.flatnonzero(self._used))
