"""The k nearest entries of each row of a block of distances, in order, ties by position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["nearest"]


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
