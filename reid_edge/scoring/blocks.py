"""Distances a block of queries at a time, so that memory does not grow with queries x gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import track
from reid_edge.errors import InputError

from .distances import block_rows

__all__ = ["DistanceBlocks", "checked_blocks", "nearest"]

DistanceBlocks: TypeAlias = Callable[[slice], NDArray[np.float32]]
"""A slice of the queries to their distances, float32 [len(slice), G], smaller for closer: ``matrix.__getitem__``."""


def checked_blocks(
    distances: DistanceBlocks, queries: int, gallery: int, shown: str = ""
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Each block with the number of its first query; ``shown`` describes a progress bar, none if empty.

    Raises InputError for a block of another width, and for a distance that is NaN or infinite.
    """
    rows = block_rows(gallery)
    starts = range(0, queries, rows)
    for start in track(starts, shown) if shown else starts:
        block = distances(slice(start, min(start + rows, queries)))
        if block.ndim != 2 or block.shape[1] != gallery:
            raise InputError(f"a block of distances is {list(block.shape)}: give [queries, {gallery}]")
        if not all(np.isfinite((row.min(), row.max())).all() for row in block if row.size):  # NaN passes through both
            raise InputError(
                "a distance is NaN or infinite: check the embeddings, or the step that computed the distances"
            )
        yield start, block


def nearest(block: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Columns of the ``k`` smallest distances of each row, int32 [n, k], closest first, of equal ones the first.

    The block [n, G] has at least ``k`` columns. A partition finds the k-th distance, so that nothing is sorted but the
    few entries no farther than it.

    >>> nearest(np.float32([[0.3, 0.1, 0.1, 0.1], [0.0, 1.0, 2.0, 0.5]]), k=2)
    array([[1, 2],
           [0, 3]], dtype=int32)
    """
    found = np.empty((len(block), k), np.int32)
    for row, out in zip(block, found, strict=True):
        farthest = np.partition(row, k - 1)[k - 1]
        within = np.flatnonzero(row <= farthest)
        out[:] = within[np.argsort(row[within], kind="stable")[:k]]
    return found
