"""How much slower: the ratio of two rows' times, and the ends of its 95 % interval.

Single batches are no sample to judge by, as neighbours rise and fall together with the machine. Turns are: each is the
median of its batches, and the turns of a row lie minutes or processes apart. Two rows of one run took their turns side
by side, so each pair gives one ratio, and what slowed the machine slowed both (`paired_ratio`); the turns of two runs
are two samples (`unpaired_ratio`).

Both are Hodges and Lehmann's estimates ("Estimates of location based on rank tests", 1963), on the logarithm, with the
exact interval of the rank test that they belong to: no assumption about the shape of the noise, and one disturbed turn
moves the interval by a rank, not by its size. docs/measurements/compare.md has what else was tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_PAIRED", "LEAST_UNPAIRED", "Ratio", "paired_ratio", "unpaired_ratio"]

LEAST_PAIRED = 6
"""Pairs below which no interval of 95 % exists: five that agree have a chance of 2 in 32."""

LEAST_UNPAIRED = 4
"""Turns of each below which none exists: three against three, all apart, have a chance of 2 in 20."""

_MOST = 200  # turns: more change nothing, and a file from outside may not cost minutes
_EACH_SIDE = 0.025


@dataclass(frozen=True)
class Ratio:
    """New over old, above 1 for slower, with the ends of its 95 % interval; ``turns`` are what it was judged by."""

    value: float
    low: float
    high: float
    turns: int


def paired_ratio(old: Sequence[float], new: Sequence[float]) -> Ratio | None:
    """How much slower ``new`` is than ``old``: the times [n] of turns taken side by side, in order.

    The median of the Walsh averages of the log ratios; its interval is that of Wilcoxon's signed ranks. None for fewer
    than `LEAST_PAIRED` pairs, and for times that are not positive.

    Eight pairs, all 10 % slower but one that was disturbed:

    >>> ratio = paired_ratio([10, 11, 10, 12, 10, 10, 11, 10], [11, 12.1, 11, 13.2, 11, 30, 12.1, 11])
    >>> round(ratio.value, 3), round(ratio.low, 3)
    (1.1, 1.1)
    """
    before, after = _spread(old[: len(new)]), _spread(new[: len(old)])
    if len(before) < LEAST_PAIRED or min(before.min(), after.min()) <= 0:
        return None
    logs = np.log(after / before)  # [n]
    first, second = np.triu_indices(len(logs))
    averages = np.sort((logs[first] + logs[second]) / 2)  # [n (n + 1) / 2]
    return _ratio(averages, _below(_signed_rank_chances(len(logs))), len(logs))


def unpaired_ratio(old: Sequence[float], new: Sequence[float]) -> Ratio | None:
    """The same for the turns [m] and [n] of two runs.

    The median of all log ratios of a new turn and an old one; its interval is that of Mann and Whitney's ranks. It does
    not know what changed on the machine between the runs. None for fewer than `LEAST_UNPAIRED` turns of one.

    >>> ratio = unpaired_ratio([10, 10.2, 9.9, 10.1], [12, 12.1, 11.9, 12.2])
    >>> round(ratio.value, 2), round(ratio.low, 2), round(ratio.high, 2)
    (1.2, 1.17, 1.23)
    """
    before, after = _spread(old), _spread(new)
    if min(len(before), len(after)) < LEAST_UNPAIRED or min(before.min(), after.min()) <= 0:
        return None
    before, after = np.log(before), np.log(after)
    differences = np.sort((after[:, None] - before).ravel())  # [n m]
    return _ratio(differences, _below(_rank_sum_chances(len(before), len(after))), min(len(before), len(after)))


def _spread(times: Sequence[float]) -> NDArray[np.float64]:
    """At most `_MOST` of the times, evenly spread."""
    values = np.asarray(times, np.float64)
    return values if len(values) <= _MOST else values[np.linspace(0, len(values) - 1, _MOST).round().astype(int)]


def _ratio(sorted_logs: NDArray[np.float64], below: int, turns: int) -> Ratio:
    """The median, and the values after the ``below`` least and before as many of the largest."""
    low, high = sorted_logs[below - 1], sorted_logs[len(sorted_logs) - below]
    value, low, high = np.exp((np.median(sorted_logs), low, high)).tolist()
    return Ratio(value, low, high, turns)


def _below(chances: NDArray[np.float64]) -> int:
    """How many values of the statistic, from 0 on, have a chance of at most 2.5 % together."""
    return int(np.searchsorted(np.cumsum(chances), _EACH_SIDE, "right"))


@cache
def _signed_rank_chances(number: int) -> NDArray[np.float64]:
    """The chance of each sum of positive ranks, where each of 1..n is positive with a chance of one half.

    >>> (_signed_rank_chances(3) * 8).tolist()  # 0, 1, 2, 3 or 1 + 2, 1 + 3, 2 + 3, all
    [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0]
    """
    chances = np.ones(1)
    for rank in range(1, number + 1):
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    return chances


@cache
def _rank_sum_chances(first: int, second: int) -> NDArray[np.float64]:
    """The chance of each count of pairs in which the first is the larger, where all orders are as likely.

    The counts of orders are the coefficients of a Gaussian binomial: the product of (1 - x^(m + i)) / (1 - x^i).

    >>> (_rank_sum_chances(2, 2) * 6).tolist()
    [1.0, 1.0, 2.0, 1.0, 1.0]
    """
    chances = np.zeros(first * second + 1)
    chances[0] = 1
    for step in range(1, second + 1):
        risen = chances.copy()
        risen[first + step :] -= chances[: -(first + step)] if first + step < len(chances) else 0
        for start in range(step):  # dividing by (1 - x^step) sums every step-th coefficient
            risen[start::step] = np.cumsum(risen[start::step])
        chances = risen / (first + step) * step  # to a sum of 1, as the counts would overflow
    return chances
