"""What `tables` says of crops: how small they may be, how they are resized, and what frames cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.data.decoding import read
from reid_edge.embedder.embedder import Embedder
from reid_edge.scoring.metrics import Metrics, score

__all__ = ["SMALL", "small_crops"]

Rows: TypeAlias = "dict[str, dict[str, Any]]"
Pixels: TypeAlias = "NDArray[np.uint8]"
MODEL = Path("models/msmt17_fp32.onnx")
HEIGHTS = (128, 96, 64, 48, 40, 32, 28, 24, 20, 16, 12, 8)

SMALL = {"pixels of a query": "", "R1": ".1f", "mAP": ".1f", "mAP kept, %": ".0f"}


class Scorer:
    """The development crops, decoded once, and a model that embeds them however they are prepared."""

    def __init__(self, work: Path) -> None:
        self.dataset: Dataset = open_dataset(work / "market1501-dev")
        split = self.dataset.split
        self.query, self.gallery = ([read(crop.path) for crop in part] for part in (split.query, split.gallery))
        self.embedder = Embedder(work / MODEL, threads=1)
        self._open = ExitStack()

    def score(self, query: NDArray[np.float32], gallery: NDArray[np.float32]) -> Metrics:
        """CMC, mAP and mINP of embeddings [Q, D] and [G, D]."""
        parts = zip((query, gallery), (self.dataset.split.query, self.dataset.split.gallery), strict=True)
        return score(*(each for embeddings, crops in parts for each in (embeddings, *_ids(crops))))

    def embed(self, crops: Sequence[Pixels], prepare: Callable[[Pixels], Pixels]) -> NDArray[np.float32]:
        """Embeddings [N, D] of prepared crops."""
        return self.embedder.embed(prepare(crop) for crop in crops)

    def __enter__(self) -> Scorer:
        self._open.enter_context(self.embedder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def _ids(crops: Sequence[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.array([crop.pid for crop in crops]), np.array([crop.camid for crop in crops])


def small_crops(work: Path) -> Rows:
    """Scores when the queries alone are shrunk, by the mean over areas, before they take the usual path."""
    import cv2

    found: Rows = {}
    with Scorer(work) as scorer:
        gallery = scorer.embed(scorer.gallery, lambda crop: crop)
        for height in HEIGHTS:
            size = (height // 2, height)
            query = scorer.embed(
                scorer.query, lambda crop, size=size: cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
            )
            metrics = scorer.score(query, gallery)
            row = {
                "pixels of a query": f"{height // 2} x {height}",
                "R1": 100 * metrics.rank(1),
                "mAP": 100 * metrics.mAP,
            }
            found[str(height)] = {
                **row,
                "mAP kept, %": 100 * metrics.mAP / (found[str(HEIGHTS[0])]["mAP"] / 100 if found else metrics.mAP),
            }
    return found
