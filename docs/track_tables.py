"""What `tables` says of tracks: which crops of one to keep, and what their weights are worth."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.decoding import read
from reid_edge.embedder.embedder import Embedder
from reid_edge.embedder.quality import CropQuality, covered_shares, sharpness
from reid_edge.embedder.tracks import Track
from reid_edge.scoring.bootstrap import paired_loss
from reid_edge.scoring.metrics import Metrics, score

__all__ = ["TRACKS", "TRACK_FACTORS", "track_factors", "tracks"]

Rows: TypeAlias = "dict[str, dict[str, Any]]"
Pixels: TypeAlias = "NDArray[np.uint8]"
MODEL = Path("models/msmt17_fp32.onnx")
CONDITIONS = ("as they are", "half spoiled")
SHORTEST = 4  # crops: of two there is little to choose
LONGEST_GAP = 150  # frames, 6 s: beyond it a track ends

TRACKS = {"a track is": "", **{f"{c}: {name}": ".2f" for c in CONDITIONS for name in ("R1", "mAP", "mAP gained")}}
TRACK_FACTORS = {"score": "", **{f"{c}: {name}": ".2f" for c in CONDITIONS for name in ("mAP", "mAP gained")}}


@dataclass(frozen=True)
class Seen:
    """The crops of all tracks in one condition: embeddings [N, D], their quality, and the track of each, int [N]."""

    embeddings: NDArray[np.float32]
    quality: CropQuality
    track: NDArray[np.int64]

    @cached_property
    def rows(self) -> list[NDArray[np.int64]]:
        """The crops of each track, in the order of frames."""
        return [np.flatnonzero(self.track == number) for number in range(self.track.max() + 1)]

    def embedded(self, scores: NDArray[np.float32], best: int | None, weighted: bool) -> NDArray[np.float32]:
        """An embedding a track, of its ``best`` crops by ``scores`` (ties: the first)."""
        found = []
        for rows in self.rows:
            kept = rows[np.argsort(-scores[rows], kind="stable")[:best]]
            weights = scores[kept].tolist() if weighted else [1.0] * len(kept)
            found.append(Track(0, 0, 0, scores=weights, embeddings=list(self.embeddings[kept])).embedding)
        return np.stack(found)


@dataclass(frozen=True)
class Study:
    """Tracks of the development crops: person and camera of each, int [T], and what was seen in each condition."""

    persons: NDArray[np.int64]
    cameras: NDArray[np.int64]
    seen: dict[str, Seen]

    def score(self, embeddings: NDArray[np.float32]) -> Metrics:
        """Every track is searched among those of the other cameras."""
        ids = self.persons, self.cameras
        return score(embeddings, *ids, embeddings, *ids)


_STUDIES: dict[Path, Study] = {}  # two tables are made of one


def tracks(work: Path) -> Rows:
    """A row for each way to make one embedding of a track."""
    study = _study(work)
    ways: dict[str, tuple[str, int | None, bool]] = {
        "its first crop": ("order", 1, False),
        "its best crop": ("quality", 1, False),
        "the mean of all": ("order", None, False),
        "the weighted mean of all": ("quality", None, True),
        **{f"the mean of the best {best}": ("quality", best, False) for best in (2, 3, 4, 6)},
        **{f"the weighted mean of the best {best}": ("quality", best, True) for best in (2, 3, 4, 6)},
        "the mean of the first 4": ("order", 4, False),
    }
    found: Rows = {way: {"a track is": way} for way in ways}
    for condition, seen in study.seen.items():
        orders = {"quality": seen.quality.score, "order": np.zeros(len(seen.track), np.float32)}
        base = study.score(seen.embedded(orders["order"], None, False))
        for way, (order, best, weighted) in ways.items():
            metrics = study.score(seen.embedded(orders[order], best, weighted))
            found[way] |= _cells(condition, metrics, base)
            found[way][f"{condition}: R1"] = 100 * metrics.rank(1)
    return found


def track_factors(work: Path) -> Rows:
    """A row for each score that is missing a factor or has one more, of the weighted mean of the best 4."""
    study = _study(work)
    found: Rows = {}
    for condition, seen in study.seen.items():
        base = study.score(seen.embedded(np.zeros(len(seen.track), np.float32), None, False))
        for name, scores in _scores(seen.quality).items():
            metrics = study.score(seen.embedded(scores, 4, True))
            found.setdefault(name, {"score": name}).update(_cells(condition, metrics, base))
    return found


def _scores(quality: CropQuality) -> Rows:
    """Scores by name; a factor is left out by giving every crop the same value."""
    given = {name: getattr(quality, name) for name in ("height", "width", "sharpness", "overlap", "cut")}
    height = quality.height
    return {
        "all factors": quality.score,
        "without sharpness": CropQuality.of(**{**given, "sharpness": 1e9}).score,
        "without overlap": CropQuality.of(**{**given, "overlap": 0}).score,
        "without the aspect": CropQuality.of(**{**given, "width": height / 2}).score,
        "without the frame's edge": CropQuality.of(**{**given, "cut": False}).score,
        "with the height, up to 96 pixels": quality.score * np.minimum(height / 96, 1),
    }


def _cells(condition: str, metrics: Metrics, base: Metrics) -> dict[str, Any]:
    """Points of mAP, and what they are above those of ``base``."""
    gained = paired_loss(metrics.average_precision, base.average_precision, metrics.persons)  # what `base` loses
    interval = {"value": 100 * gained.mean, "low": 100 * gained.low, "high": 100 * gained.high}
    return {f"{condition}: mAP": 100 * metrics.mAP, f"{condition}: mAP gained": interval}


def _study(work: Path) -> Study:
    if work not in _STUDIES:
        known = list(_tracklets(work / "market1501-dev"))
        track = np.repeat(np.arange(len(known)), [len(paths) for *_, paths in known])
        paths = [path for *_, each in known for path in each]
        crops = [read(path) for path in paths]
        spoiled = _spoiled(crops, np.random.default_rng(0))
        whole = np.zeros(len(crops), np.float32)
        views = zip(CONDITIONS, ((crops, whole, whole > 0), spoiled), strict=True)
        with Embedder(work / MODEL, threads=1) as embedder:
            seen = {name: Seen(embedder.embed(view[0]), _quality(*view), track) for name, view in views}
        persons, cameras = (np.array([each[column] for each in known]) for column in (0, 1))
        _STUDIES[work] = Study(persons, cameras, seen)
    return _STUDIES[work]


def _tracklets(data: Path) -> Iterator[tuple[int, int, list[Path]]]:
    """Person, camera and crops of each track, by the file names ``PERSON_cCAMERAsSEQUENCE_FRAME_BOX.jpg``."""
    groups: dict[tuple[int, ...], list[tuple[int, Path]]] = defaultdict(list)
    for folder in ("query", "bounding_box_test", "bounding_box_train"):
        for path in (data / folder).glob("*.jpg"):
            person, camera, sequence, frame = map(int, re.findall(r"-?\d+", path.stem)[:4])
            if person > 0:
                groups[person, camera, sequence].append((frame, path))
    for (person, camera, _), crops in sorted(groups.items()):
        crops.sort()
        ends = [row + 1 for row in range(len(crops) - 1) if crops[row + 1][0] - crops[row][0] > LONGEST_GAP]
        for start, end in zip([0, *ends], [*ends, len(crops)], strict=True):
            if end - start >= SHORTEST:
                yield person, camera, [path for _, path in crops[start:end]]


def _quality(crops: Sequence[Pixels], overlap: NDArray[np.float32], cut: NDArray[np.bool_]) -> CropQuality:
    height, width = np.array([crop.shape[:2] for crop in crops], np.float32).T
    sharp = [sharpness(crop) for crop in crops]
    return CropQuality.of(height=height, width=width, sharpness=sharp, overlap=overlap, cut=cut)


def _spoiled(
    crops: Sequence[Pixels], rng: np.random.Generator
) -> tuple[list[Pixels], NDArray[np.float32], NDArray[np.bool_]]:
    """Every second crop, by chance, blurred, behind another person, small, or cut off by the frame's edge."""
    found = list(crops)
    overlap, cut = np.zeros(len(crops), np.float32), np.zeros(len(crops), np.bool_)
    for row, crop in enumerate(crops):
        fault = rng.integers(8)  # 4 and more: none
        if fault == 0:
            found[row] = _blurred(crop, rng)
        elif fault == 1:
            found[row], overlap[row] = _hidden(crop, crops[rng.integers(len(crops))], rng)
        elif fault == 2:
            found[row] = _small(crop, rng)
        elif fault == 3:
            found[row], cut[row] = _cut_off(crop, rng), True
    return found, overlap, cut


