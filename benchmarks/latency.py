"""How long a batch takes, from files to embeddings, and how much memory the process needed for it.

A turn opens the engine, warms it up until its times are steady, and times batches stage by stage
(`reid_edge.benchmarks.stages`), serially on one stream or on several threads side by side. After them, and apart from
them, come the search in a gallery and the same crops through `reid_edge.Embedder.stream`. A turn that other processes
disturbed is measured again while the engine is open; of two disturbed ones the less disturbed counts, and says so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid_edge.engines.base import Engine
from reid_edge.engines.registry import open_engine

from .power.meter import EnergyCounter, open_energy
from .power.state import read_clocks
from .stages import StagedBatch, batches_of, rank_times, staged_batch, streamed_times
from .timing.disturbance import Disturbance, read_counters
from .timing.measurement import Measurement
from .timing.percentiles import Percentiles
from .timing.steady import warm_up
from .timing.turns import STAGES, RawTurn, merged

__all__ = ["Measurement", "OnProgress", "Percentiles", "measure_latency", "measure_turn", "peak_memory_bytes"]

_SAY_EVERY_SECONDS = 0.5
_IDLE_SECONDS = 0.5
_WARM_UP_SECONDS = (0.3, 10.0)

OnProgress: TypeAlias = Callable[[float, str], None]


def measure_latency(model: Path | str, paths: Sequence[Path | str], batch: int, **options: Any) -> Measurement:
    """The row of a single turn, with the options of `measure_turn`."""
    return merged([measure_turn(model, paths, batch, **options)])


def measure_turn(
    model: Path | str,
    paths: Sequence[Path | str],
    batch: int,
    *,
    repeats: int = 20,
    min_seconds: float = 2.0,
    threads: int | None = None,
    backend: str | None = None,
    streams: int = 1,
    retries: int = 1,
    gallery: int = 0,
    streamed: bool = False,
    on_progress: OnProgress = lambda share, note: None,
) -> RawTurn:
    """Time ``model`` on batches of the crops ``paths``, cycling over them from the page cache.

    Runs until both ``repeats`` batches and ``min_seconds`` are done, after a warm-up; ``streams`` threads share that
    work and the engine. ``gallery`` is the size of the gallery to search (0: none), ``streamed`` times the crops
    through `Embedder.stream` too, for half of ``min_seconds``. ``on_progress`` is called twice a second, between two
    batches, with the share of the work done since the last call and a note. Raises ImageError for a crop that cannot be
    read and ModelError for a model that cannot be opened.
    """
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    for path in paths:
        Path(path).read_bytes()  # into the page cache: the disk is not what is measured
    begin = time.perf_counter()
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine(model, threads=threads, max_batch=batch, backend=backend))
        load_ms = (time.perf_counter() - begin) * 1e3
        first, _ = staged_batch(engine, next(batches_of(paths, batch)))
        energy = open_energy(gpu=any(name in engine.provider for name in ("CUDA", "TensorRT", "Tensorrt")))
        if energy:
            stack.callback(energy.close)
        idle_watts = _idle_watts(energy)
        job = _Job(engine, paths, batch, repeats, min_seconds, streams, energy, on_progress)
        low, high = _WARM_UP_SECONDS
        warmed = warm_up(job.run_once, min(high, max(low, min_seconds)))
        window, attempts = _undisturbed(job, retries)
        clocks = read_clocks()
        peak = peak_memory_bytes()  # before the gallery, which a device may not have
        stages = {name: [times[name] for times in window.runs] for name in STAGES if name in window.runs[0]}
        if gallery:
            stages["rank"] = rank_times(window.embeddings, gallery, len(window.runs))
        passed: tuple[list[float], float | None] = ([], None)
        if streamed and streams == 1:
            passed = streamed_times(engine, paths, batch, repeats, min_seconds / 2)
        return RawTurn(
            started=started,
            batch=batch,
            preprocess=[times["preprocess"] for times in window.runs],
            inference=[times["inference"] for times in window.runs],
            cpu=[times["cpu"] for times in window.runs] if streams == 1 else [],
            wall_s=window.seconds,
            load_ms=load_ms,
            first_run_ms=first["inference"],
            peak_memory_bytes=peak,
            engine=asdict(engine.facts),
            warm_up=asdict(warmed),
            stages=stages,
            streams=streams,
            streamed_ms=passed[0],
            streamed_crops_per_s=passed[1],
            joules=window.joules,
            energy_source=energy.source if energy else "",
            idle_watts=idle_watts,
            clocks=asdict(clocks),
            disturbed=window.disturbance.reasons,
            severity=window.disturbance.severity,
            attempts=attempts,
        )


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


@dataclass(frozen=True)
class _Window:
    """The batches of one try, what they took, and what disturbed them; the last embeddings, to search with."""

    runs: list[StagedBatch]
    seconds: float
    joules: float | None
    disturbance: Disturbance
    embeddings: NDArray[np.float32]


class _Job:
    """What is run over and over: batches of the crops on one engine."""

    def __init__(
        self,
        engine: Engine,
        paths: Sequence[Path | str],
        batch: int,
        repeats: int,
        min_seconds: float,
        streams: int,
        energy: EnergyCounter | None,
        on_progress: OnProgress,
    ) -> None:
        self.engine, self.streams, self.energy = engine, streams, energy
        self.repeats, self.min_seconds = -(-repeats // streams), min_seconds
        self._on_progress = on_progress
        self._said = 0.0
        step = len(paths) // streams
        self._batches = [batches_of(paths, batch, first=stream * step) for stream in range(streams)]
        self._last: NDArray[np.float32] = np.empty((0, 0), np.float32)

    def run_once(self) -> float:
        """One batch; milliseconds from files to embeddings."""
        times, self._last = staged_batch(self.engine, next(self._batches[0]))
        return times["preprocess"] + times["inference"]

    def window(self) -> _Window:
        """One try: all batches on all streams."""
        joules = self.energy.joules() if self.energy else None
        before = read_counters()
        with ThreadPoolExecutor(self.streams) as pool:
            parts = list(pool.map(self._stream, range(self.streams))) if self.streams > 1 else [self._stream(0)]
        after = read_counters()
        taken = self.energy.joules() - joules if self.energy and joules is not None else None
        runs = [times for part in parts for times in part]
        return _Window(runs, after.at - before.at, taken, Disturbance.between(before, after, self.streams), self._last)

    def _stream(self, number: int) -> list[StagedBatch]:
        runs: list[StagedBatch] = []
        begin = time.perf_counter()
        said = 0.0
        while len(runs) < self.repeats or time.perf_counter() - begin < self.min_seconds:
            times, embeddings = staged_batch(self.engine, next(self._batches[number]))
            runs.append(times)
            passed = time.perf_counter() - begin
            if number == 0 and (passed - said > _SAY_EVERY_SECONDS or len(runs) == 1):
                self._say(len(runs), passed)
                said = passed
        if number == 0:
            self._last = embeddings
        return runs

    def _say(self, done: int, passed: float) -> None:
        """Tell the share of the work that was done since the last time; a second try adds none."""
        share = min(done / self.repeats, passed / self.min_seconds if self.min_seconds else 1.0, 1.0)
        self._on_progress(max(0.0, share - self._said), f"{done} batches, {passed:.1f} s")
        self._said = max(self._said, share)


def _undisturbed(job: _Job, retries: int) -> tuple[_Window, int]:
    """The first undisturbed window, or of all the least disturbed; and how many there were."""
    windows = [job.window()]
    while windows[-1].disturbance.reasons and len(windows) <= retries:
        windows.append(job.window())
    calm = next((window for window in windows if not window.disturbance.reasons), None)
    return calm or min(windows, key=lambda window: window.disturbance.severity), len(windows)


def _idle_watts(energy: EnergyCounter | None) -> float | None:
    """What is drawn while this process only waits, with its engine open."""
    if energy is None:
        return None
    before, begin = energy.joules(), time.perf_counter()
    time.sleep(_IDLE_SECONDS)
    return (energy.joules() - before) / (time.perf_counter() - begin)
