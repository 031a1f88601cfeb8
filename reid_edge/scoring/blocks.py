"""Distances a block of queries at a time, so that memory does not grow with queries x gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import track
from reid_edge.errors import InputError

from .distances import block_rows

__all__ = ["DistanceBlocks", "checked_blocks"]

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
        if block.size and not np.isfinite((block.min(), block.max())).all():  # NaN passes through both
            raise InputError(
                "a distance is NaN or infinite: check the embeddings, or the step that computed the distances"
            )
        yield start, block
