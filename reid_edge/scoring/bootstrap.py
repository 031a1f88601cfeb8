"""How sure a figure is, and a difference between two models: a bootstrap by person, paired where there are two.

Two models answer the same queries, so each query gives one difference, and what is hard for both cancels. The queries
of a person are not independent of each other: what is drawn again is persons, each with all of their queries (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, percentile intervals). Of 100 such intervals 94 to 96 hold the
truth for 60 persons and more, 90 for 12, and 77 for 4: from a handful the figure is a hint.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.errors import InputError

__all__ = ["DRAWS", "Interval", "PairedLoss", "interval_of", "paired_loss"]

DRAWS = 2000
"""Test sets drawn: the ends of an interval then vary by about 3 % of its half width."""


@dataclass(frozen=True)
class Interval:
    """A mean over queries and the ends of its 95 % interval, as fractions.

    ``identities`` is the number of persons that were drawn from.
    """

    mean: float
    low: float
    high: float
    identities: int

    def __str__(self) -> str:
        """In points, as "0.34 [0.00, 0.68]"; nothing is 0.00, not -0.00."""
        mean, low, high = (round(100 * each, 2) + 0.0 for each in (self.mean, self.low, self.high))
        return f"{mean:.2f} [{low:.2f}, {high:.2f}]"

    def to_dict(self) -> dict[str, float | int]:
        """The figures by name, JSON-able."""
        return asdict(self)


@dataclass(frozen=True)
class PairedLoss(Interval):
    """What a model loses against another: the mean over queries, and the ends of its 95 % interval.

    All are fractions, negative for a gain; ``identities`` is the number of persons that were drawn from.
    """

    def identities_needed(self, limit: float) -> int | None:
        """About how many identities would show a loss of at most ``limit``; None when the mean exceeds it.

        An interval narrows with the square root of the identities: 2 points above the mean by 50 of them become half a
        point by 800.

        >>> PairedLoss(mean=0.25, low=-1.75, high=2.25, identities=50).identities_needed(limit=0.75)
        800
        """
        margin = limit - self.mean
        return ceil(self.identities * ((self.high - self.mean) / margin) ** 2) if margin > 0 else None


def interval_of(values: ArrayLike, persons: ArrayLike, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The 95 % interval of the mean of ``values``, fractions [Q] of queries of the ``persons`` int [Q].

    The same input and ``seed`` give the same interval; that of one person is 0..1. Raises InputError unless there is
    one of each for each query, and at least one.

    A draw of two persons holds the first twice, both, or the second twice:

    >>> print(interval_of([0.2, 0.2, 0.8], persons=[1, 1, 2]))
    40.00 [20.00, 80.00]
    """
    found, of_query = np.asarray(values, np.float64), np.asarray(persons)
    _check_shapes(found, of_query)
    low, high, identities = _ends(found, of_query, draws, seed)
    return Interval(float(found.mean()), max(low, 0.0), min(high, 1.0), identities)


def paired_loss(base: ArrayLike, found: ArrayLike, persons: ArrayLike, draws: int = DRAWS, seed: int = 0) -> PairedLoss:
    """How much ``found`` loses against ``base``: fractions [Q] for the same queries, of the ``persons`` int [Q].

    The same input and ``seed`` give the same interval. One person says nothing about others: the interval is then all
    that a fraction can lose. Raises InputError unless there is one of each for each query, and at least one.

    Two persons; the first loses 0.2 in each of two queries, the second nothing in one. A draw holds the first twice,
    both, or the second twice, so it loses 0.2, 0.4 / 3 or 0:

    >>> loss = paired_loss([0.9, 0.8, 0.5], [0.7, 0.6, 0.5], persons=[1, 1, 2])
    >>> [round(value, 4) for value in (loss.mean, loss.low, loss.high)]
    [0.1333, 0.0, 0.2]
    """
    exact, rounded, of_query = np.asarray(base, np.float64), np.asarray(found, np.float64), np.asarray(persons)
    _check_shapes(exact, rounded, of_query)
    lost = exact - rounded  # [Q]
    return PairedLoss(float(lost.mean()), *_ends(lost, of_query, draws, seed))


def _check_shapes(*arrays: NDArray[Any]) -> None:
    size = arrays[-1].size
    if not size or any(array.shape != (size,) for array in arrays):
        shapes = ", ".join(str(list(array.shape)) for array in arrays)
        raise InputError(f"figures and persons are {shapes}: give one of each for each query")


def _ends(values: NDArray[np.float64], persons: NDArray[Any], draws: int, seed: int) -> tuple[float, float, int]:
    """The 2.5th and 97.5th percentile of the mean of ``values`` [Q], and the number of persons; -1 and 1 for one."""
    _, person = np.unique(persons, return_inverse=True)  # [Q], counted from 0
    sums = np.stack([np.bincount(person, values), np.bincount(person)], axis=1)  # [P, 2]: values, and how many queries
    if len(sums) == 1:
        return -1.0, 1.0, 1
    counts = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), draws)
    drawn = counts @ sums  # [draws, 2]
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], (2.5, 97.5))
    return float(low), float(high), len(sums)