def _blurred(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """Along the direction of walking, by 7 to 14 of 64 pixels."""
    import cv2

    return np.asarray(cv2.blur(crop, (int(rng.integers(7, 15)), 1)), np.uint8)


def _hidden(crop: Pixels, other: Pixels, rng: np.random.Generator) -> tuple[Pixels, float]:
    """Another person stands in front, moved by a quarter to 0.6 of the width; the share of the box that is covered."""
    import cv2

    height, width = crop.shape[:2]
    right = int(rng.uniform(0.25, 0.6) * width) * int(rng.choice([-1, 1]))
    down = int(rng.uniform(0, 0.25) * height)
    left, end = max(right, 0), min(width + right, width)
    found = crop.copy()
    found[down:, left:end] = cv2.resize(other, (width, height))[: height - down, left - right : end - right]
    boxes = [[0, 0, width, height], [right, down, right + width, down + height]]
    return found, float(covered_shares(boxes)[0])


def _small(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """As from farther away: 0.15 to 0.35 of its size."""
    import cv2

    share = rng.uniform(0.15, 0.35)
    height, width = (max(6, round(side * share)) for side in crop.shape[:2])
    return np.asarray(cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _cut_off(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """The upper, left or right 0.35 to 0.6 of it."""
    height, width = crop.shape[:2]
    share = rng.uniform(0.35, 0.6)
    parts = crop[: int(share * height)], crop[:, : int(share * width)], crop[:, -int(share * width) :]
    return parts[rng.choice(3, p=(0.5, 0.25, 0.25))]
