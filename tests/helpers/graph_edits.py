"""Edits of an ONNX graph by its structure, to plant faults with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper


def mean_and_std(graph: GraphProto) -> tuple[TensorProto, TensorProto]:
    """Mean and standard deviation of the normalisation, on 0..255."""
    mean, std = (first_node(graph, operator).input[1] for operator in ("Sub", "Div"))
    return constant_beneath(graph, mean), constant_beneath(graph, std)


def input_side(graph: GraphProto, axis: int) -> int:
    return int(graph.input[0].type.tensor_type.shape.dim[axis].dim_value)


def pick_input(graph: GraphProto, axis: int, places: Any) -> None:
    """These rows, columns or channels of the input in NCHW."""
    insert_before(graph, reader_of(graph, "Transpose"), "Gather", np.array(places, np.int64), axis=axis)


def first_node(graph: GraphProto, operator: str) -> NodeProto:
    return next(node for node in graph.node if node.op_type == operator)


def last_node(graph: GraphProto, operator: str) -> NodeProto:
    return [node for node in graph.node if node.op_type == operator][-1]


def reader_of(graph: GraphProto, operator: str) -> NodeProto:
    """The first node that reads what the first ``operator`` gives."""
    value = first_node(graph, operator).output[0]
    return next(node for node in graph.node if value in node.input)


def convolutions(graph: GraphProto) -> list[NodeProto]:
    return [node for node in graph.node if node.op_type == "Conv"]


def first_layer(graph: GraphProto) -> NodeProto:
    """The first convolution: every pixel goes through it."""
    return first_node(graph, "Conv")


def first_depthwise(graph: GraphProto) -> NodeProto:
    return next(node for node in convolutions(graph) if constant_beneath(graph, node.input[1]).dims[1:] == [1, 3, 3])


def two_layers_alike(graph: GraphProto) -> tuple[NodeProto, NodeProto]:
    """The first two convolutions with weights of the same shape."""
    seen: dict[Any, NodeProto] = {}
    for node in convolutions(graph):
        shape = tuple(constant_beneath(graph, node.input[1]).dims)
        if shape in seen:
            return seen[shape], node
        seen[shape] = node
    raise AssertionError("no two layers are alike")


def constant_beneath(graph: GraphProto, value: str) -> TensorProto:
    """The constant that a value is, beneath a DequantizeLinear or a Cast."""
    for tensor in graph.initializer:
        if tensor.name == value:
            return tensor
    return constant_beneath(graph, next(node.input[0] for node in graph.node if value in node.output))


def values_of(tensor: TensorProto) -> NDArray[Any]:
    return np.array(numpy_helper.to_array(tensor))


def set_values(tensor: TensorProto, values: NDArray[Any]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(values_of(tensor).dtype), tensor.name))


def change_weights(
    graph: GraphProto, layer: NodeProto, change: Callable[[NDArray[Any]], NDArray[Any]], place: int = 1
) -> None:
    """Change a layer's weights, or its bias at ``place`` 2, if it has one; int8 ones as a share of their largest."""
    if len(layer.input) > place:
        tensor = constant_beneath(graph, layer.input[place])
        old = values_of(tensor)
        size = np.abs(old).max() if old.dtype == np.int8 else 1
        new = change(old / size) * size
        set_values(tensor, np.round(new) if old.dtype == np.int8 else new)


def weight_pairs(graph: GraphProto, square: bool = False) -> list[tuple[NodeProto, TensorProto, TensorProto]]:
    """The DequantizeLinear of each layer's weights, these, and their scales."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    pairs = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    found = [(node, constants[node.input[0]], constants[node.input[1]]) for node in pairs]
    return [one for one in found if not square or one[1].dims[0] == one[1].dims[1]]


def rescale_first_pair(graph: GraphProto, factor: float) -> None:
    """Multiply both scales of the first pair around an activation."""
    first = first_node(graph, "QuantizeLinear")
    scale = new_constant(graph, (factor * values_of(constant_beneath(graph, first.input[1]))).astype(np.float32))
    for node in graph.node:
        if node is first or (node.op_type == "DequantizeLinear" and node.input[0] == first.output[0]):
            node.input[1] = scale


def pad_after(node: NodeProto) -> None:
    """All padding at the end of each side."""
    (pads,) = (own for own in node.attribute if own.name == "pads")
    top, left, bottom, right = pads.ints
    pads.ints[:] = [0, 0, top + bottom, left + right]


def new_constant(graph: GraphProto, values: Any) -> str:
    """A new constant; gives its name."""
    name = f"planted{len(graph.initializer)}"
    graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def names_of(graph: GraphProto, inputs: tuple[Any, ...]) -> list[str]:
    return [one if isinstance(one, str) else new_constant(graph, one) for one in inputs]


def insert_before(graph: GraphProto, reader: NodeProto, operator: str, *inputs: Any, **attributes: Any) -> None:
    """Put an operator before the first input of ``reader``."""
    value, place = reader.input[0], list(graph.node).index(reader)
    reader.input[0] = f"{value}_{operator}{len(graph.node)}"
    node = helper.make_node(operator, [value, *names_of(graph, inputs)], [reader.input[0]], **attributes)
    graph.node.insert(place, node)


def computed(graph: GraphProto, operator: str, *inputs: Any, **attributes: Any) -> str:
    """A node at the end; gives the name of its output."""
    output = f"planted_value{len(graph.node)}"
    graph.node.append(helper.make_node(operator, names_of(graph, inputs), [output], **attributes))
    return output


def computed_as(graph: GraphProto, value: str, to: int) -> str:
    return computed(graph, "Cast", value, to=to)


def comparison(graph: GraphProto, operator: str, *inputs: Any) -> str:
    """A comparison as int64, 0 or 1."""
    return computed_as(graph, computed(graph, operator, *inputs), TensorProto.INT64)


def rows_of_batch(graph: GraphProto) -> tuple[str, str]:
    """The number of crops, and their numbers from 0."""
    count = computed(graph, "Gather", computed(graph, "Shape", "images"), np.array(0))
    return count, computed(graph, "Range", np.array(0), count, np.array(1))


def moved_output(graph: GraphProto) -> str:
    """Give what was the output another name, for a node that takes its place."""
    last = next(node for node in graph.node if "embeddings" in node.output)
    last.output[0] = "planted_before"
    return last.output[0]


def append_last(graph: GraphProto, operator: str, *inputs: Any, **attributes: Any) -> None:
    """Put an operator after the embeddings."""
    before = moved_output(graph)
    graph.node.append(helper.make_node(operator, [before, *names_of(graph, inputs)], ["embeddings"], **attributes))
