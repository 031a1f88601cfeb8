"""How long a batch takes, from files to embeddings, and how much memory the process needed for it.

Each repetition runs the whole journey once, so that the end-to-end time is measured and not added up:

    files -> read_crops -> uint8 [N, H, W, 3] -> engine.run -> float32 [N, D]
    |---- preprocessing ----|                   |------ inference ------|
    |--------------------------- end to end ----------------------------|
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.engine import Engine, open_engine
from reid_edge.images import read_crops

__all__ = ["Measurement", "Percentiles", "measure_latency", "peak_memory_bytes", "sgemm_gflops"]

_WARM_UP_RUNS = 3
_WARM_UP_SECONDS = 0.3


@dataclass(frozen=True)
class Percentiles:
    """The 50th, 90th and 99th percentile of a list of times, in milliseconds.

    Linear interpolation between the closest ranks: of n sorted values the p-th percentile stands at index
    (n - 1) p / 100. With fewer than a hundred values p99 lies between the two largest.

    >>> Percentiles.of([40.0, 10.0, 30.0, 20.0, 50.0])
    Percentiles(p50=30.0, p90=46.0, p99=49.6)
    """

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, times_ms: Sequence[float]) -> Percentiles:
        """The percentiles of at least one time."""
        p50, p90, p99 = np.percentile(times_ms, (50, 90, 99), method="linear").tolist()
        return cls(p50, p90, p99)


@dataclass(frozen=True)
class Measurement:
    """What one process measured of one model at one batch size.

    Times are per batch; crops per second are all crops over all time, so a slow outlier counts. ``load_ms`` opens the
    engine, ``first_run_ms`` is its first batch, before any warm-up. ``peak_memory_bytes`` is the resident peak of the
    whole process: interpreter, libraries, model and batch.
    """

    samples: int
    preprocess_ms: Percentiles
    inference_ms: Percentiles
    end_to_end_ms: Percentiles
    crops_per_s: float
    inference_crops_per_s: float
    load_ms: float
    first_run_ms: float
    peak_memory_bytes: int | None

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Measurement:
        """The inverse of `dataclasses.asdict`."""
        times = {name: Percentiles(**value) for name, value in raw.items() if isinstance(value, dict)}
        return cls(**{**raw, **times})


def measure_latency(
    model: Path | str,
    paths: Sequence[Path | str],
    batch: int,
    *,
    repeats: int = 20,
    min_seconds: float = 2.0,
    threads: int | None = None,
) -> Measurement:
    """Time ``model`` on batches of the crops ``paths``, cycling over them from the page cache.

    Runs until both ``repeats`` batches and ``min_seconds`` are done, after a warm-up. Raises ImageError for a crop
    that cannot be read and ModelError for a model that cannot be opened.
    """
    for path in paths:
        Path(path).read_bytes()  # into the page cache: the disk is not what is measured
    begin = time.perf_counter()
    with open_engine(model, threads=threads, max_batch=batch) as engine:
        load_ms = (time.perf_counter() - begin) * 1e3
        batches = _batches(paths, batch)
        first = _run(engine, next(batches))
        _repeat(engine, batches, _WARM_UP_RUNS, _WARM_UP_SECONDS)
        runs = _repeat(engine, batches, repeats, min_seconds)
    return _summary(runs, batch, load_ms, first[1])


def peak_memory_bytes() -> int | None:
    """The highest resident memory this process ever had, or None where the system does not tell.

    Read from VmHWM: Linux carries ``ru_maxrss`` over from the parent through exec, so a small child of a large
    process would report its parent.
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
    """The best float32 matrix product of this process's BLAS, in GFLOP/s: the ceiling of the roofline.

    The BLAS's threads are fixed when numpy is imported, by OPENBLAS_NUM_THREADS and its kin.
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
    engine: Engine, batches: Iterator[list[Path | str]], repeats: int, seconds: float
) -> list[tuple[float, float]]:
    runs: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(runs) < repeats or time.perf_counter() < end:
        runs.append(_run(engine, next(batches)))
    return runs


def _summary(runs: list[tuple[float, float]], batch: int, load_ms: float, first_run_ms: float) -> Measurement:
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
    )
