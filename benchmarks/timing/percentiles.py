"""Percentiles of times, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CONFIDENCE", "Bounds", "Percentiles", "order_bounds", "thinned"]

CONFIDENCE = 0.95
"""How often the bounds of a percentile hold the true one, at least."""

Bounds: TypeAlias = "tuple[float | None, float | None]"
"""The least and the most that a percentile may be; None where there are too few times to say."""

_RANKS = (50, 90, 99)


@dataclass(frozen=True)
class Percentiles:
    """The 50th, 90th and 99th percentile of ``n`` times, in milliseconds, and the ``bounds`` of each by its name.

    Linear interpolation between the closest ranks: of n sorted values the p-th percentile stands at index
    (n - 1) p / 100. With fewer than a hundred values p99 lies between the two largest. The bounds are those of
    `order_bounds`: p50 has both from 6 values on, p90 from 36 and p99 from 368.

    >>> times = Percentiles.of([40.0, 10.0, 30.0, 20.0, 50.0, 60.0])
    >>> times.p50, times.p90, times.n
    (35.0, 55.0, 6)
    >>> times.bounds
    {'p50': (10.0, 60.0), 'p90': (40.0, None), 'p99': (50.0, None)}
    """

    p50: float
    p90: float
    p99: float
    n: int = 0
    bounds: Mapping[str, Bounds] = field(default_factory=dict)

    @classmethod
    def of(cls, times_ms: ArrayLike) -> Percentiles:
        """The percentiles of at least one time."""
        times = np.sort(np.asarray(times_ms, float))
        p50, p90, p99 = np.percentile(times, _RANKS, method="linear").tolist()
        bounds = {f"p{rank}": order_bounds(times, rank / 100) for rank in _RANKS}
        return cls(p50, p90, p99, len(times), bounds)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Percentiles:
        """The inverse of `dataclasses.asdict`; files of version 1 have neither ``n`` nor bounds."""
        bounds = {name: (low, high) for name, (low, high) in raw.get("bounds", {}).items()}
        return cls(raw["p50"], raw["p90"], raw["p99"], raw.get("n", 0), bounds)


def order_bounds(times: Sequence[float] | ArrayLike, share: float, confidence: float = CONFIDENCE) -> Bounds:
    """Two of the sorted ``times`` between which the true ``share``-quantile lies, with at least ``confidence``.

    Whatever the distribution, the number of times below the quantile is binomial (n, share). So the l-th and the u-th
    smallest enclose it with P(l <= B < u), and l and u are chosen so that each side errs with at most half of
    1 - ``confidence`` (David and Nagaraja, "Order Statistics", section 7.1). The times must be independent: neighbours
    that rise and fall together make the true interval wider.

    >>> order_bounds(range(1, 101), 0.5)  # Conover's table: the 40th and the 61st
    (40.0, 61.0)
    """
    values = np.asarray(times, float)
    number, each_side = len(values), (1 - confidence) / 2
    counts = np.arange(number + 1)
    log_choose = math.lgamma(number + 1) - _lgamma(counts + 1) - _lgamma(number - counts + 1)
    below = np.cumsum(np.exp(log_choose + counts * math.log(share) + (number - counts) * math.log1p(-share)))
    low = int(np.searchsorted(below, each_side, "right"))  # the largest l with P(B < l) <= each_side
    high = int(np.searchsorted(below, 1 - each_side)) + 1  # the smallest u with P(B >= u) <= each_side
    return (
        float(values[low - 1]) if low >= 1 else None,
        float(values[high - 1]) if high <= number else None,
    )


def thinned(times: Sequence[float] | ArrayLike, most: int = 500) -> tuple[float, ...]:
    """At most ``most`` of the times, sorted and evenly spread over their ranks, the least and the most among them.

    >>> thinned([3.0, 1.0, 2.0, 5.0, 4.0], 3)
    (1.0, 3.0, 5.0)
    """
    values = np.sort(np.asarray(times, float))
    if len(values) > most:
        values = values[np.linspace(0, len(values) - 1, most).round().astype(int)]
    return tuple(round(float(value), 6) for value in values)


def _lgamma(values: NDArray[np.intp]) -> NDArray[np.float64]:
    """The logarithm of the gamma function of whole numbers from 1 up: a sum of logarithms."""
    table = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, values.max(initial=1))))])
    logarithms: NDArray[np.float64] = table[values - 1]
    return logarithms
