"""The nouns that the rooms hand to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Crop", "Ranking", "Split"]


@dataclass(frozen=True)
class Crop:
    """One person crop on disk: who it shows, and which camera saw it."""

    path: Path
    pid: int
    camid: int


@dataclass(frozen=True)
class Split:
    """The three parts of a re-identification data set; any may be empty."""

    train: tuple[Crop, ...] = ()
    query: tuple[Crop, ...] = ()
    gallery: tuple[Crop, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """The gallery entries closest to each query, best first.

    ``indices`` int64 [Q, k] are gallery rows, ``distances`` float32 [Q, k] ascend along each row (every distance
    in this package is smaller for closer), and ``labels[i]`` names gallery row ``i``.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]
    labels: Sequence[str]

    def named(self, query: int) -> list[tuple[str, float]]:
        """The ``(label, distance)`` pairs of one query row, best first."""
        row = zip(self.indices[query], self.distances[query], strict=True)
        return [(self.labels[int(i)], float(d)) for i, d in row]
