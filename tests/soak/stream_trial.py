"""Measure streams: throughput beside the slowest stage alone, latency under load, memory, and an hour without a stop.

::

    PYTHONPATH=tests python -m soak.stream_trial models/stream_fp32.onnx --json stream.json         # five minutes
    PYTHONPATH=tests python -m soak.stream_trial models/stream_fp32.onnx --soak 3600 --json soak.json

Stages and streams take turns within one run, so that other work on the machine slows both. Latency is counted from the
moment at which a crop was due, not from when it was read: a stream that falls behind cannot hide it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice, takewhile
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import numpy as np
from helpers.tiny_onnx import write_tiny_model
from numpy.typing import NDArray

from reid_edge.core.files import write_text
from reid_edge.core.threads import usable_cores
from reid_edge.data.images import crops_of
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.data.synthetic.video import draw_frames
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import Engine
from reid_edge.engines.registry import open_engine

__all__ = ["latency", "memory", "soak", "throughput"]

BATCH = 32
BOUND_MS = 100.0
LOAD = 0.7


class TimedEngine:
    """An engine that remembers the size and the seconds of each run."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.card, self.max_batch, self.facts = engine.card, engine.max_batch, engine.facts
        self.backend, self.provider = engine.backend, engine.provider
        self.runs: list[tuple[int, float]] = []

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        began = time.perf_counter()
        embeddings = self._engine.run(images)
        self.runs.append((len(images), time.perf_counter() - began))
        return embeddings

    def __enter__(self) -> TimedEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def throughput(engine: Engine, files: list[Path], *, rounds: int, seconds: float) -> dict[str, Any]:
    """Crops a second, and CPU milliseconds a crop, of each stage alone and of a stream over all of them, in turn.

    Each is the median of the rounds, with the lowest and the highest: ``share``, the stream's crops a second of the
    slowest stage's, per cent; ``busy``, the share of the stream's time in which the model ran, per cent, which other
    work on the machine hardly changes; ``overhead_ms``, the CPU time of a crop that no stage has.
    """
    hw, resize = engine.card.input_hw, engine.card.resize
    ready = crops_of(list(islice(cycle(files), BATCH)), hw, resize)
    timed = TimedEngine(engine)
    embedder = Embedder(timed, batch=BATCH)
    busy = []

    def streamed(until: Callable[[], bool]) -> int:
        timed.runs.clear()
        began = time.perf_counter()
        source = takewhile(lambda _: not until(), endless)
        count = sum(result.error is None for result in embedder.stream(source, max_latency_ms=None))
        busy.append(100 * sum(taken for _, taken in timed.runs) / (time.perf_counter() - began))
        return count

    def run(until: Callable[[], bool]) -> int:
        return sum(len(engine.run(ready)) for _ in iter(until, True))

    def prepare(until: Callable[[], bool]) -> int:
        with ThreadPoolExecutor(min(4, usable_cores())) as pool:
            one: Callable[[Path], object] = lambda file: crops_of([file], hw, resize)  # noqa: E731
            return sum(len(list(pool.map(one, islice(endless, 64)))) for _ in iter(until, True))

    endless = cycle(files)
    stages = {"prepare": prepare, "engine": run, "stream": streamed}
    found = [{name: _rate(stage, seconds) for name, stage in stages.items()} for _ in range(rounds)]
    shares = [100 * each["stream"][0] / min(each["prepare"][0], each["engine"][0]) for each in found]
    overhead = [each["stream"][1] - each["prepare"][1] - each["engine"][1] for each in found]
    return {"rounds": found, "share": _middle(shares), "busy": _middle(busy), "overhead_ms": _middle(overhead)}


def _middle(values: list[float]) -> dict[str, float]:
    return {"value": median(values), "low": min(values), "high": max(values)}


def _rate(work: Callable[[Callable[[], bool]], int], seconds: float) -> tuple[float, float]:
    """Crops a second of ``work``, which ends after about ``seconds``, and the CPU milliseconds of each."""
    began, cpu = time.perf_counter(), time.process_time()
    count = work(lambda: time.perf_counter() - began > seconds)
    return count / (time.perf_counter() - began), 1e3 * (time.process_time() - cpu) / count


