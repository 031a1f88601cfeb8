"""Rows with few values that are not zero, as `reid_edge.scoring.rerank` needs them: what scipy.sparse would do.

The runtime on a device has numpy alone. Here are the four operations that are used, in blocks, so that no intermediate
array grows with the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SparseRows"]

_BLOCK_VALUES = 1 << 21


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Row i has ``values[ends[i]:ends[i + 1]]`` at ``columns[ends[i]:ends[i + 1]]``, which ascend (CSR).

    ``ends`` int64 [N + 1], ``columns`` int32 [V], ``values`` float32 [V].
    """

    ends: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    @classmethod
    def of(cls, parts: Iterable[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]]) -> SparseRows:
        """Join blocks of rows, each the sizes of its rows, their columns and their values."""
        sizes, columns, values = (np.concatenate(each) for each in zip(*parts, strict=True))
        return cls(np.append(0, np.cumsum(sizes)), columns, values)

    def row(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The columns and values of a row."""
        part = slice(self.ends[i], self.ends[i + 1])
        return self.columns[part], self.values[part]

    def gathered(self, rows: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where in ``columns`` and ``values`` the values of ``rows`` [R] are, row by row, and how many each has [R]."""
        sizes = self.ends[rows + 1] - self.ends[rows]
        shifts = self.ends[rows] - (np.cumsum(sizes) - sizes)
        return np.repeat(shifts, sizes) + np.arange(sizes.sum()), sizes

    def mean_of(self, groups: NDArray[np.integer]) -> SparseRows:
        """Row i is the mean of the rows ``groups[i]``; [N, K]."""
        widest = max(1, groups.shape[1] * int(np.diff(self.ends).max(initial=1)))
        step = max(1, _BLOCK_VALUES // widest)
        return SparseRows.of(self._means(groups[start : start + step]) for start in range(0, len(groups), step))

    def _means(self, groups: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        at, sizes = self.gathered(groups.ravel())
        owner = np.repeat(np.arange(len(groups)), sizes.reshape(groups.shape).sum(axis=1))
        width = len(self.ends) - 1
        key = owner * width + self.columns[at]
        order = np.argsort(key, kind="stable")
        key = key[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        sums = np.add.reduceat(self.values[at][order], first) / np.float32(groups.shape[1])
        return np.bincount(key[first] // width, minlength=len(groups)), (key[first] % width).astype(np.int32), sums

    def transposed_from(self, first: int) -> SparseRows:
        """The rows from ``first`` on, turned: row c lists the rows, counted from 0, that have a value at column c."""
        start = self.ends[first]
        sizes = np.diff(self.ends[first:])
        columns = self.columns[start:]
        order = np.argsort(columns, kind="stable")
        rows = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[order]
        counts = np.bincount(columns, minlength=len(self.ends) - 1)
        return SparseRows(np.append(0, np.cumsum(counts)), rows, self.values[start:][order])
