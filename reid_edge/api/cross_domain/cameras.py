"""Which crops camera statistics are learned from when a model is tried in another place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from reid_edge.data.datasets import Dataset
from reid_edge.data.records import Crop
from reid_edge.embedder.cameras import FEWEST

__all__ = ["statistics_crops"]

_LEAST, _MOST = 100, 200
"""Training crops of a camera: with fewer the gallery is used, of more as many are taken."""


def statistics_crops(dataset: Dataset) -> tuple[str, tuple[Crop, ...]]:
    """Where the statistics are from, and the crops.

    "train" where each scored camera has a hundred training crops: of other persons, so that nothing is learned from
    the test. Else "gallery", the test itself without its labels. "" and () where the set has no cameras, or one of them
    too few crops.
    """
    split = dataset.split
    scored = {crop.camid for crop in (*split.query, *split.gallery)}
    if dataset.same_camera_filter:
        for source, crops, least in (("train", split.train, _LEAST), ("gallery", split.gallery, FEWEST)):
            own = [crop for crop in crops if crop.camid in scored]
            counts = Counter(crop.camid for crop in own)
            if all(counts[camera] >= least for camera in scored):
                return source, _spread(own)
    return "", ()


def _spread(crops: Sequence[Crop]) -> tuple[Crop, ...]:
    """At most 200 of each camera, spread over all of its."""
    by_camera: dict[int, list[Crop]] = {}
    for crop in crops:
        by_camera.setdefault(crop.camid, []).append(crop)
    places = {camera: np.linspace(0, len(own) - 1, min(_MOST, len(own))) for camera, own in by_camera.items()}
    return tuple(own[place] for camera, own in by_camera.items() for place in places[camera].astype(int))
