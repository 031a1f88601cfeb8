"""Re-ranking by k-reciprocal neighbours.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.
Two crops of a person are among each other's nearest. All crops of the test, queries and gallery alike, are encoded by
their k-reciprocal neighbours, and the distance becomes

    (1 - lambda) * Jaccard distance of the encodings + lambda * the original distance.

It uses the other queries and needs the whole gallery beforehand: a figure with it is no figure of a system that
answers one query at a time, and is not comparable with one without. What the paper leaves open is as in its authors'
program: the original distance of a crop is divided by its largest one; euclidean distance is squared (so that it and
cosine agree on normalised embeddings); a neighbour's set is added when *more* than two thirds of it are known (the
paper: at least). A crop is its own first neighbour, at distance 0, also among duplicates and as a zero vector.

The encodings are sparse, a hundred values or so a crop: memory is one block of distances and about 1 kB a crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.core.progress import track
from reid_edge.errors import InputError

from .blocks import DistanceBlocks, nearest
from .distances import Distance, as_embeddings, block_rows, distance_by_name
from .sparse import SparseRows
from .tiles import Block, Rows

__all__ = ["Rerank", "reranked"]

_BLOCK_ROWS = 512
"""Crops whose neighbours' neighbours are compared at once: 5 MB of flags at k1 = 20."""


@dataclass(frozen=True, kw_only=True)
class Rerank:
    """The parameters of the paper, with its values for Market-1501.

    ``k1`` neighbours are looked at, encodings are averaged over the ``k2`` nearest crops, itself included (1: not at
    all), and ``lambda_`` is the weight of the original distance. Raises InputError for values out of range.
    """

    k1: int = 20
    k2: int = 6
    lambda_: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.lambda_ <= 1:
            raise InputError(f"re-ranking with {self}: give k1 and k2 of 1 or more, and lambda within 0..1")

    def __str__(self) -> str:
        return f"k1 {self.k1}, k2 {self.k2}, lambda {self.lambda_:g}"

    def to_dict(self) -> dict[str, Any]:
        """The paper's names, JSON-able."""
        return {"k1": self.k1, "k2": self.k2, "lambda": self.lambda_}


def reranked(
    embeddings: ArrayLike,
    queries: int,
    distance: str = "cosine",
    options: Rerank | None = None,
    *,
    progress: bool = False,
) -> DistanceBlocks:
    """Re-rank the gallery for each query; the result gives distances in blocks, as `score_blocks` takes them.

    ``embeddings`` [N, D] are those of the ``queries``, then the gallery's; ``options`` None are the paper's values.
    Raises InputError as `Distance.against` does, and unless 0 < ``queries`` < N.

    Gallery crops 1 and 2 are equally far from the query; 2 is near its neighbour 0:

    >>> rows = [[0.0], [1.0], [-1.5], [1.5]]
    >>> reranked(rows, 1, "euclidean", Rerank(k1=3, k2=1))(slice(0, 1)).argsort()
    array([[0, 2, 1]])
    """
    rows, options = as_embeddings(embeddings), options or Rerank()
    if not 0 < queries < len(rows):
        raise InputError(f"{queries} queries of {len(rows)} embeddings: give both queries and a gallery")
    measure = distance_by_name(distance)
    near, farthest = _neighbours(rows, measure, min(max(options.k1 + 1, options.k2), len(rows)), progress)
    encoded = SparseRows.of(_encodings(rows, measure, near, farthest, options.k1, progress))
    if options.k2 > 1:
        encoded = encoded.mean_of(near[:, : options.k2])
    holders = encoded.transposed_from(queries)
    block, gallery = _original(measure, rows[queries:]), len(rows) - queries

    def distances(part: slice) -> Rows:
        found: Rows = block(rows[:queries][part])
        found *= np.float32(options.lambda_) / farthest[:queries][part, None]
        for row, query in zip(found, range(queries)[part], strict=True):
            row += np.float32(1 - options.lambda_) * _jaccard(*encoded.row(query), holders, gallery)
        return found

    return distances


