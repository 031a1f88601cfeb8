"""What tests of galleries share, and the least that a store can be: lists, read back three rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from reid_edge.gallery.base import GalleryStore

__all__ = ["ANGLES", "ListGallery", "at"]

ANGLES = {"ann": 0, "bob": 20, "cid": 40, "dan": 90}
"""Four people, and where on the unit circle their embeddings lie, in degrees."""

_BLOCK = 3


def at(*degrees: float) -> list[list[float]]:
    """Embeddings of two dimensions on the unit circle."""
    return [[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees]


class ListGallery(GalleryStore):
    """A `GalleryStore` over two lists."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.float32]] = []
        self._names: list[str] = []
        self._maker = ""

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dim(self) -> int | None:
        return len(self._rows[0]) if self._rows else None

    @property
    def model(self) -> str:
        return self._maker

    @property
    def labels(self) -> Sequence[str]:
        return list(self._names)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(self), _BLOCK):
            yield np.stack(self._rows[start : start + _BLOCK])

    def _add(self, rows: NDArray[np.float32], labels: Sequence[str], model: str) -> None:
        self._rows += list(rows.copy())
        self._names += labels
        self._maker = self._maker or model

    def _remove(self, labels: frozenset[str]) -> None:
        kept = [row for row, name in enumerate(self._names) if name not in labels]
        self._rows, self._names = [self._rows[row] for row in kept], [self._names[row] for row in kept]
