"""INT8 for CPUs, in ONNX Runtime's own form: U8S8, outputs and biases rounded too, so that whole chains are integers.

It is another file than TensorRT's: a CPU gains nothing from Q/DQ on inputs only (`quantize`), and TensorRT does not
parse these int32 biases. What a CPU gains depends on its instructions (VNNI on x86, dot product on Arm) and on the
model: many small convolutions spend more on rounding than they save. So nothing is promised: both files are timed here.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from reid_edge.errors import GateError, InputError, MissingExtraError

from .calibrate import open_session
from .graph import tidied
from .int8_layers import layers, named

__all__ = ["CpuTimes", "quantized_for_cpu", "require_faster", "time_on_cpu"]

_BATCH = 4
_WARM_UP = 2


@dataclass(frozen=True)
class CpuTimes:
    """Milliseconds a batch on this CPU, the median of interleaved runs, and the cores that ran it."""

    fp32_ms: float
    int8_ms: float
    batch: int
    threads: int | None

    @property
    def speedup(self) -> float:
        """How many times as fast INT8 is; below 1 it is slower."""
        return self.fp32_ms / self.int8_ms

    def __str__(self) -> str:
        return f"INT8 {self.int8_ms:.1f} ms, FP32 {self.fp32_ms:.1f} ms a batch of {self.batch}: {self.speedup:.2f} x"


def quantized_for_cpu(model: ModelProto, images: NDArray[np.uint8], keep: Collection[str] = ()) -> ModelProto:
    """The U8S8 graph of an FP32 ``model``, calibrated (MinMax) on ``images``, uint8 [N, H, W, 3].

    Convolutions, Gemm and the additions, pools and products between them are rounded, activations to uint8, weights to
    int8 per channel; the layers of ``keep`` stay in float. Raises InputError without images.
    """
    if not len(images):
        raise InputError("no crops were given: give --calibrate a data set with training crops")
    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    except ImportError:
        raise MissingExtraError("onnxruntime.quantization", "export", "INT8 for the CPU") from None

    class Batches(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
        def __init__(self) -> None:
            self._left = _batches(images)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    source = tidied(model)
    kept = named(source, keep)
    excluded = [node.name for name, nodes in layers(source).items() if name in kept for node in nodes]
    with tempfile.TemporaryDirectory(prefix="reid-edge-") as scratch, _quiet():
        onnx.save(source, f"{scratch}/fp32.onnx")
        quantize_static(
            f"{scratch}/fp32.onnx",
            f"{scratch}/int8.onnx",
            Batches(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "Gemm", "Add", "Mul", "MaxPool", "AveragePool", "Relu"],
            nodes_to_exclude=[*excluded, *_outside(source)],
        )
        return onnx.load(f"{scratch}/int8.onnx")


def time_on_cpu(
    fp32: ModelProto, int8: ModelProto, images: NDArray[np.uint8], runs: int = 15, threads: int | None = None
) -> CpuTimes:
    """Time both graphs on ``images``, one batch, in turns, so that a busy machine slows both."""
    sessions = [open_session(model, threads) for model in (fp32, int8)]
    times: list[list[float]] = [[], []]
    for run in range(_WARM_UP + runs):
        for session, own in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(["embeddings"], {"images": images})
            if run >= _WARM_UP:
                own.append((time.perf_counter() - start) * 1e3)
    fp32_ms, int8_ms = (float(np.median(own)) for own in times)
    return CpuTimes(fp32_ms, int8_ms, len(images), threads)


def require_faster(times: CpuTimes, least: float = 1.05) -> None:
    """Raise GateError unless INT8 is ``least`` times as fast as FP32 here."""
    if times.speedup < least:
        raise GateError(f"INT8 does not pay on this CPU ({times}): use the fp32 file, or add --force to keep it")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice to preprocess the graph, which `fold` already did."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _batches(images: NDArray[np.uint8]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(images), _BATCH):
        yield {"images": images[start : start + _BATCH]}


def _outside(model: ModelProto) -> list[str]:
    """The nodes before the first layer and after the last: normalisation and L2 norm stay in float."""
    own = {node.output[0] for nodes in layers(model).values() for node in nodes}
    places = [i for i, node in enumerate(model.graph.node) if node.output[0] in own]
    inside = range(places[0], places[-1] + 1)
    return [node.name for i, node in enumerate(model.graph.node) if i not in inside]
