"""The encoder of ultralytics' trackers with ReID: BoT-SORT, Deep OC-SORT and TrackTrack.

Tried with ultralytics 8.4.190. Such a tracker calls ``encoder(img, dets)`` for a list with an embedding or None for
each detection. ``model:`` in its YAML takes files alone, which get floats 0..1 where this library's take uint8; so the
encoder is set through a callback of the model. ultralytics is under AGPL-3.0; nothing of it is here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.embedder.embedder import Embedder
from reid_edge.errors import InputError

from .rows import embedding_rows

__all__ = ["UltralyticsReid", "use_reid"]


class UltralyticsReid:
    """An encoder made of an Embedder, which the caller closes: what ``BOTSORT.encoder`` may be.

    >>> frame = np.random.default_rng(0).integers(0, 255, (200, 300, 3)).astype(np.uint8)
    >>> with Embedder(model_file) as embedder:  # a box in the frame and one outside: centre x, centre y, width, height
    ...     found = UltralyticsReid(embedder)(frame, np.array([[35, 80, 50, 140, 0], [500, 80, 50, 140, 1]]))
    >>> found[0].shape, found[1]
    ((24,), None)
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def __call__(self, img: NDArray[np.uint8], dets: Any) -> list[NDArray[np.float32] | None]:
        """Embed detections [N, 5] (centre x, centre y, width, height, index) of a frame uint8 [H, W, 3] BGR.

        Each gives float32 [D] of L2 norm 1, or None for a box outside of the frame. Raises InputError for the oriented
        boxes of ``task=obb``, which have one column more.
        """
        boxes = np.asarray(dets, np.float64)
        if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
            raise InputError(f"detections of shape {list(boxes.shape)}: give upright boxes, not those of task=obb")
        centre, half = boxes[:, :2], boxes[:, 2:4] / 2
        rows = embedding_rows(self._embedder, img, np.concatenate([centre - half, centre + half], axis=1))
        return [None if np.isnan(row).any() else row for row in rows]


def use_reid(model: Any, embedder: Embedder) -> None:
    """Let ``model.track(...)`` of an ultralytics ``YOLO`` take appearance from an Embedder.

    Call it once, then ``model.track(source, tracker="botsort.yaml")`` with ``with_reid`` off, its default: what is in
    the YAML would only be loaded beside it. Raises InputError, from ``track``, for a tracker without ReID, such as
    ByteTrack.
    """
    encoder = UltralyticsReid(embedder)

    def set_encoders(predictor: Any) -> None:
        """Called once the trackers are there, before they see a frame."""
        if predictor.args.mode == "track":
            for tracker in predictor.trackers:
                if not hasattr(tracker, "encoder"):
                    name = type(tracker).__name__
                    raise InputError(f"{name} takes no embeddings: give track(..., tracker='botsort.yaml')")
                tracker.encoder = encoder
                tracker.args.with_reid, tracker.args.model = True, "reid_edge"  # "auto" is the detector's own

    model.add_callback("on_predict_batch_start", set_encoders)
