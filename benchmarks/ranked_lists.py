"""Ranked lists as the protocol counts them: what of a query's gallery is scored, closest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_edge.data.datasets import Dataset
from reid_edge.data.records import Crop
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import Engine
from reid_edge.scoring.distances import distance_by_name

__all__ = ["RankedList", "rank_by_protocol"]


@dataclass(frozen=True)
class RankedList:
    """A query with the gallery crops closest to it and their distances; ``matches`` are all there are to find."""

    query: Crop
    ranked: tuple[tuple[Crop, float], ...]
    matches: int


def rank_by_protocol(
    model: Path | str | Engine, dataset: Dataset, queries: Sequence[Crop], *, top: int = 10, distance: str = "cosine"
) -> list[RankedList]:
    """The ``top`` gallery crops of each query: as in the scores, none of the same person by the same camera.

    Raises what `Embedder.embed` raises.
    """
    gallery = dataset.split.gallery
    with Embedder(model) as embedder:
        known = embedder.embed([crop.path for crop in gallery], progress=True)
        asked = embedder.embed([crop.path for crop in queries], progress=True)
    pids, cameras = (np.array([getattr(crop, name) for crop in gallery]) for name in ("pid", "camid"))
    found = []
    for query, row in zip(queries, distance_by_name(distance).against(known)(asked), strict=True):
        same = pids == query.pid
        counted = ~(same & (cameras == query.camid)) if dataset.same_camera_filter else np.ones(len(gallery), bool)
        order = np.flatnonzero(counted)[np.argsort(row[counted], kind="stable")][:top]
        ranked = tuple((gallery[index], float(row[index])) for index in order)
        found.append(RankedList(query, ranked, int((same & counted).sum())))
    return found
