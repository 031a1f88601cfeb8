"""What of a graph can be INT8, by the names that its modules have in PyTorch, and what had better not be."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import ModelProto, NodeProto, shape_inference

from reid_edge.errors import InputError

from .graph import attribute, constants

__all__ = ["default_keep", "depthwise_layers", "gate_layers", "layers", "named", "quantized_values"]


def layers(model: ModelProto) -> dict[str, list[NodeProto]]:
    """What can be INT8, in the graph's order: the Conv and Gemm nodes that read each weight.

    A layer has the name of its module in PyTorch, as ``trunk.conv2.0.gate.fc1``: nodes are numbered anew by every
    exporter. Several nodes share a layer where the model calls a module several times.
    """
    floats = {name for name, array in constants(model.graph).items() if array.dtype == np.float32}
    found: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type in {"Conv", "Gemm"} and node.input[1] in floats and node.input[0] not in floats:
            found.setdefault(_layer_name(node.input[1]), []).append(node)
    return found


def depthwise_layers(model: ModelProto) -> set[str]:
    """The layers that are convolutions with a group for each of their several channels."""
    weights = constants(model.graph)
    return {
        name
        for name, nodes in layers(model).items()
        if nodes[0].op_type == "Conv" and 1 < attribute(nodes[0], "group", 1) == weights[nodes[0].input[1]].shape[0]
    }


def gate_layers(model: ModelProto) -> set[str]:
    """The layers that are convolutions of a single pixel: gates, and the two of squeeze-and-excitation."""
    inferred = shape_inference.infer_shapes(model).graph.value_info
    sizes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim[2:]] for value in inferred}
    nodes = ((name, node) for name, nodes in layers(model).items() for node in nodes)
    return {name for name, node in nodes if node.op_type == "Conv" and sizes.get(node.input[0]) == [1, 1]}


def default_keep(model: ModelProto) -> set[str]:
    """The layers to keep in float unless told otherwise: depthwise convolutions and gates.

    MobileNetV3 loses most of its accuracy in the former; in OSNet they gain little. Together they are a small part
    of the multiply-accumulates, and TensorRT-RTX compiles kernels three times as large to round what goes into them
    (docs/export.md).
    """
    return depthwise_layers(model) | gate_layers(model)


def named(model: ModelProto, names: Collection[str]) -> set[str]:
    """The layers that ``names`` name: each a layer, or the start of several up to a dot, as ``trunk.conv2``.

    Raises InputError for a name without a layer.
    """
    found: set[str] = set()
    every = layers(model)
    for name in names:
        below = {layer for layer in every if f"{layer}.".startswith(f"{name}.")}
        if not below:
            some = ", ".join(list(every)[:4])
            raise InputError(f"this model has no layer {name!r} to keep: give some of {some}, ...")
        found |= below
    return found


def quantized_values(model: ModelProto, keep: Collection[str] = ()) -> list[str]:
    """The values that get a Q/DQ pair when the layers of ``keep`` stay in float, in the graph's order."""
    kept = named(model, keep)
    nodes = (node for name, nodes in layers(model).items() if name not in kept for node in nodes)
    return list(dict.fromkeys(node.input[0] for node in nodes))


def _layer_name(weight: str) -> str:
    return weight.removeprefix("model.").removesuffix(".weight")
