"""Odds by which what was drawn is taken for one of several real things, each as often as it is real."""

from __future__ import annotations

import numpy as np

#: The share of the way to balanced odds that a round goes.
_WAY = 0.5


def balanced(alone: np.ndarray, count: np.ndarray, *, rounds: int, bound: float) -> np.ndarray:
    """Logarithms of the odds of each of several things: those of one side of Sinkhorn's scaling.

    Parameters
    ----------
    alone : ndarray of float, shape (drawn, things)
        Logarithm of how likely each thing looks as what was drawn does.
    count : ndarray of int, shape (things,)
        How often each of them is real.
    rounds : int
        Steps to odds by which each is drawn as often as it is real.
    bound : float
        How far these may be from how often it is real, in logarithms.

    Returns
    -------
    ndarray of float64, shape (things,)
    """
    real = count.sum()
    wanted = np.maximum(count, 0.5) / real
    start = odds = np.log(wanted)
    if not len(alone):
        return start
    some = 0.5 / len(alone) + 0.5 / real  # of what is as rare nobody knows how rare it is
    for _ in range(rounds):
        found = _shares(alone + odds).mean(0)
        odds = odds + _WAY * (np.log(wanted + some) - np.log(found + some))
        odds = start + np.clip(odds - start, -bound, bound)
    return odds


def picked(likely: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Which thing is picked, by logarithms of how likely each is (drawn, things), and a number from 0 to 1 each."""
    shares = _shares(likely).cumsum(1)
    found: np.ndarray = np.minimum((shares < chance[:, None]).sum(1), likely.shape[1] - 1)
    return found


def _shares(logarithms: np.ndarray) -> np.ndarray:
    """Row by row, what adds up to 1."""
    found = np.exp(logarithms - logarithms.max(1, keepdims=True))
    shares: np.ndarray = found / found.sum(1, keepdims=True)
    return shares
