"""Warm-up: batches are run until their times are steady, by a rule that is stated and not felt."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from .measurement import WarmUp

__all__ = ["WINDOWS", "WITHIN", "is_steady", "warm_up"]

WINDOWS = 3
"""How many windows must agree."""

WITHIN = 0.05
"""How far apart the medians of the windows may be, as a share of the least."""

_WINDOW_SECONDS = 0.1


def is_steady(medians: Sequence[float], windows: int = WINDOWS, within: float = WITHIN) -> bool:
    """Whether the last ``windows`` medians lie within ``within`` of the least of them.

    >>> is_steady([9.0, 5.1, 5.0, 5.2]), is_steady([9.0, 5.1, 5.0]), is_steady([5.0, 5.0])
    (True, False, False)
    """
    last = medians[-windows:]
    return len(last) == windows and max(last) <= (1 + within) * min(last)


def warm_up(run: Callable[[], float], most_seconds: float, clock: Callable[[], float] = time.perf_counter) -> WarmUp:
    """Call ``run``, which returns its time in ms, until the times are steady or ``most_seconds`` have passed.

    The times are taken in windows: as many runs as fill 0.1 s, at least one. Three windows are run at least, however
    slow; the rule is `is_steady` of their medians. It sees caches that fill, lazily made kernels and clocks that rise;
    a machine whose times never settle is measured all the same, and its row says so.
    """
    begin, batches = clock(), 0
    medians: list[float] = []
    while not is_steady(medians):
        if len(medians) >= WINDOWS and clock() - begin >= most_seconds:
            break
        window: list[float] = []
        opened = clock()
        while not window or clock() - opened < _WINDOW_SECONDS:
            window.append(run())
        medians.append(median(window))
        batches += len(window)
    return WarmUp(batches, clock() - begin, is_steady(medians))
