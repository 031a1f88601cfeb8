"""CMC, mAP and mINP: how well embeddings find the same person in other cameras.

For each query, gallery entries of the same person *and* the same camera are dropped. A query left without a
match is not counted, and the number of those that count is reported. Of the rest, in order of distance
(ties in gallery order):

- CMC at k: the share of queries whose first match is at rank k or better (R1 is CMC at 1);
- AP: the mean, over a query's matches, of the precision at each; mAP is its mean over queries (Zheng et
  al., "Scalable Person Re-identification: A Benchmark", ICCV 2015, but the mean of precisions, not the
  trapezoid of its authors' code);
- INP: a query's number of matches over the rank of its last one; mINP is the mean (Ye et al., "Deep
  Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021).

A negative person id names nobody: such an entry matches no one, and as a query it never counts. In the
gallery it is a distractor like any stranger; where a data set means such crops to be ignored (Market-1501's
-1), its reader leaves them out.

Nothing is sorted in full: the rank of a match is one more than the number of entries closer than it.
Distances are consumed a block of queries at a time, so memory does not grow with queries x gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .distances import as_embeddings, block_rows, distance_by_name
from .errors import InputError
from .progress import track

__all__ = ["Metrics", "score", "score_blocks"]

_REPORTED_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True, eq=False)
class Metrics:
    """What a ranking scored; every figure is a fraction, 0..1.

    ``cmc`` float64 [max_rank] holds CMC at 1, 2, ...; ``queries`` were asked, of which ``valid_queries``
    had a match and count; ``gallery`` is the number of gallery entries; ``distance`` names what ordered
    them.
    """

    cmc: NDArray[np.float64]
    mAP: float  # noqa: N815 - the name the field knows it by
    mINP: float  # noqa: N815
    queries: int
    valid_queries: int
    gallery: int
    distance: str

    def rank(self, k: int) -> float:
        """CMC at ``k``: the share of valid queries with a match among their first ``k``.

        Raises InputError unless 1 <= k <= max_rank.
        """
        if not 1 <= k <= len(self.cmc):
            raise InputError(f"rank {k} was not measured: ask for 1..{len(self.cmc)}, or score with a larger max_rank")
        return float(self.cmc[k - 1])

    def to_dict(self) -> dict[str, Any]:
        """Give the figures by name, JSON-able: rank1, rank5, rank10 and rank20 as far as max_rank goes."""
        ranks = {f"rank{k}": self.rank(k) for k in _REPORTED_RANKS if k <= len(self.cmc)}
        counts = {"queries": self.queries, "valid_queries": self.valid_queries, "gallery": self.gallery}
        return {**ranks, "mAP": self.mAP, "mINP": self.mINP, **counts, "distance": self.distance}


def score(
    query_embeddings: ArrayLike,
    query_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_embeddings: ArrayLike,
    gallery_pids: ArrayLike,
    gallery_camids: ArrayLike,
    distance: str = "cosine",
    max_rank: int = 20,
    progress: bool = False,
) -> Metrics:
    """Score query embeddings [Q, D] against a gallery's [G, D], with int person and camera ids [Q] and [G].

    ``distance`` is a name that `reid_edge.distances.distance_by_name` knows; ``progress`` shows a bar. Raises
    InputError for ids or embeddings that do not fit together, and when no query has a match.

    One query, person 7 seen by camera 0. By distance the gallery holds a crop of 7 by the same camera
    (dropped), a match, a stranger and a second match: hits at ranks 1 and 3, so AP = (1/1 + 2/3) / 2 and
    INP = 2 / 3.

    >>> gallery, pids, camids = [[0.1], [0.2], [0.3], [0.4]], [7, 7, 5, 7], [0, 1, 1, 2]
    >>> metrics = score([[0.0]], [7], [0], gallery, pids, camids, distance="euclidean")
    >>> metrics.rank(1), round(metrics.mAP, 4), round(metrics.mINP, 4)
    (1.0, 0.8333, 0.6667)
    """
    queries = as_embeddings(query_embeddings, "the query embeddings")
    gallery = as_embeddings(gallery_embeddings, "the gallery embeddings")
    for array, pids, what in ((queries, query_pids, "query"), (gallery, gallery_pids, "gallery")):
        if len(array) != len(np.atleast_1d(pids)):
            raise InputError(f"{len(array)} {what} embeddings but {len(np.atleast_1d(pids))} person ids: give one each")
    measure = distance_by_name(distance)
    block = measure.against(gallery)
    labels = (query_pids, query_camids, gallery_pids, gallery_camids)
    return score_blocks(
        lambda rows: block(queries[rows]),
        *labels,
        distance=measure.name,
        max_rank=max_rank,
        progress=progress,
    )


def score_blocks(
    distances: Callable[[slice], NDArray[np.float32]],
    query_pids: ArrayLike,
    query_camids: ArrayLike,
    gallery_pids: ArrayLike,
    gallery_camids: ArrayLike,
    *,
    distance: str,
    max_rank: int = 20,
    progress: bool = False,
) -> Metrics:
    """Score distances that come in blocks: ``distances(rows)`` is [len(rows), G] for a slice of the queries.

    This is `score` for distances from elsewhere, smaller for closer, such as a re-ranked matrix:
    ``score_blocks(matrix.__getitem__, ...)``. Blocks are only read. ``distance`` names them in the result.
    Raises InputError as `score` does, and for a distance that is NaN or infinite.

    Two queries, persons 1 and 2 in camera 0, against three crops from camera 1. The first query's match comes
    second, the second's comes first: CMC at 1 is 1/2, mAP (1/2 + 1) / 2.

    >>> matrix = np.array([[0.2, 0.1, 0.3], [0.5, 0.4, 0.6]])
    >>> metrics = score_blocks(matrix.__getitem__, [1, 2], [0, 0], [1, 2, 3], [1, 1, 1], distance="by hand")
    >>> metrics.rank(1), metrics.rank(2), metrics.mAP
    (0.5, 1.0, 0.75)
    """
    if max_rank < 1:
        raise InputError(f"max_rank is {max_rank}: CMC starts at rank 1")
    people = _People(*_labels(query_pids, query_camids, "query"), *_labels(gallery_pids, gallery_camids, "gallery"))
    rows = block_rows(people.gallery)
    starts = range(0, people.queries, rows)
    found: list[NDArray[np.int64]] = []
    for start in track(starts, "scoring") if progress else starts:
        found += _ranks_of_block(distances(slice(start, min(start + rows, people.queries))), start, people)
    return _summary(found, people, distance, max_rank)


class _People:
    """Who is who: each query's matches, and the crops to drop for it, without comparing all with all."""

    def __init__(
        self,
        query_pids: NDArray[np.int64],
        query_camids: NDArray[np.int64],
        gallery_pids: NDArray[np.int64],
        gallery_camids: NDArray[np.int64],
    ) -> None:
        self.queries, self.gallery = len(query_pids), len(gallery_pids)
        self._query_camids, self._gallery_camids = query_camids, gallery_camids
        self._by_pid = np.argsort(gallery_pids, kind="stable")  # [G]; one person's crops side by side, in order
        pids = gallery_pids[self._by_pid]
        self._first = np.searchsorted(pids, query_pids, "left")
        self._end = np.where(query_pids < 0, self._first, np.searchsorted(pids, query_pids, "right"))

    def of(self, query: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Gallery rows of the query's person, ascending: its matches, and its own camera's, to drop."""
        same = self._by_pid[self._first[query] : self._end[query]]
        own_camera = self._gallery_camids[same] == self._query_camids[query]
        return same[~own_camera], same[own_camera]


def _ranks_of_block(block: NDArray[np.float32], start: int, people: _People) -> Iterator[NDArray[np.int64]]:
    """Ranks of the matches of each query that has any; ``block`` [n, G] begins at query ``start``."""
    if block.ndim != 2 or block.shape[1] != people.gallery:
        raise InputError(f"a block of distances is {list(block.shape)}: give [queries, {people.gallery}]")
    if block.size and not np.isfinite((block.min(), block.max())).all():  # both hand a NaN on
        raise InputError("a distance is NaN or infinite: check the embeddings, or the step that changed the distances")
    for query, row in enumerate(block, start):
        hits, dropped = people.of(query)
        if len(hits):
            yield _ranks_of_hits(row, hits, dropped)


def _ranks_of_hits(row: NDArray[np.float32], hits: NDArray[np.intp], dropped: NDArray[np.intp]) -> NDArray[np.int64]:
    """Ranks of gallery rows ``hits`` by distance, 1 for the closest, ascending, without the ``dropped`` rows.

    A rank is one more than the number of entries closer, or as close and earlier in the gallery.

    >>> _ranks_of_hits(np.array([0.3, 0.1, 0.3, 0.2]), hits=np.array([2]), dropped=np.array([1]))
    array([3])
    """
    if len(dropped):
        row = row.copy()
        row[dropped] = np.inf
    at = row[hits]  # [H]
    no_farther = np.sort(row[row <= at.max()])
    before = no_farther.searchsorted(at, "left")
    level = no_farther.searchsorted(at, "right") - before  # [H], itself among them
    for i in np.flatnonzero(level > 1):
        before[i] += np.count_nonzero(row[: hits[i]] == at[i])
    return np.sort(before) + 1


def _summary(found: list[NDArray[np.int64]], people: _People, distance: str, max_rank: int) -> Metrics:
    if not found:
        raise InputError(
            f"none of {people.queries} queries has a match in another camera among {people.gallery} gallery "
            "crops: check person and camera ids, or that query and gallery belong together"
        )
    first = np.array([ranks[0] for ranks in found])
    average_precision = [float((np.arange(1, len(ranks) + 1) / ranks).mean()) for ranks in found]
    return Metrics(
        cmc=(first[:, None] <= np.arange(1, max_rank + 1)).mean(axis=0),
        mAP=float(np.mean(average_precision)),
        mINP=float(np.mean([len(ranks) / ranks[-1] for ranks in found])),
        queries=people.queries,
        valid_queries=len(found),
        gallery=people.gallery,
        distance=distance,
    )


def _labels(pids: ArrayLike, camids: ArrayLike, what: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    arrays = np.asarray(pids), np.asarray(camids)
    for array in arrays:
        if array.ndim != 1 or len(array) == 0 or array.dtype.kind not in "iu":
            raise InputError(
                f"the {what} ids must be whole numbers, one a crop and at least one, not {array.dtype} "
                f"{list(array.shape)}: read them with reid_edge.datasets"
            )
    if len(arrays[0]) != len(arrays[1]):
        raise InputError(f"{len(arrays[0])} {what} person ids but {len(arrays[1])} camera ids: give one of each a crop")
    return arrays[0].astype(np.int64), arrays[1].astype(np.int64)