def latency(
    engine: Engine, *, rounds: int, seconds: float, bound_ms: float = BOUND_MS, seed: int = 0
) -> dict[str, Any]:
    """Milliseconds from due to delivered, of crops that come at random (Poisson) at 70 % of what a stream embeds.

    Each round measures first what a stream embeds. ``p50_ms`` and ``p99_ms`` are the median of the rounds, with the
    lowest and the highest; ``batch_ms`` is the time of the largest batch that ran.
    """
    rng = np.random.default_rng(seed)
    endless = cycle(list(rng.integers(0, 256, (64, 128, 64, 3), np.uint8)))
    timed = TimedEngine(engine)
    embedder = Embedder(timed, batch=BATCH)

    def streamed(until: Callable[[], bool]) -> int:
        source = takewhile(lambda _: not until(), endless)
        return sum(1 for _ in embedder.stream(source, max_latency_ms=bound_ms))

    percentiles, rates, runs = [], [], []
    crops = 0
    for _ in range(rounds):
        rate = LOAD * _rate(streamed, seconds / 2)[0]
        timed.runs.clear()
        due = np.cumsum(rng.exponential(1 / rate, max(1, int(rate * seconds))))
        began = time.perf_counter()
        results = embedder.stream(_paced(endless, due, began), max_latency_ms=bound_ms)
        late = [1e3 * (time.perf_counter() - began - due[result.index]) for result in results]
        percentiles.append(np.percentile(late, [50, 99]).tolist())
        rates.append(rate)
        runs += timed.runs
        crops += len(late)
    largest = max(size for size, _ in runs)
    sizes = Counter(size for size, _ in runs)
    return {
        **{"crops": crops, "crops_per_s": _middle(rates), "bound_ms": bound_ms, "largest_batch": largest},
        "batch_ms": 1e3 * median(taken for size, taken in runs if size == largest),
        "p50_ms": _middle([p50 for p50, _ in percentiles]),
        "p99_ms": _middle([p99 for _, p99 in percentiles]),
        "batches": {str(size): count for size, count in sorted(sizes.items())},
    }


def _paced(crops: Iterator[Any], due: NDArray[np.float64], began: float) -> Iterator[Any]:
    """Each crop when it is due, or at once if that has passed."""
    for moment in due.tolist():
        time.sleep(max(0.0, began + moment - time.perf_counter()))
        yield next(crops)


def memory(*, crops: int = 100_000) -> dict[str, Any]:
    """MiB of this process after every tenth of ``crops`` through a small model; each crop is memory of its own."""
    rng = np.random.default_rng(0)
    tenth = crops // 10
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_model(Path(folder) / "tiny.onnx", input_hw=(32, 16))
        with Embedder(model, threads=1) as embedder:
            base = rng.integers(0, 256, (64, 32, 3), np.uint8)
            source = (base.copy() for _ in range(crops))
            found = [_resident_mib() for result in embedder.stream(source) if (result.index + 1) % tenth == 0]
    return {"crops": crops, "resident_mib": found, "growth_mib": max(found[1:]) - found[0]}


def soak(engine: Engine, *, seconds: float, rate: float, out: Path | None = None) -> dict[str, Any]:
    """Frames with boxes for ``seconds``, at ``rate`` crops a second; each minute ``out`` is written."""
    persons = 4
    fps = rate / persons
    frames = list(draw_frames(50, persons=persons))
    before = threading.active_count()
    began = time.perf_counter()
    due = np.arange(1, max(2, int(seconds * fps))) / fps
    content: dict[str, Any] = {}
    late: list[float] = []
    errors = crops = 0
    resident = []
    embedder = Embedder(engine, batch=BATCH)
    for result in embedder.stream(_paced(cycle(frames), due, began), "bgr", max_latency_ms=BOUND_MS):
        late.append(time.perf_counter() - began - float(due[result.index]))
        errors += result.error is not None
        crops += len(result.embeddings)
        if result.index % max(1, int(60 * fps)) == 0 or result.index == len(due) - 1:
            resident.append(_resident_mib())
            p50, p99 = (1e3 * float(each) for each in np.percentile(late, [50, 99]))
            content = {
                **{"seconds": time.perf_counter() - began, "frames": len(late), "crops": crops, "errors": errors},
                **{"crops_per_s": rate, "p50_ms": p50, "p99_ms": p99, "resident_mib": resident},
            }
            if out:
                write_text(out, json.dumps(content, indent=1) + "\n")
    return {**content, "threads_left": threading.active_count() - before}


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> int:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each stage in a round")
    parser.add_argument("--crops", type=int, default=100_000, help="of the memory test")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="only this, for so long")
    parser.add_argument("--rate", type=float, default=40.0, help="crops a second of --soak")
    given = parser.parse_args()
    # One core is left to decoding: an engine on all of them would compete with it, alone and in the stream alike.
    with (
        open_engine(given.model, threads=max(1, usable_cores() - 1)) as engine,
        tempfile.TemporaryDirectory() as folder,
    ):
        if given.soak:
            content = soak(engine, seconds=given.soak, rate=given.rate, out=given.json)
        else:
            people = synthesize(Path(folder) / "people", identities=8, test_identities=4, cameras=2, progress=False)
            files = sorted(people.rglob("*.jpg"))
            content = {
                "memory": memory(crops=given.crops),
                "throughput": throughput(engine, files, rounds=given.rounds, seconds=given.seconds),
                "latency": latency(engine, rounds=given.rounds, seconds=given.seconds),
            }
    write_text(given.json, json.dumps(content, indent=1) + "\n")
    print(json.dumps(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
