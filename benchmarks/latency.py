"""How long a batch takes, from files to embeddings, and how much memory the process needed for it.

Each repetition runs all stages once, so that the end-to-end time is measured and not added up:

    files -> read_crops -> uint8 [N, H, W, 3] -> engine.run -> float32 [N, D]
    |---- preprocessing ----|                   |------ inference ------|
    |--------------------------- end to end ----------------------------|
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TypeAlias

import numpy as np

from reid_edge.data.images import read_crops
from reid_edge.engines.base import Engine
from reid_edge.engines.facts import EngineFacts
from reid_edge.engines.registry import open_engine

from .timing.measurement import Measurement
from .timing.percentiles import Percentiles, thinned

__all__ = ["Measurement", "OnProgress", "Percentiles", "measure_latency", "peak_memory_bytes", "sgemm_gflops"]

_WARM_UP_RUNS = 3
_WARM_UP_SECONDS = 0.3
_SAY_EVERY_SECONDS = 0.5

OnProgress: TypeAlias = Callable[[float, str], None]


def measure_latency(
    model: Path | str,
    paths: Sequence[Path | str],
    batch: int,
    *,
    repeats: int = 20,
    min_seconds: float = 2.0,
    threads: int | None = None,
    backend: str | None = None,
    on_progress: OnProgress = lambda share, note: None,
) -> Measurement:
    """Time ``model`` on batches of the crops ``paths``, cycling over them from the page cache.

    Runs until both ``repeats`` batches and ``min_seconds`` are done, after a warm-up. ``on_progress`` is called twice a
    second, between two batches, with the share of the work done since the last call and a note. Raises ImageError for a
    crop that cannot be read and ModelError for a model that cannot be opened.
    """
    for path in paths:
        Path(path).read_bytes()  # into the page cache: the disk is not what is measured
    begin = time.perf_counter()
    with open_engine(model, threads=threads, max_batch=batch, backend=backend) as engine:
        load_ms = (time.perf_counter() - begin) * 1e3
        batches = _batches(paths, batch)
        first = _run(engine, next(batches))
        _repeat(engine, batches, _WARM_UP_RUNS, _WARM_UP_SECONDS)
        runs = _repeat(engine, batches, repeats, min_seconds, on_progress)
        return _summary(runs, batch, load_ms, first[1], engine.facts)


def peak_memory_bytes() -> int | None:
    """The highest resident memory this process ever had, or None where the system does not report it.

    Read from VmHWM: Linux keeps ``ru_maxrss`` through fork and exec, so a small child of a large process would report
    its parent's peak.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def sgemm_gflops(seconds: float = 0.3, size: int = 1024) -> float:
    """The best rate of a float32 matrix product in this process's BLAS, in GFLOP/s: the roofline's peak.

    The BLAS's threads are fixed when numpy is imported, by OPENBLAS_NUM_THREADS and the like.
    """
    left, right = np.random.default_rng(0).random((2, size, size), dtype=np.float32)
    out = left @ right  # starts the BLAS's threads
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        np.matmul(left, right, out=out)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best / 1e9


def _batches(paths: Sequence[Path | str], batch: int) -> Iterator[list[Path | str]]:
    """Endless batches that walk over ``paths`` in a circle."""
    endless = cycle(paths)
    while True:
        yield list(islice(endless, batch))


def _run(engine: Engine, paths: list[Path | str]) -> tuple[float, float]:
    """Preprocessing and inference time of one batch, in ms."""
    begin = time.perf_counter()
    images = read_crops(paths, engine.card.input_hw, engine.card.resize)
    ready = time.perf_counter()
    engine.run(images)
    end = time.perf_counter()
    return (ready - begin) * 1e3, (end - ready) * 1e3


def _repeat(
    engine: Engine,
    batches: Iterator[list[Path | str]],
    repeats: int,
    seconds: float,
    on_progress: OnProgress = lambda share, note: None,
) -> list[tuple[float, float]]:
    runs: list[tuple[float, float]] = []
    begin = time.perf_counter()
    said = shown = 0.0
    while len(runs) < repeats or time.perf_counter() - begin < seconds:
        runs.append(_run(engine, next(batches)))
        passed = time.perf_counter() - begin
        if passed - said > _SAY_EVERY_SECONDS or len(runs) == 1:
            share = min(len(runs) / repeats, passed / seconds if seconds else 1.0, 1.0)
            on_progress(share - shown, f"{len(runs)} batches, {passed:.1f} s")
            said, shown = passed, share
    return runs


def _summary(
    runs: list[tuple[float, float]], batch: int, load_ms: float, first_run_ms: float, facts: EngineFacts
) -> Measurement:
    preprocess, inference = np.array(runs).T  # each [samples]
    crops = batch * len(runs)
    return Measurement(
        samples=len(runs),
        preprocess_ms=Percentiles.of(preprocess),
        inference_ms=Percentiles.of(inference),
        end_to_end_ms=Percentiles.of(preprocess + inference),
        crops_per_s=crops / (preprocess + inference).sum() * 1e3,
        inference_crops_per_s=crops / inference.sum() * 1e3,
        load_ms=load_ms,
        first_run_ms=first_run_ms,
        peak_memory_bytes=peak_memory_bytes(),
        engine=facts,
        latencies_ms=thinned(preprocess + inference),
    )
