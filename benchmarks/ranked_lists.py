"""Ranked lists as the protocol counts them: what of a query's gallery is scored, closest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.datasets import Dataset
from reid_edge.data.records import Crop
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import Engine
from reid_edge.scoring.distances import distance_by_name

__all__ = ["ProtocolRanker", "RankedList", "rank_by_protocol"]


@dataclass(frozen=True)
class RankedList:
    """A query with the gallery crops closest to it and their distances; ``matches`` are all there are to find.

    ``skipped`` are the crops of the query's person by the query's camera that are closer than the last of ``ranked``:
    the protocol drops them. ``average_precision`` is the query's AP over its whole gallery, a fraction; None where it
    was not scored, or has no match.
    """

    query: Crop
    ranked: tuple[tuple[Crop, float], ...]
    matches: int
    skipped: tuple[tuple[Crop, float], ...] = ()
    average_precision: float | None = None

    @property
    def right(self) -> int:
        """How many of ``ranked`` show the query's person."""
        return sum(crop.pid == self.query.pid for crop, _ in self.ranked)

    @property
    def first_is_right(self) -> bool:
        """Whether the closest crop shows the query's person."""
        return bool(self.ranked) and self.ranked[0][0].pid == self.query.pid


class ProtocolRanker:
    """Ranks the gallery of a data set for its queries, given their distances."""

    def __init__(self, dataset: Dataset, top: int = 10) -> None:
        self._gallery, self._top, self._filtered = dataset.split.gallery, top, dataset.same_camera_filter
        self._pids = np.array([crop.pid for crop in self._gallery])
        self._cameras = np.array([crop.camid for crop in self._gallery])

    def ranked(self, query: Crop, distances: NDArray[np.float32], average_precision: float | None = None) -> RankedList:
        """The list of a query; ``distances`` float [G] are those of the gallery's crops, in its order."""
        same = (self._pids == query.pid) & (query.pid >= 0)
        dropped = same & (self._cameras == query.camid) & self._filtered
        order = np.argsort(distances, kind="stable")
        counted = order[~dropped[order]][: self._top]
        last = int(np.flatnonzero(order == counted[-1])[0]) if len(counted) else 0
        skipped = order[:last][dropped[order[:last]]]
        ranked, left_out = (
            tuple((self._gallery[index], float(distances[index])) for index in rows) for rows in (counted, skipped)
        )
        return RankedList(query, ranked, int((same & ~dropped).sum()), left_out, average_precision)


def rank_by_protocol(
    model: Path | str | Engine, dataset: Dataset, queries: Sequence[Crop], *, top: int = 10, distance: str = "cosine"
) -> list[RankedList]:
    """The ``top`` gallery crops of each query: as in the scores, none of the same person by the same camera.

    Raises what `Embedder.embed` raises.
    """
    with Embedder(model) as embedder:
        known = embedder.embed([crop.path for crop in dataset.split.gallery], progress=True)
        asked = embedder.embed([crop.path for crop in queries], progress=True)
    ranker = ProtocolRanker(dataset, top)
    rows = distance_by_name(distance).against(known)(asked)
    return [ranker.ranked(query, row) for query, row in zip(queries, rows, strict=True)]
