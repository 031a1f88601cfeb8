"""Multiply-accumulates (MACs) of each node of a graph, for one crop."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from onnx import NodeProto, shape_inference

from reid_edge.errors import ModelError

from .graph import Graph, attribute

__all__ = ["node_macs"]

Shape = tuple[int, ...]


def node_macs(graph: Graph) -> Mapping[str, int]:
    """The multiply-accumulates of each Conv, Gemm and MatMul of a ``graph`` for one crop, by the name of its output.

    An output is one dot product, with a filter, a column or a row, as in `training.models.macs.count_macs`; biases,
    activations, pooling and norms are left out, as in the literature. Graphs of any precision are counted: a weight
    behind a DequantizeLinear or a Cast has the shape of the weight. Raises ModelError for a node whose shapes are not
    known with a batch of 1.

    >>> from onnx import TensorProto, helper
    >>> node = helper.make_node("MatMul", ["x", "w"], ["y"])
    >>> ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in (("x", 3), ("y", 5))]
    >>> weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 5], [0.0] * 15)
    >>> node_macs(Graph(helper.make_model(helper.make_graph([node], "one", ends[:1], ends[1:], [weight]))))
    {'y': 15}
    """
    shapes = _shapes_of_one_crop(graph)
    return {node.output[0]: _macs(node, shapes) for node in graph.nodes if node.op_type in {"Conv", "Gemm", "MatMul"}}


def _macs(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Outputs, times the length of the dot product that each of them is."""
    known = [shapes.get(name, ()) for name in (node.input[0], node.input[1], node.output[0])]
    if not all(known) or not all(min(shape) > 0 for shape in known):
        raise ModelError(f"the shapes of {node.op_type} {node.output[0]!r} are not known: export the model again")
    first, weight, output = known
    if node.op_type == "Conv":
        return prod(output) * prod(weight[1:])  # [out, in / groups, kernel ...]
    if node.op_type == "Gemm":
        return prod(output) * first[0 if attribute(node, "transA", 0) else 1]
    return prod(output) * first[-1]


def _shapes_of_one_crop(graph: Graph) -> dict[str, Shape]:
    """The shape of each value and constant with a batch of 1; an axis that stays unknown is 0."""
    model = graph.copy()
    for end in (*model.graph.input, *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    shapes = {value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim) for value in values}
    return shapes | {name: array.shape for name, array in graph.constants.items()}
