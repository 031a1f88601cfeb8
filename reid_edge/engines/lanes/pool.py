"""Lanes for several threads: each run takes a free one, or waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from .lane import Lane

__all__ = ["LanePool"]


class LanePool:
    """Some lanes and who may use them. The lane that was used last is taken first: its graphs are the warmest.

    `close` lets no new run begin, waits for those that run, and frees the lanes; runs that wait are refused with
    ``closed``'s error.
    """

    def __init__(self, opened: Callable[[], Lane], count: int, closed: Callable[[], Exception]) -> None:
        """Open ``count`` lanes; when one fails, those before are freed and its error is raised."""
        self._closed_error = closed
        self._changed = threading.Condition()
        self._closing = False
        with ExitStack() as stack:
            self.lanes: list[Lane] = []
            for _ in range(count):
                self.lanes.append(opened())
                stack.callback(self.lanes[-1].close)
            self._open = stack.pop_all()
        self._free = list(self.lanes)

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """A lane for this thread alone, until the block ends."""
        lane = self._take()
        try:
            yield lane
        finally:
            with self._changed:
                self._free.append(lane)
                self._changed.notify_all()

    def close(self) -> None:
        """Wait for the runs under way, then free the lanes. A second call does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._free) == len(self.lanes))
        self._open.close()

    def _take(self) -> Lane:
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closing)
            if self._closing:
                raise self._closed_error()
            return self._free.pop()
