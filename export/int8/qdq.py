"""An FP32 graph to INT8 as TensorRT reads it: Q/DQ pairs on the inputs of layers, and of residual adds if asked.

::

    value -> QuantizeLinear -> DequantizeLinear --+
             scale = amax / 127, zero point 0     +-> Conv, Gemm or MatMul -> float
    int8 weights ------------> DequantizeLinear --+      bias in float
             scale = largest of each output channel / 127

(Jacob et al., CVPR 2018; symmetric and per channel as in Wu et al., *Integer Quantization for Deep Learning Inference*,
arXiv 2004.09602, section 3.) The pairs say where numbers are rounded, so ONNX Runtime and a strongly typed TensorRT
give the same embeddings up to the order of their sums.

`onnxruntime.quantization.quantize_static` with ``QuantizeBias=False`` and outputs left out gives the same scales and
the same int8 weights from the same activation ranges (a test compares the two). By default it also rounds outputs,
which costs cosine, and biases, which TensorRT does not parse. It only takes activation ranges from its own calibrators,
whose entropy method searches nothing, it writes files, and it names nodes by the exporter's numbers.
`nvidia-modelopt[onnx]` pins onnxruntime-gpu and cupy, which a device may not have.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, helper, numpy_helper

from reid_edge.errors import ModelError
from reid_edge.export.graph.graph import Array, Graph, finish, output_axis

from .layers import match_layers
from .residuals import ResidualAdd, residual_adds

__all__ = ["quantized", "weight_scales"]

_LEVELS = 127
"""The largest int8. -128 stays unused: a symmetric activation range has as many steps below zero as above."""

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


def quantized(
    graph: Graph, ranges: Mapping[str, float], keep: Collection[str] = (), residuals: Collection[str] = ()
) -> Graph:
    """The INT8 graph of an FP32 one.

    ``ranges`` gives the activation range (amax, the largest magnitude) of each of `layers.quantized_values`; numbers
    beyond it are clipped. The layers of ``keep`` (see `layers.match_layers`) stay in float. The skip input of the add
    after each layer of ``residuals`` that is in INT8 is rounded too (`residuals.residual_adds`). Raises ModelError when
    a value has no activation range, or one that is not finite.
    """
    kept = match_layers(graph, keep)
    edited = graph.copy()
    nodes = [node for name, nodes in Graph(edited).layers.items() if name not in kept for node in nodes]
    adds = [add for add in residual_adds(graph) if add.layer in residuals and add.layer not in kept]
    _check_ranges({*(node.input[0] for node in nodes), *(add.skip for add in adds)}, ranges)
    _quantize_weights(edited.graph, nodes, graph.constants)
    _quantize_skips(edited.graph, adds, ranges)
    _quantize_inputs(edited.graph, nodes, ranges)
    return finish(edited)


def weight_scales(weights: Array, axis: int) -> NDArray[np.float32]:
    """The scale of each output channel, which lies along ``axis``: float32 [C], positive also where all weights are 0.

    >>> import numpy as np
    >>> weight_scales(np.array([[1.27, -2.54], [0, 0]], np.float32), axis=0).round(6).tolist()
    [0.019999999552965164, 1.0]
    """
    largest = np.abs(weights).max(axis=tuple(i for i in range(weights.ndim) if i != axis))
    scales = largest / np.float32(_LEVELS)
    return np.where(scales < _SMALLEST_SCALE, 1, scales).astype(np.float32)


def _check_ranges(values: Iterable[str], ranges: Mapping[str, float]) -> None:
    if missing := sorted(set(values) - set(ranges)):
        raise ModelError(f"{len(missing)} values have no activation range, {missing[0]!r} first: calibrate this model")
    if bad := sorted(name for name in values if not (np.isfinite(ranges[name]) and ranges[name] >= 0)):
        raise ModelError(f"the activation range of {bad[0]!r} is {ranges[bad[0]]}: calibrate again, on crops")


def _quantize_weights(graph: GraphProto, nodes: Sequence[NodeProto], floats: Mapping[str, Array]) -> None:
    """Store the weights of ``nodes`` as int8, with a DequantizeLinear before the first that reads them."""
    done: dict[str, int] = {}
    for node in nodes:
        name, axis = node.input[1], output_axis(node)
        if name not in done:
            scales = weight_scales(floats[name], axis)
            steps = np.rint(floats[name] / np.expand_dims(scales, _others(floats[name].ndim, axis)))
            _add(graph, f"{name}.int8", np.clip(steps, -_LEVELS, _LEVELS).astype(np.int8))
            _add(graph, f"{name}.scale", scales)
            _add(graph, f"{name}.zero", np.zeros(len(scales), np.int8))
            inputs = [f"{name}.{part}" for part in ("int8", "scale", "zero")]
            pair = helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], name=f"{name}.dq", axis=axis)
            _insert_before(graph, [other for other in nodes if other.input[1] == name], [pair])
            done[name] = axis
        if done[name] != axis:
            raise ModelError(f"weights {name} are read along two axes: keep their layer in float (--keep, keep=)")
        node.input[1] = f"{name}.dq"


def _quantize_inputs(graph: GraphProto, nodes: Sequence[NodeProto], ranges: Mapping[str, float]) -> None:
    """Put one Q/DQ pair on each value that ``nodes`` read, before the first of them, unless it has one."""
    done = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in nodes:
        value = node.input[0]
        if value not in done:
            done.add(value)
            _add_pair(graph, value, ranges[value], [other for other in nodes if other.input[0] == value])
        node.input[0] = f"{value}.dq"


def _quantize_skips(graph: GraphProto, adds: Iterable[ResidualAdd], ranges: Mapping[str, float]) -> None:
    """Put one Q/DQ pair on each skip input, before the first node of all that read the value."""
    nodes = {node.output[0]: node for node in graph.node}
    for add in adds:
        if f"{add.skip}.dq" not in nodes:
            _add_pair(graph, add.skip, ranges[add.skip], [node for node in graph.node if add.skip in node.input])
            nodes |= {node.output[0]: node for node in graph.node}
        node = nodes[add.output]
        node.input[list(node.input).index(add.skip)] = f"{add.skip}.dq"


def _add_pair(graph: GraphProto, value: str, amax: float, readers: Iterable[NodeProto]) -> None:
    """Put a Q/DQ pair of the activation range ``amax`` on a value, before the first of its ``readers``."""
    if not any(tensor.name == "zero.int8" for tensor in graph.initializer):
        _add(graph, "zero.int8", np.zeros((), np.int8))
    # A value that was 0 on every crop has amax 0: any step keeps it 0.
    scale = np.float32(amax / _LEVELS)
    _add(graph, f"{value}.scale", np.asarray(scale if scale >= _SMALLEST_SCALE else 1, np.float32))
    parts = [f"{value}.scale", "zero.int8"]
    pair = [
        helper.make_node("QuantizeLinear", [value, *parts], [f"{value}.q"], name=f"{value}.q"),
        helper.make_node("DequantizeLinear", [f"{value}.q", *parts], [f"{value}.dq"], name=f"{value}.dq"),
    ]
    _insert_before(graph, readers, pair)


def _others(ndim: int, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if i != axis)


def _insert_before(graph: GraphProto, nodes: Iterable[NodeProto], new: Iterable[NodeProto]) -> None:
    """Insert ``new`` before the first of ``nodes`` in the order in which they run."""
    written = {node.output[0] for node in nodes}
    place = next(i for i, node in enumerate(graph.node) if node.output[0] in written)
    for i, one in enumerate(new):
        graph.node.insert(place + i, one)


def _add(graph: GraphProto, name: str, value: Array) -> None:
    graph.initializer.append(numpy_helper.from_array(value, name))
