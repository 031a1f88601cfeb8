"""FP16 graphs: weights and values of the body in half precision, both ends in single.

::

    Cast, Transpose, normalise | Cast | convolutions ... | Cast | global mean, head, L2 norm
              FP32                            FP16                        FP32

The casts are in the graph, so ONNX Runtime and a strongly typed TensorRT compute the same. The power of a generalised
mean (GeM) is in FP32 with the mean: 41 to the third leaves FP16's range. So does the L2 norm's sum of squares, and its
epsilon of 1e-12 is zero there. The usual converter (`onnxruntime.transformers.float16`, from onnxconverter-common) is
not used: it clips weights beyond FP16's range with a debug line, lifts small ones to 6e-8, and rounds to FP16 between
the very nodes that it is asked to leave alone.

In an INT8 graph, the Q/DQ pairs and the layers that read them stay as they are, and the other layers go to FP16 with
what is around them::

    Conv in FP16, Relu | Cast | Q, DQ, Conv in INT8, Relu, Q, DQ, Conv in INT8 | Cast | Relu, Conv in FP16
                                FP32, by name: the builder makes INT8 kernels of it, with the casts inside neighbours

Values between INT8 layers alone are not cast: nothing would be computed in FP16, and a cast between a convolution,
its activation and the next pair could keep a builder from fusing the three.

Pairs with scales in FP16 would need opset 19, which TensorRT 10.3 may not read, and ONNX Runtime 1.32 computes them
wrongly on a CPU (docs/guides/export.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from reid_edge.errors import GateError

from .body import body_values
from .graph import Array, Graph, attribute, finish, set_nodes
from .session import open_session

__all__ = ["fp16_from_fp32", "overflowing_layer", "simulated_fp16", "stores_fp16"]

_FP16, _FP32 = TensorProto.FLOAT16, TensorProto.FLOAT
_FLOAT32_INPUTS = {"Resize": (1, 2), "Upsample": (1,)}
"""Constants that ONNX has in float32 whatever an operator computes in: scales of an image, not weights."""

_LARGEST = 65504.0
_WATCHED_BATCH = 8

_MAX_WEIGHT_ERROR = 0.01
"""How much rounding may change a weight tensor, relative to its L2 norm. FP16's 11 bits change one by 0.0002."""


def fp16_from_fp32(graph: Graph) -> Graph:
    """The FP16 graph of an FP32 or INT8 one.

    Raises GateError, naming the weights, when some are beyond FP16's range or too small for it, and ModelError for a
    graph whose body `body.body_values` cannot find.
    """
    body = body_values(graph)
    edited = graph.copy()
    _round_weights(edited, graph, body)
    _cast_at_borders(edited, graph, body)
    return finish(edited)


def simulated_fp16(graph: Graph) -> Graph:
    """An FP32 graph that rounds wherever the FP16 ``graph`` stores a value: what a GPU with FP32 sums computes.

    ONNX Runtime's CPU has no FP16 convolutions on x86: it computes them in FP32 and drops the roundings between
    them, so that neither an overflow nor lost digits show in the file itself.
    """
    return finish(_simulated(graph))


def overflowing_layer(graph: Graph, images: NDArray[np.uint8]) -> str | None:
    """The first layer of an FP16 ``graph`` whose values leave FP16's range on ``images``, uint8 [N, H, W, 3].

    As "backbone.conv1 reaches 1.2e+05, beyond the 65504 of FP16", by the name of its module or of its node; None when
    all values of all layers are finite.
    """
    watched = _simulated(graph)
    producers = {value: node for node in watched.graph.node for value in node.output}
    values = [node.input[0] for node in watched.graph.node if _is_cast_to_fp16(node)]
    watched.graph.output.extend(helper.make_tensor_value_info(name, _FP32, None) for name in values)
    session = open_session(finish(watched))
    largest = dict.fromkeys(values, 0.0)
    for start in range(0, len(images), _WATCHED_BATCH):
        arrays = session.run(values, {"images": images[start : start + _WATCHED_BATCH]})
        for name, array in zip(values, arrays, strict=True):
            largest[name] = max(largest[name], float(np.abs(array).max()))
    for value in values:
        if not largest[value] <= _LARGEST:
            return f"{_layer(producers[value])} reaches {largest[value]:.2g}, beyond the 65504 of FP16"
    return None


