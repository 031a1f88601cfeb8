"""Where the body of a graph is: what `fp16` computes in half precision. Found from the graph, whatever network it is.

::

    images, normalise | convolutions, matmuls, activations, layer norms ... | global mean, head | L2 norm
                                         the body

A convolutional network ends in a global mean: it and the head after it are small, and stay in FP32. A transformer may
take one of its tokens instead: its body goes on until the L2 norm. Squares in the body, which normalisations take when
they are not one operator, leave the range of FP16 above 256, and their epsilons vanish in it: they stay in FP32 until
the square root. LayerNormalization and Softmax are one operator each, and sum in FP32 inside (ONNX's ``stash_type``).
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from onnx import NodeProto, TensorProto

from reid_edge.errors import ModelError

from .graph import LAYER_TYPES, Graph

__all__ = ["body_values"]

_PAIR = {"QuantizeLinear", "DequantizeLinear"}
_MEANS = {"AveragePool", "GlobalAveragePool", "ReduceMean"}
_TYPED = {"Cast", "ConstantOfShape", "EyeLike", "OneHot", "Range"}
"""Operators whose attribute or constant is the type of what they write."""

_OF_SQUARES = {"Add", "Clip", "Max", "ReduceMean", "ReduceSum", "Reciprocal", "Sqrt"}
"""What a normalisation computes of squares before it divides by it."""


def body_values(graph: Graph) -> set[str]:
    """The values to store in FP16: from the first layer to the last map, which a global mean makes a vector of.

    Without a convolution the first layer is a matmul. Squeeze-and-excitation, gates and layer norms take means too: the
    global one is the first without a convolution after it that nothing is centred by. The clip and power of a
    generalised mean (GeM) are part of it. Where there is none, the body goes to the L2 norm.
    What Q/DQ pairs write is left out, with the layers that read them and the values between INT8 layers alone. Raises
    ModelError when there is neither a mean nor a norm.
    """
    first = {"Conv"} if any(node.op_type == "Conv" for node in graph.nodes) else LAYER_TYPES
    computed = _after(graph, [node for node in graph.nodes if node.op_type in first])
    squares = _squares(graph)
    head = _from_global_mean(graph, computed, squares) or _from_norm(graph, computed, squares)
    if not head:
        raise ModelError(
            "no global pooling found after the convolutions, and no L2 norm: cannot tell where the backbone ends, "
            "leave out --fp16 (precisions=); for INT8, add --unquantized fp32 (unquantized=)"
        )
    return _with_a_layer(graph, _floats(graph, computed - head - squares) - _int8_values(graph))


def _after(graph: Graph, nodes: Collection[NodeProto]) -> set[str]:
    """What ``nodes`` write, and all that is computed of it."""
    found = {value for node in nodes for value in node.output}
    for node in graph.nodes:
        if found.intersection(node.input):
            found.update(node.output)
    return found


def _before(graph: Graph, kinds: Collection[str]) -> set[str]:
    """The values that operators of these ``kinds`` are computed of."""
    found: set[str] = set()
    for node in reversed(graph.nodes):
        if node.op_type in kinds or found.intersection(node.output):
            found.update(node.input)
    return found


def _from_global_mean(graph: Graph, computed: set[str], squares: set[str]) -> set[str]:
    """The values from the global mean on; empty where there is none."""
    read_by_conv = _before(graph, {"Conv"})
    head: set[str] = set()
    for node in graph.nodes:
        ends_body = (
            node.op_type in _MEANS
            and node.input[0] in computed
            and node.output[0] not in read_by_conv
            and node.output[0] not in squares
            and not _centres(graph, node)
        )
        if ends_body:
            head.update(_generalised_mean(graph, node.input[0]))
        if ends_body or head.intersection(node.input):
            head.update(node.output)
    return head


def _from_norm(graph: Graph, computed: set[str], squares: set[str]) -> set[str]:
    """The values from the last norm on: of squares that no layer comes after."""
    inside = _before(graph, LAYER_TYPES)
    last = [node for node in graph.nodes if (squares & computed - inside).intersection(node.output)]
    last += [node for node in graph.nodes if node.op_type == "LpNormalization" and node.output[0] not in inside]
    return _after(graph, last)


def _centres(graph: Graph, mean: NodeProto) -> bool:
    """Whether a mean is subtracted from what it is the mean of, as a layer norm does."""
    readers = graph.consumers.get(mean.output[0], [])
    return any(reader.op_type == "Sub" and mean.input[0] in reader.input for reader in readers)


def _squares(graph: Graph) -> set[str]:
    """Squares, and what a normalisation computes of them up to the square root."""
    found: set[str] = set()
    for node in graph.nodes:
        if _is_square(graph, node) or (node.op_type in _OF_SQUARES and found.intersection(node.input)):
            found.update(node.output)
    return found


def _is_square(graph: Graph, node: NodeProto) -> bool:
    if node.op_type == "Pow":
        exponent = graph.constants.get(node.input[1])
        return exponent is not None and bool(np.all(exponent == 2))
    same = node.op_type == "Mul" and node.input[0] == node.input[1]
    return same or node.op_type in {"ReduceL2", "ReduceSumSquare"}


def _generalised_mean(graph: Graph, averaged: str) -> set[str]:
    """The values of a GeM pooling before its mean of ``averaged``: the power, and what clips its input above 0."""
    power = graph.producers[averaged]
    if power.op_type != "Pow":
        return set()
    clip = graph.producers.get(power.input[0])
    return {averaged, *(clip.output if clip is not None and clip.op_type in {"Clip", "Max"} else ())}


def _floats(graph: Graph, values: set[str]) -> set[str]:
    """Those of ``values`` that are float32, and of that type only because of what they are computed of."""
    return {
        value
        for value in values
        if graph.types.get(value, TensorProto.FLOAT) == TensorProto.FLOAT
        and graph.producers[value].op_type not in _TYPED
    }


def _int8_values(graph: Graph) -> set[str]:
    pairs = {node.output[0] for node in graph.nodes if node.op_type in _PAIR}
    return pairs.union(*(node.output for node in graph.nodes if pairs.intersection(node.input)))


def _with_a_layer(graph: Graph, values: set[str]) -> set[str]:
    """Those of ``values`` that are connected, through ``values``, to the output of a matmul or convolution layer."""
    layers = {node.output[0] for node in graph.nodes if node.op_type in LAYER_TYPES}
    group = {value: {value} for value in values}
    for node in graph.nodes:
        for value in node.input:
            if value in values and node.output[0] in values and group[value] is not group[node.output[0]]:
                joined = group[value] | group[node.output[0]]
                group.update(dict.fromkeys(joined, joined))
    return {value for value in values if group[value] & layers}
