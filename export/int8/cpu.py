"""INT8 for CPUs, in ONNX Runtime's own form: U8S8, outputs and biases rounded too, so that whole chains are integers.

It is another file than TensorRT's: a CPU gains nothing from Q/DQ on inputs only (`qdq`), and TensorRT does not
parse these int32 biases. What a CPU gains depends on its instructions (VNNI on x86, dot product on Arm) and on the
model: many small convolutions spend more on rounding than they save. So no speedup is promised: both graphs are timed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reid_edge.core.files import scratch_folder
from reid_edge.engines.ort import import_onnxruntime
from reid_edge.errors import GateError, InputError
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.session import open_session

from .layers import match_layers

__all__ = ["CpuTimes", "quantized_for_cpu", "require_faster", "time_on_cpu"]

_BATCH = 4
_WARM_UP = 2


@dataclass(frozen=True)
class CpuTimes:
    """Milliseconds a batch on this CPU: the median of interleaved runs on ``threads`` (None: all cores)."""

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


def quantized_for_cpu(graph: Graph, images: NDArray[np.uint8], keep: Collection[str] = ()) -> Graph:
    """The U8S8 graph of an FP32 ``graph``, calibrated (MinMax) on ``images``, uint8 [N, H, W, 3].

    Convolutions, Gemm and the Add, Mul and pooling nodes between them are rounded, activations to uint8, weights to
    int8 per channel; the layers of ``keep`` stay in float. Of a graph with MatMul layers, the layers alone are rounded:
    what a transformer adds up over its blocks does not fit into 8 bits. Raises InputError without images.
    """
    if not len(images):
        raise InputError("no crops were given: give --calibrate (calibrate=) a data set with training crops")
    tools = import_onnxruntime("onnxruntime.quantization")
    reader: Any = tools.CalibrationDataReader

    class Batches(reader):  # type: ignore[misc]  # ONNX Runtime has no types
        def __init__(self) -> None:
            self._left = _batches(images)

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    kept = match_layers(graph, keep)
    excluded = [node.name for name, nodes in graph.layers.items() if name in kept for node in nodes]
    with scratch_folder() as scratch, _quiet():
        onnx.save(graph.tidied().model, f"{scratch}/fp32.onnx")
        tools.quantize_static(
            f"{scratch}/fp32.onnx",
            f"{scratch}/int8.onnx",
            Batches(),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            op_types_to_quantize=_rounded_types(graph),
            nodes_to_exclude=[*excluded, *_outside(graph), *_attention(graph)],
        )
        return Graph(onnx.load(f"{scratch}/int8.onnx")).tidied()


def time_on_cpu(
    fp32: Graph, int8: Graph, images: NDArray[np.uint8], runs: int = 15, threads: int | None = None
) -> CpuTimes:
    """Time both graphs on ``images``, one batch, in turns, so that a busy machine slows both."""
    sessions = [open_session(graph, threads) for graph in (fp32, int8)]
    times: list[list[float]] = [[], []]
    for run in range(_WARM_UP + runs):
        for session, own in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(["embeddings"], {"images": images})
            if run >= _WARM_UP:
                own.append((time.perf_counter() - start) * 1e3)
    fp32_ms, int8_ms = (float(np.median(own)) for own in times)
    return CpuTimes(fp32_ms, int8_ms, len(images), threads)


def require_faster(times: CpuTimes, min_speedup: float = 1.05) -> None:
    """Raise GateError unless INT8 is ``min_speedup`` times as fast as FP32 here."""
    if times.speedup < min_speedup:
        raise GateError(
            f"INT8 is not faster on this CPU ({times}): use the fp32 file, or add --force (force=) to keep it"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop the quantiser's advice to preprocess the graph, which `fold` already did.

    The quantiser logs through ``logging.warning``, which configures a root logger without handlers, for good.
    """
    before, handler = logging.root.manager.disable, logging.NullHandler()
    logging.root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        logging.root.removeHandler(handler)


def _batches(images: NDArray[np.uint8]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(images), _BATCH):
        yield {"images": images[start : start + _BATCH]}


def _rounded_types(graph: Graph) -> list[str]:
    if any(node.op_type == "MatMul" for nodes in graph.layers.values() for node in nodes):
        return ["Conv", "Gemm", "MatMul"]
    return ["Conv", "Gemm", "Add", "Mul", "MaxPool", "AveragePool", "Relu"]


def _attention(graph: Graph) -> list[str]:
    """The matmuls of two computed values, and stacks of them: no layers, and not rounded for TensorRT either."""
    layers = {node.output[0] for nodes in graph.layers.values() for node in nodes}
    return [node.name for node in graph.nodes if node.op_type == "MatMul" and node.output[0] not in layers]


def _outside(graph: Graph) -> list[str]:
    """The nodes before the first layer and after the last: normalisation and L2 norm stay in float."""
    own = {node.output[0] for nodes in graph.layers.values() for node in nodes}
    places = [i for i, node in enumerate(graph.nodes) if node.output[0] in own]
    inside = range(places[0], places[-1] + 1)
    return [node.name for i, node in enumerate(graph.nodes) if i not in inside]
