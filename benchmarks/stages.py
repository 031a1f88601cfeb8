"""The stages of a batch, timed one by one in the order in which a crop passes them.

    file -> decode -> resize -> [host_to_device ->] compute [-> device_to_host] -> embedding -> rank in a gallery
    |--- preprocessing ----|    |---------------- inference ----------------|
    |------------------------------ end to end -----------------------------|

Decode and resize are the calls of `reid_edge.data.images.read_crops`, crop by crop, and the times of a batch's crops
are added up. An engine with copies of its own (TensorRT) times them and its kernels with CUDA events; elsewhere compute
is the whole call.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.data.decoding import read
from reid_edge.data.images import resize
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import Engine
from reid_edge.gallery.memory import Gallery

__all__ = ["StagedBatch", "batches_of", "rank_times", "staged_batch", "streamed_times"]

StagedBatch: TypeAlias = "dict[str, float]"
"""Milliseconds of one batch: "preprocess", "inference", and its stages by name."""

_RANKED = 10
_RANK_SECONDS = 0.5


def batches_of(paths: Sequence[Path | str], batch: int, first: int = 0) -> Iterator[list[Path | str]]:
    """Endless batches that walk over ``paths`` in a circle, from the file ``first`` on.

    >>> [*islice(batches_of(["a", "b", "c"], 2), 2)]
    [['a', 'b'], ['c', 'a']]
    """
    endless = islice(cycle(paths), first % len(paths), None)
    while True:
        yield list(islice(endless, batch))


def staged_batch(engine: Engine, paths: Sequence[Path | str]) -> tuple[StagedBatch, NDArray[np.float32]]:
    """Embed the crops of one batch: how long each stage took, and the embeddings [N, D].

    "cpu" is the CPU time of all threads of this process meanwhile, which waiting does not enter.
    """
    begin, worked = time.perf_counter(), time.process_time()
    crops, decode, scale = _read_timed(engine, paths)
    ready = time.perf_counter()
    timed = getattr(engine, "run_timed", None)  # of engines that time their copies with CUDA events
    embeddings, stages = timed(crops) if timed else (engine.run(crops), {})
    end, worked = time.perf_counter(), time.process_time() - worked
    times = {"preprocess": (ready - begin) * 1e3, "inference": (end - ready) * 1e3, "cpu": worked * 1e3}
    times |= {"decode": decode, "resize": scale}
    return times | (stages or {"compute": times["inference"]}), embeddings


def _read_timed(engine: Engine, paths: Sequence[Path | str]) -> tuple[NDArray[np.uint8], float, float]:
    """What `read_crops` gives, and the milliseconds of decoding and of resizing."""
    input_hw, method = engine.card.input_hw, engine.card.resize
    smaller = input_hw if method == "opencv-fast" else None
    crops = np.empty((len(paths), *input_hw, 3), np.uint8)
    decode = scale = 0.0
    for row, path in enumerate(paths):
        begin = time.perf_counter()
        image = read(path, smaller)
        decoded = time.perf_counter()
        crops[row] = resize(image, input_hw, method)
        end = time.perf_counter()
        decode, scale = decode + decoded - begin, scale + end - decoded
    return crops, decode * 1e3, scale * 1e3


def rank_times(embeddings: NDArray[np.float32], size: int, repeats: int) -> list[float]:
    """Milliseconds to find the ten nearest of each embedding [N, D] in a drawn gallery of ``size`` rows, each time."""
    rows = np.random.default_rng(0).standard_normal((size, embeddings.shape[1]), dtype=np.float32)
    gallery = Gallery()
    gallery.enrol(rows / np.linalg.norm(rows, axis=1, keepdims=True), [str(row) for row in range(size)])
    gallery.search(embeddings, k=_RANKED)  # prepares the gallery
    times: list[float] = []
    end = time.perf_counter() + _RANK_SECONDS
    while len(times) < repeats and (not times or time.perf_counter() < end):
        begin = time.perf_counter()
        gallery.search(embeddings, k=_RANKED)
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def streamed_times(
    engine: Engine, paths: Sequence[Path | str], batch: int, repeats: int, seconds: float
) -> tuple[list[float], float]:
    """Crops' latencies in ms through `Embedder.stream`, and crops per second, from a source that is never empty.

    Runs for ``repeats`` batches and ``seconds``, at least; the first crops, at most two batches, fill the stages and
    are left out.
    """
    latencies: list[float] = []
    filling = min(2, repeats - 1) * batch
    started = time.perf_counter()
    source = _until(paths, repeats * batch, seconds)
    results = Embedder(engine, batch=batch).stream(source, max_latency_ms=None, max_batch=batch)
    with closing(results) as stream:  # type: ignore[type-var]
        for result in stream:
            if result.error:
                raise result.error
            latencies.append(result.latency_ms)
            if len(latencies) == filling:
                started = time.perf_counter()
    kept = latencies[filling:]
    return kept, len(kept) / (time.perf_counter() - started)


def _until(paths: Sequence[Path | str], least: int, seconds: float) -> Iterator[Any]:
    """The files in a circle, until both are reached."""
    end = time.perf_counter() + seconds
    for number, path in enumerate(cycle(paths)):
        if number >= least and time.perf_counter() >= end:
            return
        yield path
