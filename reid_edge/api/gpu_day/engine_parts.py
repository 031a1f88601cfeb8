"""What engines measure: ONNX Runtime's on a GPU, and those that TensorRT builds here, INT8 beside FP16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from reid_edge.engines.base import Engine
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.engines.ort import import_onnxruntime
from reid_edge.errors import MissingExtraError, ReidEdgeError

from .files import FOLDER, files_in, least_ms
from .gpus import require_gpu, require_onnx
from .parts import CannotRunError, DayOptions, DayRow
from .torch_parts import peak_rows
from .whole_runs import whole_rows

__all__ = ["engine_rows", "onnxruntime_cuda", "onnxruntime_tensorrt", "tensorrt", "tensorrt_rtx"]

_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"


def onnxruntime_cuda(folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """A row for each file and batch, from crops in memory to embeddings in memory, by ONNX Runtime on CUDA."""
    return _onnxruntime(folder, options, [_CUDA])


def onnxruntime_tensorrt(folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """The same by TensorRT within ONNX Runtime, which builds an engine for each batch when it first sees it."""
    return _onnxruntime(folder, options, [_TENSORRT, _CUDA])


def tensorrt(folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """A row for each file and batch by an engine of TensorRT; see `_native`."""
    return _native("tensorrt", folder, options)


def tensorrt_rtx(folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """The same by TensorRT-RTX."""
    return _native("tensorrt-rtx", folder, options)


def engine_rows(engine: Engine, row: DayRow, folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """A row for each batch of an open engine: the median time from crops to embeddings, and the roofline's."""
    from reid_edge.export.engines.race import time_engines

    rng, found = np.random.default_rng(0), peak_rows(folder)
    for batch in options.batches:
        images = rng.integers(0, 256, (batch, *options.input_hw, 3), dtype=np.uint8)
        first = time_engines({"": engine}, [batch], images, runs=1)[""][0]
        runs = max(3, min(500, int(options.seconds * 1e3 / first)))
        measured = time_engines({"": engine}, [batch], images, runs)[""][0]
        facts = {name: row[name] for name in ("arch", "form", "precision")}
        least = least_ms(row, batch, found.get(row["precision"]))
        yield {**facts, "batch": batch, "ms": round(measured, 4), "roofline_ms": least}


def _onnxruntime(folder: Path, options: DayOptions, providers: Sequence[str]) -> Iterator[DayRow]:
    try:
        runtime = import_onnxruntime()
    except MissingExtraError as error:
        raise CannotRunError(str(error)) from None
    available = runtime.get_available_providers()
    if providers[0] not in available:
        raise CannotRunError(f"ONNX Runtime {runtime.__version__} has {', '.join(available)}, and no {providers[0]}")
    require_onnx()
    for row in files_in(folder, ("fp16", "fp32")):
        try:
            with OnnxEngine(folder / FOLDER / row["file"], providers=providers) as engine:
                yield from engine_rows(engine, row, folder, options)
        except ReidEdgeError as error:
            yield {"file": row["file"], "refused": str(error)}


def _native(backend: str, folder: Path, options: DayOptions) -> Iterator[DayRow]:
    """Build each file's engine and time it; one that does not build or run is a row that says why.

    FP32 is last: a build can take a minute. Where the time ends before, a second run goes on with the engines built.
    After an engine's rows by batch are those of `whole_rows`. A row of an engine also has its seconds of building, and
    the layers by what they write. After INT8's of a form is the row of `GpuTimes`: INT8 beside FP16, and whether export
    would keep it.
    """
    from reid_edge.engines.tensorrt import TensorRTEngine
    from reid_edge.engines.tensorrt_api import load_backend
    from reid_edge.export.engines.build import engine_from_onnx
    from reid_edge.export.engines.options import EngineOptions

    require_gpu()
    try:
        load_backend(backend)
    except ReidEdgeError as error:
        raise CannotRunError(str(error)) from None
    sizes = sorted(options.batches)
    build = EngineOptions(backend=backend, batches=(sizes[0], sizes[len(sizes) // 2], sizes[-1]))
    for row in files_in(folder, ("fp16", "int8", "fp32")):
        try:
            built = engine_from_onnx(folder / FOLDER / row["file"], folder / backend, build)
            counts = {name: built.to_dict()[name] for name in ("reads", "writes", "all_writes", "seconds")}
            yield {"file": row["file"], "built": counts, "layers": sum(built.layers.values())}
            with TensorRTEngine(built.path) as engine:
                yield from engine_rows(engine, row, folder, options)
                yield from whole_rows(engine, row, options)
            if row["precision"] == "int8":
                yield from _beside(built.path, row, options)
        except ReidEdgeError as error:
            yield {"file": row["file"], "refused": str(error)}


def _beside(int8: Path, row: DayRow, options: DayOptions) -> Iterator[DayRow]:
    """INT8 beside FP16 in turns, and what `require_faster_engine` says of it."""
    from reid_edge.export.engines.faster import engine_beside, require_faster_engine, time_beside

    fp16 = engine_beside(int8)
    if fp16 is None:
        return
    times = time_beside(int8, fp16, np.zeros((1, *options.input_hw, 3), np.uint8))
    verdict = "kept"
    try:
        require_faster_engine(times, int8.name)
    except ReidEdgeError as error:
        verdict = str(error)
    facts = {name: row[name] for name in ("arch", "form")}
    yield {**facts, "int8_ms": times.int8_ms, "fp16_ms": times.fp16_ms, "verdict": verdict}
