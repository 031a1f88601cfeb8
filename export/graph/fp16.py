"""A graph of ours to FP16: the body's weights and values in half precision, both ends in single.

::

    Cast, Transpose, normalise | Cast | convolutions ... | Cast | global mean, head, L2 norm
              FP32                            FP16                        FP32

The casts are in the graph, so ONNX Runtime and a strongly typed TensorRT compute the same. The L2 norm stays out: its
sum of squares can leave FP16's range, and its epsilon of 1e-12 is zero there. A pass of our own, because the usual
converter (`onnxruntime.transformers.float16`, from onnxconverter-common) clips weights beyond FP16's range with a debug
line, lifts small ones to 6e-8, and rounds to FP16 between the very nodes that it is told to leave alone.

In an INT8 graph, the Q/DQ pairs and the layers that read them stay as they are, and the other layers go to FP16 with
what is around them::

    Conv in FP16, Relu | Cast | Q, DQ, Conv in INT8, Relu, Q, DQ, Conv in INT8 | Cast | Relu, Conv in FP16
                                FP32, by name: the builder makes INT8 kernels of it, with the casts inside neighbours

What lies between INT8 layers alone is not cast: nothing would be computed in FP16, and a cast between a convolution,
its activation and the next pair could keep a builder from fusing the three.

Pairs with scales in FP16 would need opset 19, which TensorRT 10.3 may not read, and ONNX Runtime 1.32 computes them
wrongly on a CPU (docs/export.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from reid_edge.errors import GateError, ModelError

from .graph import attribute, constants, tidied

__all__ = ["body_values", "fp16_from_fp32", "overflowing_layer", "simulated_fp16", "stores_fp16"]

_FP16, _FP32 = TensorProto.FLOAT16, TensorProto.FLOAT
_PAIR = {"QuantizeLinear", "DequantizeLinear"}
_MEANS = {"AveragePool", "GlobalAveragePool", "ReduceMean"}

_LARGEST = 65504.0
_WATCHED_BATCH = 8

_MOST_WEIGHT_ERROR = 0.01
"""How much rounding may change a weight tensor, relative to its L2 norm. FP16's 11 bits change one by 0.0002."""


def fp16_from_fp32(model: ModelProto) -> ModelProto:
    """The FP16 graph of an FP32 or INT8 one, as a copy.

    Raises GateError, naming the weights, when some are beyond FP16's range or too small for it, and ModelError for a
    graph without convolutions that end in a global mean.
    """
    half = tidied(model)
    body = body_values(half.graph)
    _halve_weights(half.graph, body)
    _cast_at_borders(half.graph, body)
    return tidied(half)


def body_values(graph: GraphProto) -> set[str]:
    """The values from the first convolution to the last map, which its mean turns into a vector.

    Squeeze-and-excitation and gates take means too: the one meant here is the first with no convolution below it.
    Without what INT8's pairs write, the layers that read them, and what lies between those alone. Raises ModelError
    when there is no such mean.
    """
    convolved: set[str] = set()
    for node in graph.node:
        if node.op_type == "Conv" or convolved.intersection(node.input):
            convolved.update(node.output)
    read_by_conv: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type == "Conv" or read_by_conv.intersection(node.output):
            read_by_conv.update(node.input)
    head: set[str] = set()
    for node in graph.node:
        ends_body = node.op_type in _MEANS and node.input[0] in convolved and node.output[0] not in read_by_conv
        if ends_body or head.intersection(node.input):
            head.update(node.output)
    if not head:
        raise ModelError("this graph has no global mean after its convolutions: FP16 knows not where its body ends")
    return _around_products(graph, convolved - head - _int8_values(graph))


def simulated_fp16(model: ModelProto) -> ModelProto:
    """An FP32 graph that rounds wherever the FP16 graph ``model`` stores a value: what a GPU with FP32 sums computes.

    ONNX Runtime's CPU has no FP16 convolutions on x86: it computes them in FP32 and drops the roundings between
    them, so that neither an overflow nor lost digits show in the file itself.
    """
    stored = {value.name for value in shape_inference.infer_shapes(model).graph.value_info if _is_fp16(value)}
    single = tidied(model)
    nodes: list[NodeProto] = []
    for node in single.graph.node:
        for place, value in enumerate(node.input):
            if value in stored:
                node.input[place] = f"{value}_read"
        nodes.append(node)
        if (value := node.output[0]) in stored:
            if node.op_type != "Cast":
                node.output[0] = f"{value}_exact"
                nodes.append(_cast(f"{value}_exact", value, _FP16))
            nodes.append(_cast(value, f"{value}_read", _FP32))
    _set_nodes(single.graph, nodes)
    for tensor in single.graph.initializer:
        if tensor.data_type == _FP16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    return single


