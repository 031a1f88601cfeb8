"""What goes into a stream, what comes out, and how an item becomes crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.images import Source, crops_of
from reid_edge.errors import InputError, ReidEdgeError

from .boxes import cut_boxes
from .captures import VideoFrame

__all__ = ["Prepared", "StreamItem", "StreamResult", "no_crops", "prepare_item"]

StreamItem: TypeAlias = "Source | tuple[Any, Any]"
"""A crop, or a frame (also a `reid_edge.embedder.captures.VideoFrame`) and the boxes in it."""


@dataclass(frozen=True)
class Prepared:
    """What an item becomes: uint8 [M, H, W, 3] RGB crops, and the facts of its boxes, a row a crop."""

    crops: NDArray[np.uint8]
    kept: NDArray[np.int64]
    clipped: NDArray[np.bool_]
    too_small: NDArray[np.bool_]


@dataclass(frozen=True)
class StreamResult:
    """The embeddings of one item of a stream.

    ``index`` counts the items from 0; ``item`` is the object that the source gave. ``embeddings`` is float32 [M, D]:
    one row for a crop, one a box with area inside the frame for a frame; ``kept``, ``clipped`` and ``too_small`` are
    those of `reid_edge.embedder.boxes.BoxCrops`. ``latency_ms`` is the time from reading the item to its last
    embedding.

    ``error`` is what was wrong with the item, None for nothing. Crops that failed have no row; other items are not
    touched.
    """

    index: int
    item: Any
    embeddings: NDArray[np.float32]
    kept: NDArray[np.int64]
    clipped: NDArray[np.bool_]
    too_small: NDArray[np.bool_]
    error: ReidEdgeError | None
    latency_ms: float


def prepare_item(index: int, item: Any, input_hw: tuple[int, int], resize: str, color: str = "rgb") -> Prepared:
    """The crops of one item. Raises InputError for an item that is none, and what `cut_boxes` and `crops_of` raise."""
    if not isinstance(item, tuple):
        no = np.zeros(1, np.bool_)
        return Prepared(crops_of([item], input_hw, resize, color, index), np.zeros(1, np.int64), no, no)
    if len(item) != 2:
        raise InputError(f"item {index} is a tuple of {len(item)}: give a crop, or a frame and its boxes")
    frame, boxes = item
    image = frame.image if isinstance(frame, VideoFrame) else frame
    cut = cut_boxes(image, boxes, color, f"item {index}")
    return Prepared(crops_of(cut.crops, input_hw, resize, "rgb"), cut.kept, cut.clipped, cut.too_small)


def no_crops(input_hw: tuple[int, int]) -> Prepared:
    """What an item that is wrong becomes."""
    flags = np.empty(0, np.bool_)
    return Prepared(np.empty((0, *input_hw, 3), np.uint8), np.empty(0, np.int64), flags, flags)
