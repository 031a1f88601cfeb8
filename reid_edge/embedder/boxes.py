"""From a frame and a detector's boxes to crops: views of the frame, one a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.frames import Frame
from reid_edge.errors import InputError

__all__ = [
    "SMALLEST_HW",
    "BoxCrops",
    "BoxEmbeddings",
    "ClippedBoxes",
    "FrameCrops",
    "clip_boxes",
    "cut_boxes",
    "cut_frames",
    "read_boxes",
]

SMALLEST_HW = (32, 16)
"""Height and width in pixels below which a crop is marked ``too_small``; see `cut_boxes`."""


@dataclass(frozen=True)
class ClippedBoxes:
    """Boxes inside a frame, in whole pixels.

    ``edges`` is int64 [M, 4]: left, top, right, bottom; the last two are not part of the box. ``kept`` int64 [M] are
    their rows among the boxes that were given. ``clipped`` bool [M] marks those that reached over the frame's edge,
    ``too_small`` bool [M] those below `SMALLEST_HW`.
    """

    edges: NDArray[np.int64]
    kept: NDArray[np.int64]
    clipped: NDArray[np.bool_]
    too_small: NDArray[np.bool_]


@dataclass(frozen=True)
class BoxCrops:
    """The crops of a frame's boxes: uint8 [h, w, 3] RGB each, and the facts of `ClippedBoxes`, a row a crop."""

    crops: list[NDArray[np.uint8]]
    kept: NDArray[np.int64]
    clipped: NDArray[np.bool_]
    too_small: NDArray[np.bool_]


@dataclass(frozen=True)
class BoxEmbeddings:
    """The embeddings of boxes, and which boxes they are of; M rows.

    ``embeddings`` is float32 [M, D]; ``frames`` int64 [M] the number of each row's frame (0 for a single one), ``kept``
    int64 [M] its row among that frame's boxes; ``clipped`` and ``too_small`` bool [M] as in `ClippedBoxes`.
    """

    embeddings: NDArray[np.float32]
    frames: NDArray[np.int64]
    kept: NDArray[np.int64]
    clipped: NDArray[np.bool_]
    too_small: NDArray[np.bool_]


@dataclass(frozen=True)
class FrameCrops(BoxCrops):
    """The crops of several frames in one list; ``frames`` int64 [M] is the number of each one's frame."""

    frames: NDArray[np.int64]

    def with_embeddings(self, embeddings: NDArray[np.float32]) -> BoxEmbeddings:
        """The same facts beside float32 [M, D]."""
        return BoxEmbeddings(embeddings, self.frames, self.kept, self.clipped, self.too_small)


def cut_frames(frames: Any, boxes: Any, color: str = "rgb") -> FrameCrops:
    """`cut_boxes` for one frame, or for a list of frames (or an array [F, H, W, C]) with boxes for each.

    Raises InputError where a list of frames has another number of boxes; an error names the frame by its number.

    >>> frames = np.zeros((2, 40, 40, 3), np.uint8)
    >>> cut_frames(frames, [[[0, 0, 20, 40]], [[5, 5, 30, 40], [0, 0, 9, 9]]]).frames.tolist()
    [0, 1, 1]
    """
    if not _is_many(frames):
        frames, boxes = [frames], [boxes]
    elif not isinstance(boxes, Sequence | np.ndarray) or len(boxes) != len(frames):
        given = f"{len(boxes)}" if isinstance(boxes, Sequence | np.ndarray) else type(boxes).__name__
        raise InputError(f"{len(frames)} frames with boxes of {given}: give a list with the boxes of each frame")
    cuts = [
        cut_boxes(Frame(frame, color, f"frame {number}"), read_boxes(own, f"frame {number}: "))
        for number, (frame, own) in enumerate(zip(frames, boxes, strict=True))
    ]
    return FrameCrops(
        crops=[crop for cut in cuts for crop in cut.crops],
        kept=np.concatenate([_NO_ROWS, *(cut.kept for cut in cuts)]),
        clipped=np.concatenate([_NO_FLAGS, *(cut.clipped for cut in cuts)]),
        too_small=np.concatenate([_NO_FLAGS, *(cut.too_small for cut in cuts)]),
        frames=np.repeat(np.arange(len(cuts), dtype=np.int64), [len(cut.crops) for cut in cuts]),
    )


