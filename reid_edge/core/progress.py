"""Progress for anything that takes over two seconds: lines that move on a terminal, one every 30 seconds in a log.

A `phase` is a piece of work, and `track` follows a loop. Each may hold others: they share one display.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Protocol, TypeVar

from .log import printable
from .signals import raise_if_stopped

__all__ = ["Phase", "phase", "track"]

T = TypeVar("T")

_LOG_EVERY_SECONDS = 30.0


class Phase(Protocol):
    """A piece of work that is being shown."""

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Move on by ``steps`` of the phase's total; ``note`` is a few words beside its count."""
        ...


@contextmanager
def phase(description: str, total: float | None = None, *, shown: bool = True) -> Iterator[Phase]:
    """Show a piece of work on standard error while the ``with`` block runs: a bar, or a spinner, and the time.

    The bar is shown where ``total`` is known; of a total of 1 it shows the share. Where standard error is not a
    terminal, a plain line is written every 30 seconds, if the phase advances. Nothing is shown unless ``shown``, nor
    where the logger "reid_edge" is set to warnings alone, as ``reid-edge --quiet`` does.
    """
    if not shown or logging.getLogger("reid_edge").level > logging.INFO:
        yield _Silent()
    elif sys.stderr.isatty():
        from .bars import BARS  # rich takes a tenth of a second

        with BARS.line(printable(description), total) as line:
            yield line
    else:
        yield _Logged(printable(description), total)


def track(
    items: Iterable[T], description: str, total: int | None = None, note: Callable[[], str] | None = None
) -> Generator[T, None, None]:
    """Yield ``items`` and show the progress as a `phase`; close it where the caller may not reach its end.

    ``total`` is needed when ``items`` has no length; ``note`` returns a few words to show beside the count.

    >>> list(track([1, 2], "counting"))
    [1, 2]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with phase(description, total) as line:
        for item in items:
            raise_if_stopped()
            yield item
            line.advance(note=note() if note else "")


class _Silent:
    def advance(self, steps: float = 1, note: str = "") -> None:
        """Show nothing."""


class _Logged:
    """Plain lines, for a log."""

    def __init__(self, description: str, total: float | None) -> None:
        self._description, self._total = description, total
        self._done = 0.0
        self._last = time.monotonic()

    def advance(self, steps: float = 1, note: str = "") -> None:
        """Write a line when the last one is old enough."""
        self._done += steps
        if time.monotonic() - self._last > _LOG_EVERY_SECONDS:
            self._last = time.monotonic()
            total = "?" if self._total is None else f"{self._total:g}"
            line = f"{self._description}: {self._done:g}/{total} {printable(note)}".rstrip()
            print(line, file=sys.stderr, flush=True)
