"""Whether an INT8 engine is worth its rounding on this GPU: it is timed beside the FP16 engine of the same model."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.registry import open_engine
from reid_edge.errors import GateError

from .race import time_engines

__all__ = ["GpuTimes", "engine_beside", "require_faster_engine", "time_beside"]


@dataclass(frozen=True)
class GpuTimes:
    """Milliseconds a batch on this GPU, from crops in memory to embeddings in memory, by batch size.

    Medians of runs in turns. ``optimum`` is the batch that the engines' kernels were tuned for.

    >>> GpuTimes({1: 0.5, 8: 1.0}, {1: 0.4, 8: 1.2}, optimum=8).speedup(8)
    1.2
    """

    int8_ms: dict[int, float]
    fp16_ms: dict[int, float]
    optimum: int

    def speedup(self, batch: int) -> float:
        """How many times as fast INT8 is at a batch size; below 1 it is slower."""
        return self.fp16_ms[batch] / self.int8_ms[batch]

    def __str__(self) -> str:
        rows = (
            f"batch {batch}: INT8 {self.int8_ms[batch]:.2f} ms, FP16 {self.fp16_ms[batch]:.2f} ms"
            for batch in sorted(self.int8_ms)
        )
        return f"{'; '.join(rows)}: {self.speedup(self.optimum):.2f} x at batch {self.optimum}"


def require_faster_engine(times: GpuTimes, name: str) -> None:
    """Raise GateError when INT8, the engine ``name``, is slower than FP16 at the batch that both were tuned for."""
    if times.speedup(times.optimum) < 1:
        raise GateError(
            f"{name} is slower than FP16 on this GPU ({times}): use the fp16 engine, or add --force (force=) to keep it"
        )


def engine_beside(engine: Path) -> Path | None:
    """The FP16 engine beside ``NAME_int8.engine`` that may be compared with it; None where there is none.

    It is of the same weights, TensorRT, GPU and batches.

    >>> engine_beside(scratch / "osnet_int8.engine") is None
    True
    """
    name, found, suffix = engine.name.rpartition("_int8")
    beside = engine.with_name(f"{name}_fp16{suffix}")
    own, other = EngineCard.beside(engine), EngineCard.beside(beside)
    if not (found and own and other and beside.is_file()) or other.model.precision != "fp16":
        return None

    def facts(card: EngineCard) -> tuple[object, ...]:
        return card.model.weights_sha256, card.backend, card.version, card.gpu, card.batches

    return beside if facts(own) == facts(other) else None


def time_beside(int8: Path, fp16: Path, crops: NDArray[np.uint8], runs: int = 50) -> GpuTimes:
    """Time two engine files on the batches of their profile, of ``crops``, uint8 [N, H, W, 3], repeated as needed."""
    batches = EngineCard.read(int8).batches
    distinct = sorted({*batches})
    with ExitStack() as stack:
        engines = {path.name: stack.enter_context(open_engine(path)) for path in (int8, fp16)}
        times = time_engines(engines, distinct, crops, runs)
    of_int8, of_fp16 = (dict(zip(distinct, times[path.name], strict=True)) for path in (int8, fp16))
    return GpuTimes(of_int8, of_fp16, optimum=batches[1])
