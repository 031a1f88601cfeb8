"""Progress for anything that takes over two seconds: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

__all__ = ["track"]

T = TypeVar("T")

_LOG_EVERY_SECONDS = 30.0


def track(
    items: Iterable[T], description: str, total: int | None = None, note: Callable[[], str] | None = None
) -> Iterator[T]:
    """Yield ``items`` and show on standard error how far it is.

    ``total`` is needed when ``items`` has no length; ``note`` is asked for a few words to show beside the count.
    Where standard error is no terminal, a plain line is written every 30 seconds.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    shown = _bar if sys.stderr.isatty() else _log
    yield from shown(items, description, total, note or (lambda: ""))


def _bar(items: Iterable[T], description: str, total: int | None, note: Callable[[], str]) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True
    ) as progress:
        task = progress.add_task(description, total=total, note="")
        for item in items:
            yield item
            progress.update(task, advance=1, note=note())


def _log(items: Iterable[T], description: str, total: int | None, note: Callable[[], str]) -> Iterator[T]:
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > _LOG_EVERY_SECONDS:
            last = time.monotonic()
            print(f"{description}: {done}/{total or '?'} {note()}".rstrip(), file=sys.stderr, flush=True)
