"""What is embedded, in batches: one image or many, split, and prepared while the batch before it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.pools import thread_pool
from reid_edge.data.images import Source

__all__ = ["as_many", "chunks", "is_one", "one_ahead"]


def is_one(sources: Source | Iterable[Source]) -> bool:
    """Whether this is one image, and not an iterable of them."""
    if isinstance(sources, np.ndarray):
        return sources.ndim < 4
    return isinstance(sources, str | Path) or not isinstance(sources, Iterable)


def as_many(sources: Source | Iterable[Source]) -> Iterable[Source]:
    """An iterable of sources, also for a single image."""
    return cast(Iterable[Source], [sources] if is_one(sources) else sources)


def chunks(sources: Iterable[Source], size: int) -> Iterator[tuple[int, list[Source]]]:
    """Split into lists of ``size``, the last one ragged, each with the number of its first source."""
    first, rest = 0, iter(sources)
    while chunk := list(islice(rest, size)):
        yield first, chunk
        first += len(chunk)


def one_ahead(
    prepare: Callable[[int, list[Source]], NDArray[np.uint8]], parts: Iterator[tuple[int, list[Source]]]
) -> Iterator[NDArray[np.uint8]]:
    """Prepare each chunk; while the caller uses one batch, a thread prepares the next.

    This saves up to half of the time where the engine does not run on the CPU, and costs nothing where it does.
    A single batch has nothing to overlap with and is not made to wait for a pool.
    """
    start = next(parts, None)
    if start is None:
        return
    batch, second = prepare(*start), next(parts, None)
    if second is None:
        yield batch
        return
    with thread_pool(1) as pool:
        for chunk in chain([second], parts):
            following = pool.submit(prepare, *chunk)
            yield batch
            batch = following.result()
        yield batch
