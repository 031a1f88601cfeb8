"""Embeddings travel in ``supervision.Detections.data``, which keeps one row a detection through filters and trackers.

Tried with supervision 0.31.2 and Roboflow's trackers 2.6.1. The trackers of the latter associate by motion alone and
have no hook for appearance; they return the detections that they were given, indexed, so that the rows stay with them.
"""

from __future__ import annotations

from typing import Any

from reid_edge.embedder.embedder import Embedder

from .rows import embedding_rows

__all__ = ["EMBEDDING", "with_embeddings"]

EMBEDDING = "embedding"
"""The key in ``Detections.data``."""


def with_embeddings(detections: Any, frame: Any, embedder: Embedder, color: str = "bgr") -> Any:
    """Set ``detections.data["embedding"]``, float32 [N, D], and return the same detections.

    ``detections`` is a ``supervision.Detections`` of ``frame``: its ``xyxy`` is read and its ``data`` (a dict of rows)
    written. A box outside of the frame has a row of NaN. Raises what `Embedder.embed` raises.

    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> detections = SimpleNamespace(xyxy=np.array([[10, 10, 60, 150.0]]), data={})
    >>> frame = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
    >>> with Embedder(model_file) as embedder:
    ...     found = with_embeddings(detections, frame, embedder)
    >>> found.data["embedding"].shape
    (1, 24)
    """
    detections.data[EMBEDDING] = embedding_rows(embedder, frame, detections, color)
    return detections
