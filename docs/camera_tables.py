"""What `tables` says of camera normalisation: what it is worth, from how many unlabelled crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.datasets import open_dataset
from reid_edge.embedder.cameras import CameraStatistics
from reid_edge.embedder.embedder import Embedder
from reid_edge.scoring.bootstrap import paired_loss
from reid_edge.scoring.metrics import Metrics, score

__all__ = ["CAMERAS", "cameras"]

Rows: TypeAlias = "dict[str, dict[str, Any]]"
Part: TypeAlias = "tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]"  # embeddings, persons, cameras
MODEL = Path("models/msmt17_fp32.onnx")
CROPS = (200, 100, 50, 25, 10)
DRAWS = 5

CAMERAS = {"crops a camera": "", "statistics": "", "R1": ".2f", "mAP": ".2f", "mAP gained": ".2f"}


def cameras(work: Path) -> Rows:
    """Test persons, normalised by crops of the training part: as learned, and by the plain mean and deviation.

    R1 and mAP are the mean of five draws of the crops; what was gained is of the first, with its interval.
    """
    parts = {}
    with Embedder(work / MODEL, threads=1) as embedder:
        split = open_dataset(work / "market1501-dev").split
        for name, crops in (("train", split.train), ("query", split.query), ("gallery", split.gallery)):
            embeddings = embedder.embed([crop.path for crop in crops])
            ids = np.array([(crop.pid, crop.camid) for crop in crops], np.int64)
            parts[name] = embeddings, ids[:, 0], ids[:, 1]
    plain = score(*parts["query"], *parts["gallery"])
    found = {"none": _row("none", "", [plain], plain)}
    for count in CROPS:
        drawn = [_drawn(parts["train"], count, seed) for seed in range(DRAWS)]
        for name, fit in (("shrunk", CameraStatistics.fit), ("plain", _plain)):
            scored = [_normalised(fit(*each), parts) for each in drawn]
            found[f"{count} {name}"] = _row(str(count), name, scored, plain)
    return found


def _drawn(part: Part, count: int, seed: int) -> tuple[NDArray[np.float32], list[int]]:
    rng = np.random.default_rng(seed)
    embeddings, _, of_crop = part
    rows = np.concatenate([rng.permutation(np.flatnonzero(of_crop == camera))[:count] for camera in np.unique(of_crop)])
    return embeddings[rows], of_crop[rows].tolist()


def _plain(embeddings: NDArray[np.float32], of_crop: list[int]) -> CameraStatistics:
    groups = [embeddings[np.array(of_crop) == camera] for camera in sorted(set(of_crop))]
    means, deviations = (np.stack([function(group, axis=0) for group in groups]) for function in (np.mean, np.std))
    counts = np.array([len(group) for group in groups])
    return CameraStatistics(tuple(map(str, sorted(set(of_crop)))), counts, means, np.maximum(deviations, 1e-6))


def _normalised(statistics: CameraStatistics, parts: dict[str, Part]) -> Metrics:
    query, gallery = (
        (statistics.normalise(embeddings, of_crop.tolist()), persons, of_crop)
        for embeddings, persons, of_crop in (parts["query"], parts["gallery"])
    )
    return score(*query, *gallery)


def _row(crops: str, statistics: str, scored: list[Metrics], plain: Metrics) -> dict[str, Any]:
    gained = paired_loss(scored[0].average_precision, plain.average_precision, plain.persons)  # what "none" loses
    interval = {"value": 100 * gained.mean, "low": 100 * gained.low, "high": 100 * gained.high}
    return {
        "crops a camera": crops,
        "statistics": statistics,
        "R1": 100 * float(np.mean([each.rank(1) for each in scored])),
        "mAP": 100 * float(np.mean([each.mAP for each in scored])),
        "mAP gained": interval,
    }