def overflowing_layer(model: ModelProto, images: NDArray[np.uint8]) -> str | None:
    """The first layer of the FP16 graph ``model`` whose values leave FP16's range on ``images``, uint8 [N, H, W, 3].

    As "trunk.conv1 reaches 1.2e+05, beyond the 65504 of FP16", by the name of its module or of its node; None when all
    values of all layers are finite.
    """
    import onnxruntime

    single = simulated_fp16(model)
    made = {node.output[0]: node for node in single.graph.node}
    outputs = [node.input[0] for node in single.graph.node if _is_cast_to_fp16(node)]
    shown = tidied(single)
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    largest = dict.fromkeys(outputs, 0.0)
    for start in range(0, len(images), _WATCHED_BATCH):
        for name, array in zip(
            outputs, session.run(outputs, {"images": images[start : start + _WATCHED_BATCH]}), strict=True
        ):
            largest[name] = max(largest[name], float(np.abs(array).max()))
    for value in outputs:
        if not largest[value] <= _LARGEST:
            return f"{_layer(made[value])} reaches {largest[value]:.2g}, beyond the 65504 of FP16"
    return None


def stores_fp16(model: ModelProto) -> bool:
    """Whether some of a graph of ours is in FP16."""
    return any(_is_cast_to_fp16(node) for node in model.graph.node)


def _layer(node: NodeProto) -> str:
    """The module that a node computes, as far as it reads weights; else the node's own name."""
    weights = [name for name in node.input if name.endswith((".weight.fp16", ".weight.dq", ".weight"))]
    return weights[0].removeprefix("model.").partition(".weight")[0] if weights else node.name or node.op_type


def _int8_values(graph: GraphProto) -> set[str]:
    pairs = {node.output[0] for node in graph.node if node.op_type in _PAIR}
    return pairs.union(*(node.output for node in graph.node if pairs.intersection(node.input)))


def _around_products(graph: GraphProto, values: set[str]) -> set[str]:
    """Those of ``values`` that hang together, through ``values``, with what a convolution or matrix product writes."""
    products = {node.output[0] for node in graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}}
    group = {value: {value} for value in values}
    for node in graph.node:
        for value in node.input:
            if value in values and node.output[0] in values and group[value] is not group[node.output[0]]:
                joined = group[value] | group[node.output[0]]
                group.update(dict.fromkeys(joined, joined))
    return {value for value in values if group[value] & products}


def _halve_weights(graph: GraphProto, body: set[str]) -> None:
    weights = {name: array for name, array in constants(graph).items() if array.dtype == np.float32}
    halved: dict[str, TensorProto] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if node.output[0] in body and name in weights:
                node.input[place] = f"{name}.fp16"
                halved[name] = numpy_helper.from_array(_rounded(weights[name], name), f"{name}.fp16")
    graph.initializer.extend(halved.values())


def _rounded(weights: NDArray[Any], name: str) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = weights.astype(np.float16)
    remedy = "leave out --fp16 (INT8: add --rest fp32), or train this model longer with weight decay"
    if np.isinf(half).any():
        largest = np.abs(weights).max()
        raise GateError(f"weights {name} reach {largest:.4g}, beyond the 65504 of FP16: {remedy}")
    norm = np.linalg.norm(weights)
    # A bias too small for FP16 is nothing beside the values it is added to; weights that vanish take a layer with them.
    if weights.ndim > 1 and (error := np.linalg.norm(half - weights)) > _MOST_WEIGHT_ERROR * norm:
        raise GateError(f"weights {name} are too small for FP16, which changes them by {error / norm:.1%}: {remedy}")
    return half


def _cast_at_borders(graph: GraphProto, body: set[str]) -> None:
    computed = {value for node in graph.node for value in node.output}
    nodes: list[NodeProto] = []
    made: set[str] = set()
    for node in graph.node:
        inside = node.output[0] in body
        for place, value in enumerate(node.input):
            if value in computed and (value in body) != inside:
                node.input[place] = f"{value}_fp16" if inside else f"{value}_fp32"
                if node.input[place] not in made:
                    nodes.append(_cast(value, node.input[place], _FP16 if inside else _FP32))
                    made.add(node.input[place])
        nodes.append(node)
    _set_nodes(graph, nodes)


def _cast(value: str, name: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [value], [name], name=name, to=to)


def _set_nodes(graph: GraphProto, nodes: list[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _is_cast_to_fp16(node: NodeProto) -> bool:
    return node.op_type == "Cast" and attribute(node, "to", 0) == _FP16


def _is_fp16(value: Any) -> bool:
    return bool(value.type.tensor_type.elem_type == _FP16)
