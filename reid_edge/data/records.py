"""The records that the packages hand to each other: crops, splits, ranked lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .readers.listing import Crop, Listing, Split

__all__ = ["Crop", "Listing", "Ranking", "Split"]


@dataclass(frozen=True)
class Ranking:
    """The gallery entries closest to each query, best first.

    ``indices`` int64 [Q, k] are gallery rows, ``distances`` float32 [Q, k] ascend along each row (every distance
    in this package is smaller for closer), and ``labels[i]`` names gallery row ``i``.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]
    labels: Sequence[str]

    def __repr__(self) -> str:
        queries, k = self.indices.shape
        nearest = ""
        if queries and k:
            label, distance = self.named(0)[0]
            nearest = f"; nearest to the first: {label!r} at {distance:.4f}"
        return f"<Ranking: the {k} closest of {len(self.labels)} to each of {queries} queries{nearest}>"

    def named(self, query: int) -> list[tuple[str, float]]:
        """The ``(label, distance)`` pairs of one query row, best first."""
        row = zip(self.indices[query], self.distances[query], strict=True)
        return [(self.labels[int(i)], float(d)) for i, d in row]
