"""What an engine keeps of its own speed from crops in host memory to embeddings there, and how even its latency is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .parts import DayOptions, DayRow

__all__ = ["SHARE", "SPREAD", "FilledEngine", "whole_rows"]

SHARE = 0.9
"""Of the engine's own throughput at the largest batch, from uint8 crops in host memory: the goal."""

SPREAD = 1.3
"""The 99th percentile of a crop's latency over the median, at most: the goal, with clocks as they are."""

_LEAST_RUNS = 200


class FilledEngine(Protocol):
    """An engine that also runs on crops which are on the GPU already: `TensorRTEngine`."""

    @property
    def facts(self) -> Any:
        """`EngineFacts`."""
        ...

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        ...

    def run_filled(self, count: int, fill: Callable[[int, int], None]) -> NDArray[np.float32]:
        """See `TensorRTEngine.run_filled`."""
        ...


def whole_rows(engine: FilledEngine, row: DayRow, options: DayOptions) -> Iterator[DayRow]:
    """A row for the largest batch (crops/s, against the engine's own) and one for single crops (p50, p99 in ms).

    The engine's own speed is that of `run_filled` with nothing to fill, by as many threads as runs pay off at once.
    """
    rng, batch = np.random.default_rng(0), max(options.batches)
    images = rng.integers(0, 256, (batch, *options.input_hw, 3), dtype=np.uint8)
    threads = int(engine.facts.concurrent_runs)
    facts = {name: row[name] for name in ("arch", "form", "precision")}
    own = _crops_per_s(lambda: engine.run_filled(batch, _nothing), batch, threads, options.seconds)
    whole = _crops_per_s(lambda: engine.run(images), batch, threads, options.seconds)
    share = whole / own
    yield {
        **facts,
        "batch": batch,
        "threads": threads,
        "own_crops_s": round(own, 1),
        "whole_crops_s": round(whole, 1),
        "share": round(share, 4),
        "share_holds": share >= SHARE,
    }
    times = _latencies_ms(lambda: engine.run(images[:1]), options.seconds)
    p50, p99 = (float(one) for one in np.percentile(times, [50, 99]))
    spread = {"spread": round(p99 / p50, 4), "spread_holds": p99 <= SPREAD * p50}
    yield {**facts, "batch": 1, "runs": len(times), "p50_ms": round(p50, 4), "p99_ms": round(p99, 4), **spread}


def _nothing(address: int, stream: int) -> None:
    """The crops of the run before are on the GPU still."""


def _crops_per_s(run: Callable[[], Any], batch: int, threads: int, seconds: float) -> float:
    for _ in range(5):  # kernels are loaded, and graphs captured after the second run of each context
        run()

    def work(end: float) -> int:
        runs = 0
        while time.perf_counter() < end:
            run()
            runs += 1
        return runs

    with ThreadPoolExecutor(threads) as workers:
        list(workers.map(work, [time.perf_counter() + seconds / 5] * threads))  # every context is warm
        start = time.perf_counter()
        runs = sum(workers.map(work, [start + seconds] * threads))
        return runs * batch / (time.perf_counter() - start)


def _latencies_ms(run: Callable[[], Any], seconds: float) -> list[float]:
    for _ in range(20):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times
