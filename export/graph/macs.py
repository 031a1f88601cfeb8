"""Multiply-accumulates (MACs) of each node of a graph, for one crop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, shape_inference

from reid_edge.errors import ModelError

from .graph import LAYER_TYPES, Graph, attribute, finish
from .session import open_session

__all__ = ["node_macs", "shapes_of_one_crop"]

Shape = tuple[int, ...]

logger = logging.getLogger(__name__)

_SIZES = {TensorProto.INT64, TensorProto.INT32}
"""Types of constants whose values decide shapes."""


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
    shapes = shapes_of_one_crop(graph)
    return {node.output[0]: _macs(node, shapes) for node in graph.nodes if node.op_type in LAYER_TYPES}


def _macs(node: NodeProto, shapes: Mapping[str, Shape]) -> int:
    """Outputs, times the length of the dot product that each of them is."""
    known = [shapes.get(name, ()) for name in (node.input[0], node.input[1], node.output[0])]
    if not all(shape and min(shape) > 0 for shape in known):
        raise ModelError(f"the shapes of {node.op_type} {node.output[0]!r} are not known: export the model again")
    first, weight, output = known
    if node.op_type == "Conv":
        return prod(output) * prod(weight[1:])  # [out, in / groups, kernel ...]
    if node.op_type == "Gemm":
        return prod(output) * first[0 if attribute(node, "transA", 0) else 1]
    return prod(output) * first[-1]


def shapes_of_one_crop(graph: Graph) -> dict[str, Shape]:
    """The shape of each value and constant with a batch of 1; an axis that stays unknown is 0.

    Where inference gives up, as on sizes that a transformer's graph computes, the graph runs once.
    """
    model = _without_weights(graph)
    for end in (*model.graph.input[: len(graph.model.graph.input)], *model.graph.output):
        end.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    shapes = {value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim) for value in values}
    shapes |= {name: array.shape for name, array in graph.constants.items()}
    counted = [node for node in graph.nodes if node.op_type in LAYER_TYPES]
    if not all(_is_known(shapes, name) for node in counted for name in (*node.input[:2], node.output[0])):
        shapes |= _measured(graph, [name for name in graph.producers if not _is_known(shapes, name)], shapes)
    return shapes


def _is_known(shapes: Mapping[str, Shape], name: str) -> bool:
    shape = shapes.get(name, ())
    return bool(shape) and min(shape) > 0


def _measured(graph: Graph, names: Sequence[str], shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes of values as ONNX Runtime computes them for one black crop; nothing for a graph that does not run."""
    watched = graph.copy()
    names = [name for name in names if name in graph.types]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, graph.types[name], None) for name in names if name not in graph.outputs
    )
    black = {
        entry.name: np.zeros(shapes[entry.name], helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))
        for entry in graph.model.graph.input
    }
    try:
        arrays = open_session(finish(watched)).run(names, black)
    except Exception as error:  # ONNX Runtime's own exceptions are RuntimeErrors and more
        logger.debug("shapes stay unknown: %s", error)
        return {}
    return {name: array.shape for name, array in zip(names, arrays, strict=True)}


def _without_weights(graph: Graph) -> ModelProto:
    """A copy whose float constants are inputs of their type and shape: inference would copy their values twice."""
    model = ModelProto(ir_version=graph.model.ir_version, opset_import=graph.model.opset_import)
    of = graph.model.graph
    model.graph.name = of.name
    for field, values in (("node", of.node), ("input", of.input), ("output", of.output)):
        getattr(model.graph, field).extend(values)
    for constant in of.initializer:
        if constant.data_type in _SIZES:
            model.graph.initializer.append(constant)
        else:
            model.graph.input.append(helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims))
    return model