def _original(measure: Distance, gallery: Rows) -> Block:
    """The distance of the paper: euclidean squared, others as they are."""
    block = measure.against(gallery)
    if measure.name != "euclidean":
        return block

    def squared(queries: Rows) -> Rows:
        found = block(queries)
        return np.square(found, out=found)

    return squared


def _neighbours(rows: Rows, measure: Distance, k: int, progress: bool) -> tuple[NDArray[np.int32], Rows]:
    """The ``k`` nearest crops of each, int32 [N, k], and the distance of its farthest, float32 [N], 1 in place of 0."""
    block, step = _original(measure, rows), block_rows(len(rows))
    near, farthest = np.empty((len(rows), k), np.int32), np.empty(len(rows), np.float32)
    starts = range(0, len(rows), step)
    for start in track(starts, "finding neighbours") if progress else starts:
        part = slice(start, min(start + step, len(rows)))
        found = block(rows[part])
        itself = np.arange(part.stop - start), np.arange(start, part.stop)
        found[itself] = 0
        farthest[part] = found.max(axis=1)
        found[itself] = -1
        near[part] = nearest(found, k)
    farthest[farthest == 0] = 1
    return near, farthest


def _encodings(
    rows: Rows, measure: Distance, near: NDArray[np.int32], farthest: Rows, k1: int, progress: bool
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], Rows]]:
    """Each crop's expanded k-reciprocal neighbours, with weights exp(-distance) that sum to 1, in blocks of crops."""
    mutual, half = _reciprocal(near, k1 + 1), _reciprocal(near, round(k1 / 2) + 1)
    starts = range(0, len(rows), _BLOCK_ROWS)
    for start in track(starts, "encoding neighbours") if progress else starts:
        sizes, columns = _expanded(mutual[start : start + _BLOCK_ROWS], half)
        values = np.empty(len(columns), np.float32)
        ends = np.cumsum(sizes)
        for i, (end, size) in enumerate(zip(ends, sizes, strict=True), start):
            of, out = columns[end - size : end], values[end - size : end]
            apart = _original(measure, rows[of])(rows[i : i + 1])[0]
            apart[of == i] = 0
            np.exp(-apart / farthest[i], out=out)
            out /= out.sum()
        yield sizes, columns, values


def _reciprocal(near: NDArray[np.int32], k: int) -> NDArray[np.int32]:
    """Those of each crop's ``k`` nearest (itself among them) that have it among theirs; -1 in place of the others."""
    near = near[:, :k]
    found = np.full_like(near, -1)
    for start in range(0, len(near), _BLOCK_ROWS):
        part = near[start : start + _BLOCK_ROWS]  # [b, k]
        own = np.arange(start, start + len(part), dtype=np.int32)
        mutual = (near[part] == own[:, None, None]).any(axis=2)
        found[start : start + len(part)] = np.where(mutual, part, -1)
    return found


def _expanded(known: NDArray[np.int32], half: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The sets ``known`` [b, k] with those of members (``half`` [N, h]) that are mostly known: sizes, and all columns.

    Equation 4 of the paper.
    """
    added = np.where(known[:, :, None] >= 0, half[known], -1)  # [b, k, h]
    shared = ((added[..., None] == known[:, None, None, :]).any(axis=3) & (added >= 0)).sum(axis=2)  # [b, k]
    enough = 3 * shared > 2 * (added >= 0).sum(axis=2)
    added[~enough] = -1
    every = np.concatenate([known, added.reshape(len(known), -1)], axis=1)
    every.sort(axis=1)
    kept = (every >= 0) & (np.diff(every, axis=1, prepend=-1) != 0)
    return kept.sum(axis=1), every[kept]


def _jaccard(columns: NDArray[np.int32], values: Rows, holders: SparseRows, gallery: int) -> NDArray[np.float64]:
    """1 - sum of minima / sum of maxima, to each gallery crop; both encodings sum to 1, so the maxima to 2 - minima."""
    at, sizes = holders.gathered(columns)
    minima = np.minimum(np.repeat(values, sizes), holders.values[at])
    shared = np.bincount(holders.columns[at], minima, minlength=gallery)
    return np.asarray(1 - shared / (2 - shared))
