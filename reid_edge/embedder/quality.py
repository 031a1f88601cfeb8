"""How much of a person a crop shows: what decides which crops of a track are worth an embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reid_edge.data.images import resize

from .boxes import BoxCrops, xyxy_of

__all__ = ["CropQuality", "box_iou", "covered_shares", "measure_quality", "sharpness"]

_SEEN_HW = (128, 64)
"""The size at which sharpness is measured, so that it is of the same detail for a person near and far."""

_SHARP = 400.0  # levels squared: half of the full score
_ASPECTS = (1.6, 4.0)  # height over width of a whole standing person, with a detector's slack


@dataclass(frozen=True)
class CropQuality:
    """The quality of M crops, a row a crop.

    ``height`` and ``width`` float32 [M] are in pixels of the frame; ``sharpness`` float32 [M] is `sharpness`'s, in
    levels squared; ``overlap`` float32 [M], 0..1, is the largest share of the box that one other box of the frame
    covers; ``cut`` bool [M] marks boxes that reach over the frame's edge.

    >>> quality = CropQuality.of(height=[128, 128], width=[50, 50], sharpness=[400, 400], overlap=[0, 0.75])
    >>> quality.score.tolist()
    [0.5, 0.125]
    """

    height: NDArray[np.float32]
    width: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    overlap: NDArray[np.float32]
    cut: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        *,
        height: ArrayLike,
        width: ArrayLike,
        sharpness: ArrayLike,
        overlap: ArrayLike = 0.0,
        cut: ArrayLike = False,
    ) -> CropQuality:
        """From arrays or lists [M], or numbers for all crops."""
        floats = [np.asarray(each, np.float32) for each in (height, width, sharpness, overlap)]
        high, wide, sharp, covered, edge = np.broadcast_arrays(*floats, np.asarray(cut, np.bool_))
        return cls(high, wide, sharp, covered, edge)

    @property
    def aspect(self) -> NDArray[np.float32]:
        """Height over width, float32 [M]: 2 to 3.5 for a person who stands or walks."""
        return self.height / self.width

    @property
    def score(self) -> NDArray[np.float32]:
        """One number a crop, float32 [M], 0..1: the product of a factor for each measure.

        Sharpness s counts as s / (s + 400); a share that is covered by its rest; an aspect outside of 1.6 to 4 by its
        ratio to the nearer end; a box over the frame's edge half. Size has no factor: a small crop is not sharp.
        What each is worth in mAP is measured in ``docs/measurements/tracks.md``.
        """
        least, most = _ASPECTS
        sharp = self.sharpness / (self.sharpness + _SHARP)
        shape = np.minimum(np.minimum(self.aspect / least, most / self.aspect), 1)
        score: NDArray[np.float32] = sharp * (1 - self.overlap) * shape * np.where(self.cut, 0.5, 1)
        return score.astype(np.float32)


def measure_quality(cut: BoxCrops, boxes: ArrayLike) -> CropQuality:
    """Measure the crops that `reid_edge.embedder.boxes.cut_boxes` cut out of a frame, given all of its boxes [N, 4].

    A crop of 64x128 takes about 0.1 ms.

    >>> from reid_edge.embedder.boxes import cut_boxes
    >>> boxes = [[0, 0, 40, 100], [30, 0, 70, 100]]
    >>> measure_quality(cut_boxes(np.zeros((100, 100, 3), np.uint8), boxes), boxes).overlap.tolist()
    [0.25, 0.25]
    """
    sizes = np.array([crop.shape[:2] for crop in cut.crops], np.float32).reshape(-1, 2)  # [M, 2]
    return CropQuality.of(
        height=sizes[:, 0],
        width=sizes[:, 1],
        sharpness=[sharpness(crop) for crop in cut.crops],
        overlap=covered_shares(boxes)[cut.kept],
        cut=cut.clipped,
    )


def sharpness(crop: NDArray[np.uint8]) -> float:
    """The variance of the Laplacian of a crop uint8 [h, w, 3] RGB, in levels squared.

    Measured in grey at 128x64 pixels: a small crop is enlarged and comes out as blurred as it is for a network
    (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000).

    >>> checks = np.indices((128, 64)).sum(axis=0)[..., None] % 2 * np.full(3, 255, np.uint8)
    >>> sharpness(np.full((128, 64, 3), 90, np.uint8)), sharpness(checks.astype(np.uint8)) > 1e6
    (0.0, True)
    """
    red, green, blue = np.moveaxis(resize(crop, _SEEN_HW).astype(np.float32), 2, 0)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue  # [128, 64]
    middle = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    return float(laplacian.var())


def covered_shares(boxes: ArrayLike) -> NDArray[np.float32]:
    """The largest share of each box [N, 4] that one other box covers: float32 [N].

    Intersection over the box's own area, where `box_iou` would call a person wholly behind a larger one half free.
    Which of two stands in front is not known from boxes, so both are marked down.

    >>> covered_shares([[0, 0, 10, 10], [5, 0, 25, 10], [50, 0, 60, 10]]).tolist()
    [0.5, 0.25, 0.0]
    """
    xyxy = xyxy_of(boxes)
    shared = _intersections(xyxy, xyxy)  # [N, N]
    np.fill_diagonal(shared, 0)
    shares: NDArray[np.float32] = shared.max(axis=1, initial=0) / np.maximum(_areas(xyxy), 1e-9)
    return shares.astype(np.float32)


def box_iou(boxes: ArrayLike, others: ArrayLike) -> NDArray[np.float32]:
    """Intersection over union of boxes [N, 4] and [M, 4]: float32 [N, M], 0 for two without area.

    >>> box_iou([[0, 0, 10, 10]], [[5, 0, 15, 10], [0, 0, 10, 5], [20, 0, 30, 10]]).round(3).tolist()
    [[0.3330000042915344, 0.5, 0.0]]
    """
    ours, theirs = xyxy_of(boxes), xyxy_of(others)
    shared = _intersections(ours, theirs)
    union = _areas(ours)[:, None] + _areas(theirs) - shared
    return (shared / np.maximum(union, 1e-9)).astype(np.float32)


def _areas(xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1)
    return areas


def _intersections(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areas in common, [N, M]."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])  # [N, M, 2]
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared: NDArray[np.float64] = np.maximum(high - low, 0).prod(axis=2)
    return shared
