"""Cityblock and Minkowski distances, in tiles: the two of `reid_edge.scoring.distances` that are not matrix products.

A tile of the gallery and what is computed from it stay in a core's cache while every query of the block
passes over it; the tiles are distributed over the cores (numpy releases the interpreter's lock).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.pools import thread_pool

__all__ = ["TILE_VALUES", "Block", "Rows", "cityblock", "minkowski"]

Rows: TypeAlias = NDArray[np.float32]
Block: TypeAlias = Callable[[Rows], Rows]
"""Queries float32 [Q, D] to distances float32 [Q, G], a new array at each call."""

TILE_VALUES = 1 << 16
"""Numbers in a tile: 256 KiB, measured fastest on a core with 1.25 MiB of second-level cache."""

_SMALLEST = np.finfo(np.float32).tiny  # its reciprocal is still finite


def cityblock(gallery: Rows) -> Block:
    """Sum of |a - b| to each row of ``gallery`` [G, D]."""

    def reduce(apart: Rows, spare: Rows, out: Rows) -> None:
        np.einsum("nd->n", apart, out=out)

    return partial(_tiled, gallery, reduce)


def minkowski(gallery: Rows, p: float) -> Block:
    """(Sum of |a - b|^p)^(1/p) to each row of ``gallery`` [G, D], for a finite ``p`` of at least 1."""

    def reduce(apart: Rows, spare: Rows, out: Rows) -> None:
        largest = apart.max(axis=1)  # divided out before the power: no overflow and no underflow
        apart *= (1 / np.maximum(largest, _SMALLEST))[:, None]
        _raise_to(apart, p, spare)
        np.einsum("nd->n", apart, out=out)
        np.power(out, 1 / p, out=out)
        out *= largest

    return partial(_tiled, gallery, reduce)


def _tiled(gallery: Rows, reduce: Callable[[Rows, Rows, Rows], None], queries: Rows) -> Rows:
    """Distances [Q, G] by ``reduce(apart [n, D], spare [n, D], out [n])``.

    ``apart`` holds |a - b| of one query and a tile; it and ``spare`` may be overwritten.
    """
    distances = np.empty((len(queries), len(gallery)), np.float32)
    step = max(1, TILE_VALUES // gallery.shape[1])

    def fill(start: int) -> None:
        tile = gallery[start : start + step]  # [n, D]
        apart, spare = np.empty_like(tile), np.empty_like(tile)
        for query, row in zip(queries, distances, strict=True):
            np.subtract(tile, query, out=apart)
            np.abs(apart, out=apart)
            reduce(apart, spare, row[start : start + step])

    with thread_pool() as pool:
        for _ in pool.map(fill, range(0, len(gallery), step)):
            pass  # a failure in a thread is raised here
    return distances


def _raise_to(values: Rows, p: float, spare: Rows) -> None:
    """``values **= p`` in place; small whole powers by multiplication, three times as fast as `numpy.power`."""
    if p > 5 or p != int(p):
        np.power(values, p, out=values)
        return
    np.copyto(spare, values)
    for _ in range(int(p) - 1):
        values *= spare
