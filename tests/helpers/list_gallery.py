"""The least that a gallery store can be: lists, read back three rows at a time as a database would give them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from reid_edge.gallery.base import GalleryStore

__all__ = ["ListGallery"]

_BLOCK = 3


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
