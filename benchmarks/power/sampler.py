"""Energy from power that can only be looked at: sampled beside the measurement, and added up by the trapezoid rule."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["PowerSampler", "trapezoid"]

_EVERY_S = 0.1
"""The monitors of a Jetson convert about that often; each look costs less than a millisecond of one core."""


def trapezoid(earlier: tuple[float, float], later: tuple[float, float]) -> float:
    """Joules between two samples (seconds, watts).

    >>> trapezoid((0.0, 4.0), (2.0, 6.0))
    10.0
    """
    return (later[0] - earlier[0]) * (earlier[1] + later[1]) / 2


class PowerSampler:
    """Joules since it was opened, of a power in watts that ``watts`` tells; None from it is a look that failed.

    A thread looks ten times a second; `joules` looks once more, so that a window ends when it is asked for.
    """

    def __init__(
        self, source: str, watts: Callable[[], float | None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.source = source
        self._watts, self._clock = watts, clock
        self._lock = threading.Lock()
        self._last: tuple[float, float] | None = None
        self._joules = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="reid-edge power", daemon=True)

    def start(self) -> PowerSampler:
        """Look from now on."""
        self.look()
        self._thread.start()
        return self

    def joules(self) -> float:
        """The energy so far."""
        self.look()
        return self._joules

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Take a sample now."""
        with self._lock:
            watts = self._watts()
            if watts is None:
                return
            sample = (self._clock(), watts)
            if self._last is not None:
                self._joules += trapezoid(self._last, sample)
            self._last = sample

    def _sample(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self.look()
