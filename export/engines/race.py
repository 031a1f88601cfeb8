"""Which of several files of one model is the fastest on this device: their engines, timed in turns."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.core.progress import track
from reid_edge.engines.base import Engine
from reid_edge.engines.registry import open_engine
from reid_edge.errors import ModelError

from .build import engine_from_onnx
from .options import EngineOptions

__all__ = ["fastest", "time_engines", "time_files"]

logger = logging.getLogger(__name__)

_WARM_UP, _RUNS = 10, 50
_MIN_GAIN = 1.02
"""Less is noise, and the graph as trained has fewer weights."""


def fastest(times: Mapping[str, Sequence[float]]) -> str:
    """The name with the shortest ``times``: those of all batches multiplied, so that each batch has the same say.

    The first name, the graph as trained, stays unless another is 2 % faster on average. No times at all name it too.

    >>> fastest({"": (2.0, 8.0), "gpu": (1.0, 12.0), "gpu-latency": (1.5, 8.2)})  # sqrt of 16, 12, 12.3
    'gpu'
    >>> fastest({"": (2.0, 8.0), "gpu": (1.98, 8.0)})
    ''
    """
    means = {name: math.exp(float(np.mean(np.log(own)))) for name, own in times.items()}
    if not means:
        return ""
    first, best = next(iter(means)), min(means, key=lambda name: means[name])
    return best if means[first] >= _MIN_GAIN * means[best] else first


def time_files(
    files: Mapping[str, Path], folder: Path, options: EngineOptions, crops: NDArray[np.uint8]
) -> dict[str, list[float]]:
    """Build the engine of each ONNX file into ``folder``, and `time_engines` on the batches of the profile.

    One that cannot be built, or does not open, is logged and left out.
    """
    with ExitStack() as stack:
        engines: dict[str, Engine] = {}
        for name, file in files.items():
            try:
                built = engine_from_onnx(file, folder, options)
                engines[name] = stack.enter_context(open_engine(built.path))
            except ModelError as error:
                logger.warning("%s is not timed: %s", file.stem, error)
        return time_engines(engines, options.distinct_batches, crops)


def time_engines(
    engines: Mapping[str, Engine], batches: Sequence[int], crops: NDArray[np.uint8], runs: int = _RUNS
) -> dict[str, list[float]]:
    """The median milliseconds of each open engine for each of ``batches``, in turns, so that what disturbs hits all.

    ``crops`` uint8 [N, H, W, 3] are repeated to fill a batch. Copies to and from the device count: they are the same.
    """
    found: dict[str, list[float]] = {name: [] for name in engines}
    for batch in batches:
        images = np.resize(crops, (batch, *crops.shape[1:]))
        times: dict[str, list[float]] = {name: [] for name in engines}
        for run in track(range(_WARM_UP + runs), f"batches of {batch}"):
            for name, engine in engines.items():
                began = time.perf_counter()
                engine.run(images)
                if run >= _WARM_UP:
                    times[name].append(1e3 * (time.perf_counter() - began))
        for name, own in times.items():
            found[name].append(float(np.median(own)))
    return found
