"""Boxes of a detector on a frame, to crops: clipped, rounded, cut without a copy.

Boxes are x1, y1, x2, y2 in pixels with the origin at the top left corner of the frame, as detectors give them: pixel
i covers i to i + 1, so that x2 - x1 is the width and a box over all of a frame ends at its width and height.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.colors import cut_rgb, size_hw
from reid_edge.data.decoding import read
from reid_edge.data.images import Source
from reid_edge.errors import InputError

__all__ = [
    "MIN_HEIGHT",
    "MIN_WIDTH",
    "BoxCrops",
    "BoxEmbeddings",
    "Boxes",
    "ClippedBoxes",
    "FrameCrops",
    "clip_boxes",
    "cut_boxes",
    "xyxy_of",
]

Boxes: TypeAlias = Any
"""An array [N, 4] of x1, y1, x2, y2; or a ``supervision.Detections`` or an ultralytics ``Results`` that holds one."""

MIN_HEIGHT, MIN_WIDTH = 24, 12
"""Pixels below which a crop is flagged as too small: queries of that size keep half of a model's mAP (measured with
OSNet x0.25 of MSMT17 on Market-1501's training part, docs/guides/frames.md), and smaller ones lose the rest fast."""

_MISSING: Any = object()


@dataclass(frozen=True)
class ClippedBoxes:
    """What of some boxes is inside a frame; row m is about box ``kept[m]``.

    ``edges`` is int64 [M, 4], left, top, right, bottom in whole pixels, at least one pixel wide and high. ``kept`` is
    int64 [M], ascending. ``clipped`` and ``too_small`` are bool [M]: a part of the box is outside of the frame; fewer
    pixels than `MIN_HEIGHT` or `MIN_WIDTH` are left.
    """

    edges: NDArray[np.int64]
    kept: NDArray[np.int64]
    clipped: NDArray[np.bool_]
    too_small: NDArray[np.bool_]


@dataclass(frozen=True)
class BoxCrops:
    """The crops of a frame: ``crops`` are M arrays uint8 [h, w, 3] RGB; the other fields are those of `ClippedBoxes`.

    The crops are views of the frame, not to be written to; those of an "nv12" or Pillow frame are copies.
    """

    crops: list[NDArray[np.uint8]]
    kept: NDArray[np.int64]
    clipped: NDArray[np.bool_]
    too_small: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class BoxEmbeddings:
    """What `Embedder.embed` found in frames; row m is box ``kept[m]`` of frame ``frame[m]``.

    ``embeddings`` is float32 [M, D]; ``frame`` and ``kept`` are int64 [M]; ``clipped`` and ``too_small`` are
    bool [M], as in `ClippedBoxes`. Rows are in the order of frames, and of boxes within each.
    """

    embeddings: NDArray[np.float32]
    frame: NDArray[np.int64]
    kept: NDArray[np.int64]
    clipped: NDArray[np.bool_]
    too_small: NDArray[np.bool_]

    def __repr__(self) -> str:
        rows, dimensions = self.embeddings.shape
        flags = f"{np.count_nonzero(self.clipped)} clipped, {np.count_nonzero(self.too_small)} too small"
        return f"<BoxEmbeddings: {rows} boxes, {dimensions} dimensions, {flags}>"


def cut_boxes(frame: Source, boxes: Boxes, color: str = "rgb", name: str = "frame") -> BoxCrops:
    """Cut the boxes out of a frame: an array in one of `reid_edge.data.colors.COLORS`, a Pillow image or a file.

    A crop is RGB whatever ``color`` is. Only what is inside the boxes is ever converted. Boxes are clipped and rounded
    by `clip_boxes`, which says what is left out. ``name`` names the frame in errors.

    Raises ImageError for a frame that is none and InputError for boxes that are none.

    >>> frame = np.zeros((480, 640, 3), np.uint8)
    >>> cut = cut_boxes(frame, [[600.2, 100, 700, 300], [700, 0, 800, 100]], color="bgr")
    >>> [crop.shape for crop in cut.crops], cut.kept.tolist(), cut.clipped.tolist(), cut.too_small.tolist()
    ([(200, 40, 3)], [0], [True], [False])
    """
    image, color = (read(frame), "rgb") if isinstance(frame, str | Path) else (frame, color)
    inside = clip_boxes(boxes, size_hw(image, name, color), name)
    crops = [cut_rgb(image, (x1, y1, x2, y2), name, color) for x1, y1, x2, y2 in inside.edges.tolist()]
    return BoxCrops(crops, inside.kept, inside.clipped, inside.too_small)


