"""Which layers of a graph INT8 rounds, by the names of their modules in PyTorch, and which stay in float by default."""

from __future__ import annotations

from collections.abc import Collection

from reid_edge.errors import InputError
from reid_edge.export.graph.graph import Graph, attribute

__all__ = ["default_keep", "depthwise_layers", "gate_layers", "match_layers", "quantized_values", "thin_layers"]

_THIN = 16


def depthwise_layers(graph: Graph) -> set[str]:
    """The layers that are convolutions with a group for each of their several channels."""
    return {
        name
        for name, nodes in graph.layers.items()
        if nodes[0].op_type == "Conv"
        and 1 < attribute(nodes[0], "group", 1) == graph.constants[nodes[0].input[1]].shape[0]
    }


def gate_layers(graph: Graph) -> set[str]:
    """The layers that are convolutions of a single pixel: gates, and the two of squeeze-and-excitation."""
    nodes = ((name, node) for name, nodes in graph.layers.items() for node in nodes)
    return {
        name for name, node in nodes if node.op_type == "Conv" and graph.shapes.get(node.input[0], ())[2:] == (1, 1)
    }


def default_keep(graph: Graph) -> set[str]:
    """The layers that stay in float by default: depthwise convolutions and gates.

    MobileNetV3 loses most of its accuracy in depthwise convolutions; in OSNet they gain little. Together they are a
    small part of the multiply-accumulates, and TensorRT-RTX compiles kernels three times as large to round their inputs
    (docs/guides/export.md).
    """
    return depthwise_layers(graph) | gate_layers(graph)


def thin_layers(graph: Graph) -> set[str]:
    """The layers that gain little from INT8: convolutions of under 16 channels, and Gemms, which read a vector a crop.

    NVIDIA's Model Optimizer leaves these two in float (``modelopt/onnx/quantization``). Files with merged streams do as
    well: TensorRT-RTX compiles a kernel less for each.
    """
    return {
        name
        for name, nodes in graph.layers.items()
        if nodes[0].op_type == "Gemm" or graph.constants[nodes[0].input[1]].shape[1] < _THIN
    }


def match_layers(graph: Graph, names: Collection[str]) -> set[str]:
    """The layers with ``names``: each a whole name, or the start of several up to a dot, as ``backbone.conv2``.

    Raises InputError for a name without a layer.
    """
    found: set[str] = set()
    for name in names:
        below = {layer for layer in graph.layers if f"{layer}.".startswith(f"{name}.")}
        if not below:
            some = ", ".join(list(graph.layers)[:4])
            raise InputError(f"this model has no layer {name!r} to keep: give some of {some}, ...")
        found |= below
    return found


def quantized_values(graph: Graph, keep: Collection[str] = ()) -> list[str]:
    """The values that get a Q/DQ pair when the layers of ``keep`` stay in float, in the graph's order."""
    kept = match_layers(graph, keep)
    nodes = (node for name, nodes in graph.layers.items() if name not in kept for node in nodes)
    return list(dict.fromkeys(node.input[0] for node in nodes))
