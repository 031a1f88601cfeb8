"""One embedding for each box, as trackers want it: no box is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.embedder.boxes import xyxy_of
from reid_edge.embedder.embedder import Embedder

__all__ = ["embedding_rows"]


def embedding_rows(embedder: Embedder, frame: Any, boxes: Any, color: str = "bgr") -> NDArray[np.float32]:
    """Embed the boxes [N, 4] of a frame: float32 [N, D], of L2 norm 1, but NaN for a box outside of the frame.

    The arguments are those of `Embedder.embed`, except that ``color`` is "bgr" if nothing is said: these trackers take
    OpenCV's frames. Raises what `Embedder.embed` raises.

    >>> frame = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
    >>> with Embedder(model_file) as embedder:
    ...     rows = embedding_rows(embedder, frame, [[10, 10, 60, 150], [400, 10, 460, 190]])
    >>> rows.shape, np.isnan(rows).all(axis=1).tolist()
    ((2, 24), [False, True])
    """
    xyxy = xyxy_of(boxes)
    found = embedder.embed(frame, color, boxes=xyxy, details=True)
    rows = np.full((len(xyxy), embedder.card.embedding_dim), np.nan, np.float32)
    rows[found.kept] = found.embeddings
    return rows