def stores_fp16(graph: Graph) -> bool:
    """Whether a graph has values in FP16."""
    return any(_is_cast_to_fp16(node) for node in graph.nodes)


def _simulated(graph: Graph) -> ModelProto:
    """The working copy of `simulated_fp16`."""
    ends = {*graph.outputs, *(value.name for value in graph.model.graph.input)}
    stored = {name for name, kind in graph.types.items() if kind == _FP16 and name not in ends}
    edited = graph.copy()
    nodes: list[NodeProto] = []
    for node in edited.graph.node:
        for place, value in enumerate(node.input):
            if value in stored:
                node.input[place] = f"{value}_read"
        nodes.append(node)
        for place, value in enumerate(node.output):
            if value not in stored:
                continue
            if node.op_type != "Cast":
                node.output[place] = f"{value}_exact"
                nodes.append(_cast(f"{value}_exact", value, _FP16))
            nodes.append(_cast(value, f"{value}_read", _FP32))
    set_nodes(edited, nodes)
    for tensor in edited.graph.initializer:
        if tensor.data_type == _FP16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    return edited


def _layer(node: NodeProto) -> str:
    """The module that a node computes, as far as it reads weights; else the node's own name."""
    weights = [name for name in node.input if name.endswith((".weight.fp16", ".weight.dq", ".weight"))]
    return weights[0].removeprefix("model.").partition(".weight")[0] if weights else node.name or node.op_type


def _round_weights(edited: ModelProto, graph: Graph, body: set[str]) -> None:
    weights = {name: array for name, array in graph.constants.items() if array.dtype == np.float32}
    rounded: dict[str, TensorProto] = {}
    for node in edited.graph.node:
        for place, name in enumerate(node.input):
            if node.output[0] in body and name in weights and place not in _FLOAT32_INPUTS.get(node.op_type, ()):
                node.input[place] = f"{name}.fp16"
                rounded[name] = numpy_helper.from_array(_rounded(weights[name], name), f"{name}.fp16")
    edited.graph.initializer.extend(rounded.values())


def _rounded(weights: Array, name: str) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        rounded = weights.astype(np.float16)
    remedy = "leave out --fp16 (precisions=); for INT8, add --unquantized fp32 (unquantized=)"
    remedy += "; or train longer, with weight decay"
    if np.isinf(rounded).any():
        largest = np.abs(weights).max()
        raise GateError(f"weights {name} reach {largest:.4g}, beyond the 65504 of FP16: {remedy}")
    norm = np.linalg.norm(weights)
    # A bias too small for FP16 is nothing beside the values it is added to; weights that vanish take a layer with them.
    if weights.ndim > 1 and (error := np.linalg.norm(rounded - weights)) > _MAX_WEIGHT_ERROR * norm:
        raise GateError(f"weights {name} are too small for FP16, which changes them by {error / norm:.1%}: {remedy}")
    return rounded


def _cast_at_borders(edited: ModelProto, graph: Graph, body: set[str]) -> None:
    """Cast what crosses the border of the ``body``; sizes and indices are whole numbers on both sides of it."""
    values = {value for node in edited.graph.node for value in node.output}
    computed = {value for value in values if graph.types.get(value, _FP32) == _FP32}
    nodes: list[NodeProto] = []
    cast: set[str] = set()
    for node in edited.graph.node:
        inside = node.output[0] in body
        for place, value in enumerate(node.input):
            if value in computed and (value in body) != inside:
                node.input[place] = f"{value}_fp16" if inside else f"{value}_fp32"
                if node.input[place] not in cast:
                    nodes.append(_cast(value, node.input[place], _FP16 if inside else _FP32))
                    cast.add(node.input[place])
        nodes.append(node)
    set_nodes(edited, nodes)


def _cast(value: str, name: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [value], [name], name=name, to=to)


def _is_cast_to_fp16(node: NodeProto) -> bool:
    return node.op_type == "Cast" and attribute(node, "to", 0) == _FP16