def clip_boxes(boxes: Boxes, frame_hw: tuple[int, int], name: str = "frame") -> ClippedBoxes:
    """Clip boxes [N, 4] to a frame of ``frame_hw`` (height, width), and round them to whole pixels.

    A box without area inside the frame is left out. Each edge goes to the nearest border between pixels (halves
    right and down), so that a crop keeps every pixel that is covered by more than half, sizes are right on average and
    noise in the last digits moves nothing; a sliver keeps at least the pixel where it begins. A box counts as clipped
    when its rounded edges leave the frame.

    Raises InputError that names the first row that is no box: not finite, or x2 < x1 or y2 < y1.

    >>> clip_boxes([[-3.6, 10.4, 20.5, 30.5], [5.1, 0, 5.2, 99]], (50, 40)).edges.tolist()
    [[0, 10, 21, 31], [5, 0, 6, 50]]
    """
    xyxy = xyxy_of(boxes, name)
    height, width = frame_hw
    size = np.array([width, height, width, height], np.float64)
    inside = np.clip(xyxy, 0, size)
    kept = np.flatnonzero((inside[:, :2] < inside[:, 2:]).all(axis=1))
    inside, rounded = inside[kept], np.floor(xyxy[kept] + 0.5)
    low, high = np.split(np.floor(inside + 0.5), 2, axis=1)
    low = np.where(low < high, low, np.floor(inside[:, :2]))
    edges = np.concatenate([low, np.maximum(high, low + 1)], axis=1).astype(np.int64)
    clipped = (rounded < 0) | (rounded > size)
    too_small = edges[:, 2:] - edges[:, :2] < (MIN_WIDTH, MIN_HEIGHT)
    return ClippedBoxes(edges, kept, np.any(clipped, axis=1), np.any(too_small, axis=1))


def xyxy_of(boxes: Boxes, name: str = "frame") -> NDArray[np.float64]:
    """The boxes as float64 [N, 4]: an array, nested lists, or what has them as ``.xyxy`` or ``.boxes.xyxy``.

    Those are the documented attributes of ``supervision.Detections`` and of ultralytics ``Results`` (an array or a
    torch tensor, on any device). Raises InputError, which names the row, for what is not N boxes.

    >>> xyxy_of([[1, 2, 3.5, 4]]).tolist(), xyxy_of([]).shape
    ([[1.0, 2.0, 3.5, 4.0]], (0, 4))
    """
    found: Any = getattr(boxes, "boxes", boxes)
    found = getattr(found, "xyxy", found)
    if hasattr(found, "cpu"):  # a torch tensor; numpy cannot read one from the GPU
        found = found.detach().cpu().double().numpy()
    try:
        array = np.asarray(found)
    except ValueError:  # ragged
        array = np.asarray(None)
    if array.size == 0 and array.ndim in (1, 2):
        return np.empty((0, 4))
    if array.ndim != 2 or array.shape[1] != 4 or array.dtype.kind not in "iuf":
        shape = f"{array.dtype} {list(array.shape)}" if array.dtype != object else type(boxes).__name__
        raise InputError(f"the boxes of {name} are {shape}: give numbers [N, 4], x1, y1, x2, y2 in pixels")
    return _checked(array.astype(np.float64), name)


class FrameCrops:
    """Iterates over the crops of frames, each with its boxes, and remembers which they were.

    A frame is cut when its first crop is asked for, so that frames may come from a video and boxes from a detector.
    """

    def __init__(self, frames: Iterable[Source], boxes: Iterable[Boxes], color: str) -> None:
        self._pairs = zip_longest(frames, boxes, fillvalue=_MISSING)
        self._color = color
        self._cuts = [BoxCrops([], np.empty(0, np.int64), np.empty(0, bool), np.empty(0, bool))]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for number, (frame, boxes) in enumerate(self._pairs):
            if frame is _MISSING or boxes is _MISSING:
                more = "frames" if boxes is _MISSING else "boxes"
                raise InputError(f"there are more {more} than the first {number}: give every frame its boxes")
            cut = cut_boxes(frame, boxes, self._color, f"frame {number}")
            self._cuts.append(replace(cut, crops=[]))
            yield from cut.crops

    def with_embeddings(self, embeddings: NDArray[np.float32]) -> BoxEmbeddings:
        """The embeddings [M, D] of all crops, with what was remembered of each."""
        numbers = np.arange(len(self._cuts)) - 1  # the first cut is of no frame, for where there are none
        return BoxEmbeddings(
            embeddings,
            frame=np.repeat(numbers, [len(cut.kept) for cut in self._cuts]),
            kept=np.concatenate([cut.kept for cut in self._cuts]),
            clipped=np.concatenate([cut.clipped for cut in self._cuts]),
            too_small=np.concatenate([cut.too_small for cut in self._cuts]),
        )


def _checked(xyxy: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """The boxes, if they all are: finite, and x1 <= x2 and y1 <= y2."""
    infinite = ~np.all(np.isfinite(xyxy), axis=1)
    wrong = np.flatnonzero(infinite | np.any(xyxy[:, 2:] < xyxy[:, :2], axis=1))
    if len(wrong):
        row = int(wrong[0])
        fault = (
            "is not finite: drop it" if infinite[row] else "ends before it begins: give x1, y1, x2, y2, not x, y, w, h"
        )
        raise InputError(f"box {row} of {name}, {xyxy[row].tolist()}, {fault}")
    return xyxy