def cut_boxes(frame: Any, boxes: Any, color: str = "rgb") -> BoxCrops:
    """Cut the part of ``frame`` inside each box; a box without area inside the frame gives no crop.

    ``frame`` and ``color`` are `reid_edge.data.frames.Frame`'s, ``boxes`` what `read_boxes` reads. The crops share the
    frame's memory where its colour allows: they are valid while its pixels are.

    A crop smaller than `SMALLEST_HW` is cut and marked: its embedding says little of who it is.

    >>> frame = np.zeros((100, 200, 3), np.uint8)
    >>> cut = cut_boxes(frame, [[10.4, 20, 49.6, 90], [-5, 0, 20, 100], [300, 0, 350, 50]])
    >>> [crop.shape for crop in cut.crops], cut.kept.tolist(), cut.clipped.tolist()
    ([(70, 40, 3), (100, 20, 3)], [0, 1], [False, True])
    """
    pixels = frame if isinstance(frame, Frame) else Frame(frame, color)
    inside = clip_boxes(read_boxes(boxes), pixels.height, pixels.width)
    crops = [pixels.cut(*edges) for edges in inside.edges.tolist()]
    return BoxCrops(crops, inside.kept, inside.clipped, inside.too_small)


def clip_boxes(boxes: NDArray[np.float64], height: int, width: int) -> ClippedBoxes:
    """Clip float64 [N, 4] boxes (left, top, right, bottom) to a frame and round their edges to the nearest pixel.

    Rounding keeps sizes right on average, where rounding outwards adds a pixel of background on each side. A box
    with area that would lose it by rounding keeps the pixel that it lies in.

    >>> clip_boxes(np.array([[1.5, 0.4, 2.6, 9.0], [3.6, 3.6, 3.9, 3.9]]), 8, 8).edges.tolist()
    [[2, 0, 3, 8], [3, 3, 4, 4]]
    """
    size = np.array([width, height, width, height], np.float64)
    inside = np.clip(boxes, 0, size)
    kept = np.flatnonzero((inside[:, :2] < inside[:, 2:]).all(axis=1))
    inside, given = inside[kept], boxes[kept]
    edges = np.floor(inside + 0.5)
    low, high = edges[:, :2], edges[:, 2:]
    lost = low >= high  # [M, 2], per axis
    low[lost] = np.minimum(np.floor(inside[:, :2]), size[:2] - 1)[lost]
    high[lost] = low[lost] + 1
    clipped: NDArray[np.bool_] = np.any(inside != given, axis=1)
    too_small: NDArray[np.bool_] = np.any((high - low)[:, ::-1] < SMALLEST_HW, axis=1)
    return ClippedBoxes(edges.astype(np.int64), kept, clipped, too_small)


def read_boxes(boxes: Any, of: str = "") -> NDArray[np.float64]:
    """Boxes as float64 [N, 4]: left, top, right, bottom in pixels of the frame.

    Takes anything that NumPy takes, integers or floats; ``supervision.Detections`` and other objects with ``xyxy``;
    ultralytics' results, whose ``boxes`` have ``xyxy``; and torch's tensors, also on a GPU. Neither is imported.

    Raises InputError for another shape, and for a box that is not finite or ends before it begins, by its row;
    ``of`` begins its text.

    >>> read_boxes([[0, 1, 10, 20]]).tolist(), read_boxes([]).shape
    ([[0.0, 1.0, 10.0, 20.0]], (0, 4))
    """
    try:
        array = np.asarray(_plain(boxes), np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{of}boxes of {type(boxes).__name__} are not numbers: give [N, 4] as {_FORM}") from None
    if array.size == 0 and array.ndim <= 2:
        return np.empty((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise InputError(f"{of}boxes of shape {list(array.shape)}: give [N, 4] as {_FORM}, also for a single box")
    wrong = ~np.isfinite(array).all(axis=1) | (array[:, :2] > array[:, 2:]).any(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{of}box {row} is {array[row].tolist()}: give finite numbers as {_FORM} (not centre and size)"
        )
    return array


_FORM = "left, top, right, bottom"
_NO_ROWS = np.empty(0, np.int64)
_NO_FLAGS = np.empty(0, np.bool_)


def _is_many(frames: Any) -> bool:
    return frames.ndim == 4 if isinstance(frames, np.ndarray) else isinstance(frames, Sequence)


def _plain(boxes: Any) -> Any:
    """What NumPy can read: the corners of a detector's result, on the CPU."""
    if not isinstance(boxes, np.ndarray):
        found = getattr(boxes, "boxes", boxes)  # ultralytics' Results; None where it has no boxes
        found = [] if found is None else getattr(found, "xyxy", found)
        for step in ("detach", "cpu", "numpy"):
            found = getattr(found, step)() if hasattr(found, step) else found
        return found
    return boxes
