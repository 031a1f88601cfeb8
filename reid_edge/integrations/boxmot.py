"""The model that boxmot's trackers ask for embeddings: ``BotSort(reid_model=BoxmotReid(embedder))``.

Tried with boxmot 25.0.0, whose trackers take as ``reid_model`` any object with ``get_features(boxes, image)``. boxmot
is under AGPL-3.0; nothing of it is here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.embedder.embedder import Embedder

from .rows import embedding_rows

__all__ = ["BoxmotReid"]


class BoxmotReid:
    """What a tracker of boxmot calls for appearance, made of an Embedder, which the caller closes.

    >>> frame = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
    >>> with Embedder(model_file) as embedder:
    ...     features = BoxmotReid(embedder).get_features(np.array([[10, 10, 60, 150.0]]), frame)
    >>> features.shape
    (1, 24)
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def get_features(self, boxes: Any, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed boxes [N, 4] (x1, y1, x2, y2) of a frame uint8 [H, W, 3] BGR: float32 [N, D], of L2 norm 1.

        boxmot refuses a row that is zero or not finite, so a box outside of the frame gets one whose dimensions are
        all equal and negative: far from any embedding of a model that ends in a ReLU, and unrelated to others.
        Raises InputError for oriented boxes, [N, 5].
        """
        rows = embedding_rows(self._embedder, image, boxes)
        rows[np.isnan(rows).any(axis=1)] = -1 / np.sqrt(rows.shape[1])
        return rows
