"""CMC, mAP and mINP: how well embeddings find the same person in other cameras.

For each query, gallery entries of the same person *and* the same camera are dropped (`reid_edge.scoring.matches`). A
query without a match after that is not counted; the number of counted queries is reported. Over these, in order of
distance (ties in gallery order):

- CMC at k: the share of queries whose first match is at rank k or better (R1 is CMC at 1);
- AP: the mean, over a query's matches, of the precision at each; mAP is its mean over queries (Zheng et
  al., "Scalable Person Re-identification: A Benchmark", ICCV 2015, but the mean of precisions, not the
  trapezoid of its authors' code);
- INP: a query's number of matches over the rank of its last one; mINP is the mean (Ye et al., "Deep
  Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021).

Nothing is sorted in full: the rank of a match is one more than the number of entries closer than it.
Distances are consumed a block of queries at a time, so memory does not grow with queries x gallery.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.core.pools import thread_pool
from reid_edge.core.threads import usable_cores
from reid_edge.errors import InputError

from .blocks import DistanceBlocks, checked_blocks
from .distances import as_embeddings, distance_by_name
from .matches import Matches

__all__ = ["Metrics", "score", "score_blocks"]

_REPORTED_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True, eq=False)
class Metrics:
    """The figures of a ranking; each is a fraction, 0..1.

    ``cmc`` float64 [max_rank] holds CMC at 1, 2, ...; ``queries`` is their number, of which ``valid_queries``
    have a match and are counted; ``gallery`` is the number of gallery entries; ``distance`` is the name of the
    distance.

    For each valid query, in order: ``average_precision`` float64 [V], ``first_match`` int64 [V], the rank of its first
    match, and ``persons`` int64 [V], the person of each.
    """

    cmc: NDArray[np.float64]
    mAP: float  # noqa: N815 - the name the field knows it by
    mINP: float  # noqa: N815
    queries: int
    valid_queries: int
    gallery: int
    distance: str
    average_precision: NDArray[np.float64]
    first_match: NDArray[np.int64]
    persons: NDArray[np.int64]

    def __repr__(self) -> str:
        scores = f"rank-1 {100 * self.rank(1):.1f} %, mAP {100 * self.mAP:.1f} %, mINP {100 * self.mINP:.1f} %"
        return f"<Metrics: {scores}; {self.valid_queries} of {self.queries} queries, {self.gallery} gallery crops>"

    def rank(self, k: int) -> float:
        """CMC at ``k``: the share of valid queries with a match among their first ``k``.

        Raises InputError unless 1 <= k <= max_rank.
        """
        if not 1 <= k <= len(self.cmc):
            raise InputError(f"rank {k} was not measured: ask for 1..{len(self.cmc)}, or score with a larger max_rank")
        return float(self.cmc[k - 1])

    def to_dict(self) -> dict[str, Any]:
        """The figures by name, JSON-able: rank1, rank5, rank10 and rank20 as far as max_rank goes."""
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

    ``distance`` is a name that `reid_edge.scoring.distances.distance_by_name` knows; ``progress`` shows a bar. Raises
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
    distances: DistanceBlocks,
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

    This is `score` for distances that the caller computes, smaller for closer, such as a re-ranked matrix:
    ``score_blocks(matrix.__getitem__, ...)``. Blocks are only read. ``distance`` is their name in the result.
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
    matches = Matches(query_pids, query_camids, gallery_pids, gallery_camids)
    found: dict[int, NDArray[np.int64]] = {}
    with thread_pool() as pool:
        for start, block in checked_blocks(distances, matches.queries, matches.gallery, "scoring" * progress):
            parts = np.array_split(np.arange(len(block)), usable_cores())
            for ranks in pool.map(partial(_ranks_of_rows, block, start, matches), parts):
                found |= ranks
    return _summary(found, matches, distance, max_rank)


def _ranks_of_rows(
    block: NDArray[np.float32], start: int, matches: Matches, rows: NDArray[np.intp]
) -> dict[int, NDArray[np.int64]]:
    """The ranks of all matches of each query in ``rows`` that has one; ``block`` [n, G] begins at query ``start``."""
    found = {}
    for row in rows.tolist():
        hits, dropped = matches.of(start + row)
        if len(hits):
            found[start + row] = _ranks_of_hits(block[row], hits, dropped)
    return found


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
    level = no_farther.searchsorted(at, "right") - before  # [H], including itself
    for i in np.flatnonzero(level > 1):
        before[i] += np.count_nonzero(row[: hits[i]] == at[i])
    return np.sort(before) + 1


def _summary(found: dict[int, NDArray[np.int64]], matches: Matches, distance: str, max_rank: int) -> Metrics:
    """The figures of the ranks of matches by query."""
    if not found:
        raise InputError(
            f"none of {matches.queries} queries has a match in another camera among {matches.gallery} gallery "
            "crops: check person and camera ids, and that query and gallery are of the same data set"
        )
    first = np.array([ranks[0] for ranks in found.values()])  # [V]
    average_precision = np.array([(np.arange(1, len(ranks) + 1) / ranks).mean() for ranks in found.values()])
    return Metrics(
        cmc=(first[:, None] <= np.arange(1, max_rank + 1)).mean(axis=0),
        mAP=float(average_precision.mean()),
        mINP=float(np.mean([len(ranks) / ranks[-1] for ranks in found.values()])),
        queries=matches.queries,
        valid_queries=len(found),
        gallery=matches.gallery,
        distance=distance,
        average_precision=average_precision,
        first_match=first,
        persons=matches.query_pids[list(found)],
    )
