"""Threads that share work."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from .threads import usable_cores

__all__ = ["thread_pool"]


@contextmanager
def thread_pool(workers: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """A pool of ``workers`` (None: one per usable core) that drops the work in its queue when an error ends it."""
    pool = ThreadPoolExecutor(workers or usable_cores())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
