"""What `tables` says of crops: how small they may be, how they are resized, and what frames cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.datasets import Dataset, open_dataset
from reid_edge.data.decoding import read
from reid_edge.data.images import crops_of
from reid_edge.embedder.boxes import cut_boxes
from reid_edge.embedder.embedder import Embedder
from reid_edge.scoring.metrics import Metrics, score

__all__ = ["FRAMES", "RESIZING", "SMALL", "frames", "resizing", "small_crops"]

Rows: TypeAlias = "dict[str, dict[str, Any]]"
Pixels: TypeAlias = "NDArray[np.uint8]"
MODEL = Path("models/msmt17_fp32.onnx")
HEIGHTS = (128, 96, 64, 48, 40, 32, 28, 24, 20, 16, 12, 8)

SMALL = {"pixels of a query": "", "R1": ".1f", "mAP": ".1f", "mAP kept, %": ".0f"}
RESIZING = {
    "crops": "",
    "resize": "",
    "R1": ".2f",
    "mAP": ".2f",
    "cosine to opencv, minimum": ".4f",
    "us a crop": ".0f",
}
FRAMES = {
    "model": "",
    "resize": "",
    "ready batch, CPU ms": ".1f",
    "frame with boxes, CPU ms": ".1f",
    "times the batch": ".2f",
}


class Scorer:
    """The development crops, decoded once, and a model that embeds them however they are prepared."""

    def __init__(self, work: Path, data: Path) -> None:
        self.dataset: Dataset = open_dataset(data)
        split = self.dataset.split
        self.query, self.gallery = ([read(crop.path) for crop in part] for part in (split.query, split.gallery))
        self.embedder = Embedder(work / MODEL, threads=1)
        self._open = ExitStack()

    def score(self, query: NDArray[np.float32], gallery: NDArray[np.float32]) -> Metrics:
        """CMC, mAP and mINP of embeddings [Q, D] and [G, D]."""
        split = self.dataset.split
        return score(query, *_ids(split.query), gallery, *_ids(split.gallery))

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
    with Scorer(work, work / "market1501-dev") as scorer:
        gallery = scorer.embedder.embed(scorer.gallery)
        for height in HEIGHTS:
            size = (height // 2, height)
            small = [cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in scorer.query]
            metrics = scorer.score(scorer.embedder.embed(small), gallery)
            found[str(height)] = {
                "pixels of a query": f"{height // 2} x {height}",
                "R1": 100 * metrics.rank(1),
                "mAP": 100 * metrics.mAP,
            }
    for row in found.values():
        row["mAP kept, %"] = 100 * row["mAP"] / found[str(HEIGHTS[0])]["mAP"]
    return found


def resizing(work: Path) -> Rows:
    """Scores and time of "opencv" and "opencv-fast" on proxies of large crops, as arrays and as JPEG files."""
    from reid_edge.data.synthetic.dataset import synthesize

    found: Rows = {}
    for size_hw in ((400, 180), (500, 250)):
        data = work / f"drawn{size_hw[0]}"
        synthesize(data, identities=2, test_identities=60, cameras=4, size_hw=size_hw)
        with Scorer(work, data) as scorer:
            found |= _resized(scorer, f"drawn, {size_hw[1]} x {size_hw[0]}", lambda crop: crop)
    with Scorer(work, work / "market1501-dev") as scorer:
        for times, encode in ((3, False), (6, True)):
            name = f"development, enlarged to {64 * times} x {128 * times}{', JPEG files' * encode}"
            enlarge = _enlarged_files(work / "large.jpg", times) if encode else _enlarged(times)
            found |= _resized(scorer, name, enlarge)
    return found


def _enlarged(times: int) -> Callable[[Pixels], Pixels]:
    import cv2

    def enlarge(crop: Pixels) -> Pixels:
        return np.asarray(cv2.resize(crop, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC), np.uint8)

    return enlarge


def _enlarged_files(path: Path, times: int) -> Callable[[Pixels], Path]:
    """Write each crop into the same file: the time of reading it is measured, its place on a disk is not."""
    import simplejpeg

    def write(crop: Pixels) -> Path:
        path.write_bytes(simplejpeg.encode_jpeg(_enlarged(times)(crop), 90))
        return path

    return write


def _resized(scorer: Scorer, crops: str, source: Callable[[Pixels], Pixels | Path]) -> Rows:
    """A row for each method; methods take turns on every crop, so that both meet the same machine."""
    methods = ("opencv", "opencv-fast")
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    inputs: dict[str, list[Pixels]] = {method: [] for method in methods}
    for crop in (*scorer.query, *scorer.gallery):
        made = source(crop)
        for method in methods:
            began = time.perf_counter()
            inputs[method].append(crops_of([made], scorer.embedder.card.input_hw, method)[0])
            seconds[method].append(time.perf_counter() - began)
    found: Rows = {}
    exact: NDArray[np.float32] | None = None
    for method in methods:
        embeddings = scorer.embedder.embed(inputs[method])
        exact = embeddings if exact is None else exact
        metrics = scorer.score(embeddings[: len(scorer.query)], embeddings[len(scorer.query) :])
        found[f"{crops}, {method}"] = {
            "crops": crops,
            "resize": f"`{method}`",
            "R1": 100 * metrics.rank(1),
            "mAP": 100 * metrics.mAP,
            "cosine to opencv, minimum": float((embeddings * exact).sum(axis=1).min()),
            "us a crop": 1e6 * statistics.median(seconds[method]),
        }
    return found


def frames(work: Path) -> Rows:
    """Twelve boxes on a 1080p frame of BGR, beside the same crops as a ready batch; the ways take turns."""
    import torch

    from reid_edge.export.graph.from_torch import onnx_from_model
    from reid_edge.export.graph.io import write_onnx
    from reid_edge.training.models.checkpoint import card_of
    from reid_edge.training.models.registry import build_model

    frame = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    found: Rows = {}
    for name in ("osnet_x0_25", "mobilenetv3_large", "resnet50_bot"):
        torch.manual_seed(0)
        model, path = build_model(name), work / f"random_{name}.onnx"
        card = card_of(model, input_hw=(256, 128))
        write_onnx(onnx_from_model(model, card), card, path)
        for resize in ("opencv", "opencv-fast"):
            with Embedder(path, resize=resize, threads=1) as embedder:
                batch_ms, frame_ms, times = _in_turns(embedder, frame)
            found[f"{name} {resize}"] = {
                "model": name,
                "resize": f"`{resize}`",
                "ready batch, CPU ms": batch_ms,
                "frame with boxes, CPU ms": frame_ms,
                "times the batch": times,
            }
    return found


def _in_turns(embedder: Embedder, frame: Pixels, rounds: int = 11) -> tuple[float, float, float]:
    """CPU milliseconds from a batch and from the frame, and the median of their ratio within a round."""
    heights = np.linspace(100, 500, 12)  # of 40 % as wide: from a third of the input's pixels to three times
    lefts = np.linspace(0, 1700, 12)
    boxes = np.stack([lefts, 300 - heights / 4, lefts + 0.4 * heights, 300 + 0.75 * heights], axis=1)
    batch = crops_of(cut_boxes(frame, boxes, "bgr").crops, embedder.card.input_hw, embedder.resize)
    ways: tuple[Callable[[], object], ...] = (
        lambda: embedder.embed(batch),
        lambda: embedder.embed(frame, "bgr", boxes=boxes),
    )
    taken = np.empty((rounds + 1, 2))
    for row in taken:
        for column, way in enumerate(ways):
            began = time.process_time()
            way()
            row[column] = time.process_time() - began
    taken = taken[1:]  # the first round warms up
    return (*(1e3 * np.median(taken, axis=0)).tolist(), float(np.median(taken[:, 1] / taken[:, 0])))
