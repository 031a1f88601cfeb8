"""Calibration: the activation range (amax) of each value that INT8 rounds, measured on training crops.

Activations are never kept: one pass over the crops finds the largest magnitudes, a second counts a histogram of each
value, and `histogram.METHODS` makes activation ranges of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.cache import cache_folder
from reid_edge.core.files import write_text
from reid_edge.core.names import require_name
from reid_edge.core.progress import track
from reid_edge.errors import DatasetError, ModelError
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.session import open_session, require_memory

from .crops import NO_CROPS, CalibrationCrops
from .histogram import BINS, METHODS, PERCENTILE, histogram_of, peak_range
from .residuals import measured_values

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["calibrated_ranges", "ranges_over"]

_BATCH = 4
_VERSION = 1


def calibrated_ranges(
    graph: Graph,
    crops: CalibrationCrops,
    method: str = "mse",
    folder: Path | None = None,
    threads: int | None = None,
) -> dict[str, float]:
    """The activation range of every value that `qdq.quantized` may round in the FP32 ``graph``, measured on ``crops``.

    Kept in ``folder`` (None: `core.cache.cache_folder`) under a hash of graph, weights, preprocessing, crops and
    method: a second call reads a file of some kilobytes. Those of an added method, whose code may have changed under
    the same name, are measured each time. Raises DatasetError without crops, ImageError for one that
    cannot be read, InputError for an unknown method and ModelError for activations that are not finite.
    """
    _check_method(method)
    if not crops.crops:
        raise DatasetError(f"no crops were given: {NO_CROPS}")
    if method not in METHODS.own:
        return ranges_over(graph, crops.images, method, threads)
    path = (folder or cache_folder()) / f"calibration-{_key(graph, crops, method)}.json"
    ranges = _read_cache(path, measured_values(graph))
    if ranges is None:
        ranges = ranges_over(graph, crops.images, method, threads)
        content = {"method": method, "crops": len(crops.crops), "ranges": ranges}
        write_text(path, json.dumps(content, indent=1) + "\n")
    return ranges


def ranges_over(
    graph: Graph, images: NDArray[np.uint8], method: str = "mse", threads: int | None = None
) -> dict[str, float]:
    """Like `calibrated_ranges`, on uint8 [N, H, W, 3] as the model takes them, without the cache.

    Also raises ModelError for a graph whose activations take more memory than there may be.
    """
    _check_method(method)
    values = measured_values(graph)
    if not values:
        raise ModelError("this model has no convolution or matrix product to quantise: leave --int8 (precisions=) out")
    require_memory(graph, values, _BATCH)
    session = open_session(graph.with_outputs(values), threads)
    peaks = dict.fromkeys(values, 0.0)
    for name, array in _activations(session, values, images, "finding the largest magnitudes"):
        largest = float(np.abs(array).max())  # NaN where one is
        if not math.isfinite(largest):
            raise ModelError(f"value {name!r} of the FP32 model is not finite on these crops: train or import it again")
        peaks[name] = max(peaks[name], largest)
    range_of = METHODS[method]
    if range_of is peak_range:
        return peaks  # no histogram is needed
    counts = {name: np.zeros(BINS, np.int64) for name in values}
    for name, array in _activations(session, values, images, "counting histograms"):
        if peaks[name] > 0:
            counts[name] += histogram_of(array, peaks[name])
    return {name: range_of(counts[name], peaks[name]) for name in values}


def _check_method(method: str) -> None:
    require_name(method, METHODS, "calibration method")


def _activations(
    session: InferenceSession, values: Sequence[str], images: NDArray[np.uint8], what: str
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Each of ``values`` in each batch, one batch in memory at a time."""
    for start in track(range(0, len(images), _BATCH), what):
        arrays = session.run(list(values), {"images": images[start : start + _BATCH]})
        yield from zip(values, arrays, strict=True)


def _key(graph: Graph, crops: CalibrationCrops, method: str) -> str:
    """The graph holds mean and standard deviation; size and resize happen before it."""
    facts = (_VERSION, crops.input_hw, crops.resize, method, PERCENTILE, BINS)
    digest = hashlib.sha256(repr(facts).encode())
    digest.update(graph.tidied().model.SerializeToString(deterministic=True))
    digest.update(crops.sha256.encode())
    return digest.hexdigest()[:32]


def _read_cache(path: Path, values: Sequence[str]) -> dict[str, float] | None:
    """The activation ranges in a cache file; None where there is no file, or it is damaged."""
    try:
        ranges = json.loads(path.read_text())["ranges"]
        known = {name: float(ranges[name]) for name in values}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return known if all(0 <= value < float(np.finfo(np.float32).max) for value in known.values()) else None
