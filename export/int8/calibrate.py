"""Calibration: the range of each value that INT8 rounds, from training crops.

Test crops are never looked at: a range fitted to the crops that a model is scored on flatters it. Activations are never
kept: one pass over the crops finds the largest magnitudes, a second counts a histogram of each value, and
`histogram.METHODS` makes ranges of them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from reid_edge.card import ModelCard
from reid_edge.datasets import Dataset
from reid_edge.errors import DatasetError, InputError, ModelError
from reid_edge.files import written_whole
from reid_edge.images import read_crops
from reid_edge.progress import track
from reid_edge.records import Crop

from .graph import tidied
from .histogram import BINS, METHODS, PERCENTILE, histogram_of
from .int8_layers import quantized_values

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = [
    "calibrated_ranges",
    "calibration_crops",
    "calibration_note",
    "crops_sha256",
    "embed_graph",
    "open_session",
    "ranges_over",
]

_BATCH = 4
_VERSION = 1
_NO_CROPS = "calibrate INT8 on training crops: give --calibrate a data set that has some"


def calibration_crops(dataset: Dataset, count: int = 512, seed: int = 0) -> list[Crop]:
    """``count`` training crops (all, if there are fewer), people and cameras in equal parts as far as they go.

    People take turns in an order drawn from ``seed``; each gives a crop of the camera that was taken least so far.
    Raises DatasetError for a data set without training crops, InputError for a count below 1.
    """
    if count < 1:
        raise InputError(f"{count} calibration crops show no range: give 1 or more, 512 are good")
    if not dataset.split.train:
        raise DatasetError(f"{dataset.root} ({dataset.layout}) has no training crops: {_NO_CROPS}")
    rng = np.random.default_rng(seed)
    train = dataset.split.train
    left: dict[int, list[Crop]] = {}
    for i in rng.permutation(len(train)):  # also the order of the people, and of the crops of each
        left.setdefault(train[i].pid, []).append(train[i])
    taken = {crop.camid: 0 for crop in train}
    chosen: list[Crop] = []
    while left and len(chosen) < count:
        for pid in list(left)[: count - len(chosen)]:
            crop = min(left[pid], key=lambda crop: taken[crop.camid])
            left[pid].remove(crop)
            taken[crop.camid] += 1
            chosen.append(crop)
            if not left[pid]:
                del left[pid]
    return chosen


def calibration_note(crops: Sequence[Crop], method: str, source: str, seed: int) -> str:
    """What a ModelCard says of its calibration: method, how many crops of whom, their source, seed and hash."""
    people, cameras = len({crop.pid for crop in crops}), len({crop.camid for crop in crops})
    whom = f"{len(crops)} training crops of {people} people, {cameras} cameras"
    return f"{method} on {whom}, {source}, seed {seed}, crops sha256 {crops_sha256(crops)[:16]}"


def crops_sha256(crops: Sequence[Crop]) -> str:
    """SHA-256 over the bytes of the crops' files, in their order."""
    digest = hashlib.sha256()
    for crop in crops:
        digest.update(hashlib.sha256(crop.path.read_bytes()).digest())
    return digest.hexdigest()


def calibrated_ranges(
    model: ModelProto,
    card: ModelCard,
    crops: Sequence[Crop],
    method: str = "mse",
    folder: Path | None = None,
    threads: int | None = None,
) -> dict[str, float]:
    """The range of every value that `quantize.quantized` may round in the FP32 ``model``, measured on ``crops``.

    Kept in ``folder`` (``$REID_EDGE_CACHE``, else ``~/.cache/reid-edge``) under a hash of graph, weights,
    preprocessing, crops and method: a second call reads a file of some kilobytes. Raises DatasetError without crops,
    ImageError for one that cannot be read, InputError for an unknown method and ModelError for activations that are
    not finite.
    """
    _check_method(method)
    if not crops:
        raise DatasetError(f"no crops were given: {_NO_CROPS}")
    path = (folder or _cache_folder()) / f"calibration-{_key(model, card, crops, method)}.json"
    known = _read_cache(path, quantized_values(model))
    if known is None:
        images = read_crops([crop.path for crop in crops], card.input_hw, card.resize)
        known = ranges_over(model, images, method, threads)
        with written_whole(path) as beside:
            beside.write_text(json.dumps({"method": method, "crops": len(crops), "ranges": known}, indent=1) + "\n")
    return known


def ranges_over(
    model: ModelProto, images: NDArray[np.uint8], method: str = "mse", threads: int | None = None
) -> dict[str, float]:
    """Like `calibrated_ranges`, on uint8 [N, H, W, 3] as the model takes them, without the cache."""
    _check_method(method)
    values = quantized_values(model)
    session = open_session(_with_outputs(model, values), threads)
    peaks = dict.fromkeys(values, 0.0)
    for name, array in _activations(session, values, images, "finding the largest magnitudes"):
        peaks[name] = max(peaks[name], float(array.max()), -float(array.min()))
        if not math.isfinite(peaks[name]) or np.isnan(array.sum()):
            raise ModelError(f"value {name!r} of the FP32 model is not finite on these crops: train or import it again")
    if method == "minmax":
        return peaks
    counts = {name: np.zeros(BINS, np.int64) for name in values}
    for name, array in _activations(session, values, images, "counting histograms"):
        if peaks[name] > 0:
            counts[name] += histogram_of(array, peaks[name])
    search = METHODS[method]
    return {name: search(counts[name], peaks[name]) for name in values}


def open_session(model: ModelProto, threads: int | None = None) -> InferenceSession:
    """ONNX Runtime on the CPU with a graph in memory."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def embed_graph(
    model: ModelProto, images: NDArray[np.uint8], threads: int | None = None, batch: int = 32
) -> NDArray[np.float32]:
    """Embed uint8 [N, H, W, 3] with a graph in memory: float32 [N, D]."""
    session = open_session(model, threads)
    parts = [session.run(["embeddings"], {"images": images[i : i + batch]})[0] for i in range(0, len(images), batch)]
    return np.concatenate(parts)


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise InputError(f"calibration method {method!r} is unknown: give one of {', '.join(METHODS)}")


def _activations(
    session: InferenceSession, values: Sequence[str], images: NDArray[np.uint8], what: str
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each of ``values`` in each batch, one batch in memory at a time."""
    for start in track(range(0, len(images), _BATCH), what):
        answers = session.run(list(values), {"images": images[start : start + _BATCH]})
        yield from zip(values, answers, strict=True)


def _with_outputs(model: ModelProto, values: Sequence[str]) -> ModelProto:
    observed = tidied(model)
    outputs = {output.name for output in observed.graph.output}
    new = [name for name in values if name not in outputs]
    observed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in new)
    return observed


def _cache_folder() -> Path:
    if given := os.environ.get("REID_EDGE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reid-edge"


def _key(model: ModelProto, card: ModelCard, crops: Sequence[Crop], method: str) -> str:
    """The graph holds mean and standard deviation; size and resize happen before it."""
    facts = (_VERSION, card.input_hw, card.resize, method, PERCENTILE, BINS)
    digest = hashlib.sha256(repr(facts).encode())
    digest.update(tidied(model).SerializeToString(deterministic=True))
    digest.update(crops_sha256(crops).encode())
    return digest.hexdigest()[:32]


def _read_cache(path: Path, values: Sequence[str]) -> dict[str, float] | None:
    """The ranges in a cache file; None where there is none, or it is damaged."""
    try:
        ranges = json.loads(path.read_text())["ranges"]
        known = {name: float(ranges[name]) for name in values}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return known if all(0 <= value < float(np.finfo(np.float32).max) for value in known.values()) else None
