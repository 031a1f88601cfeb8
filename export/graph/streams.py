"""Find blocks of parallel streams in a graph, by their structure: OSNet's, whoever exported it.

::

    value --+-- Lite ------------------------ gate --+
            +-- Lite -- Lite ---------------- gate --+-- Add -- Conv 1x1
            +-- Lite -- Lite -- Lite -------- gate --+
            +-- Lite -- Lite -- Lite -- Lite -- gate +

    Lite  Conv 1x1 without bias, depthwise Conv 3x3, Relu
    gate  x * Sigmoid(Conv 1x1(Relu(Conv 1x1(mean of x))))

(Zhou et al., *Omni-Scale Feature Learning for Person Re-Identification*, ICCV 2019, figures 3b and 4b.) Batch norm must
be folded (`fold.fold_batch_norms`). Numbers of streams and channels, and lengths of streams, may be any.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from .graph import Graph, attribute

__all__ = ["Lite", "Stream", "StreamBlock", "stream_blocks"]


@dataclass(frozen=True)
class Lite:
    """A 3x3 convolution in two steps, with nothing in between, and the Relu after it."""

    pointwise: NodeProto
    depthwise: NodeProto
    relu: NodeProto


@dataclass(frozen=True)
class Stream:
    """Lites one after the other, and the two convolutions of the gate of the last; ``nodes`` are all it consists of."""

    lites: tuple[Lite, ...]
    gate: tuple[NodeProto, NodeProto]
    nodes: tuple[NodeProto, ...]


@dataclass(frozen=True)
class StreamBlock:
    """Streams of ``channels`` channels that read ``value``, shortest first, and the 1x1 Conv that reads their sum."""

    value: str
    streams: tuple[Stream, ...]
    adds: tuple[NodeProto, ...]
    joining: NodeProto
    channels: int

    @property
    def replaced(self) -> list[NodeProto]:
        """All nodes from ``value`` to the sum."""
        return [*self.adds, *(node for stream in self.streams for node in stream.nodes)]

    @property
    def name(self) -> str:
        """What the weights of all Lites have in common, as "model.backbone.conv2.0"; else the joining Conv's value."""
        weights = [lite.pointwise.input[1].split(".") for stream in self.streams for lite in stream.lites]
        shared: list[str] = []
        for parts in zip(*weights, strict=False):
            if len(set(parts)) > 1:
                break
            shared.append(parts[0])
        return ".".join(shared) or self.joining.output[0]


def stream_blocks(graph: Graph) -> list[StreamBlock]:
    """The blocks of a graph in FP32, in its order; empty for a graph that has none.

    A 1x1 convolution with a bias is no Lite's: at the borders, the depthwise convolution after it sees zeros and not
    the bias, which no dense 3x3 convolution does.
    """
    found = (_block(graph, node) for node in graph.nodes if node.op_type == "Conv")
    return [block for block in found if block is not None and _is_closed(graph, block)]


def _block(graph: Graph, joining: NodeProto) -> StreamBlock | None:
    adds, terms = _sum(graph, joining.input[0])
    if len(terms) < 2 or not _is_pointwise(graph, joining):
        return None
    streams = [stream for value in terms if (stream := _stream(graph, value)) is not None]
    values = {stream.lites[0].pointwise.input[0] for stream in streams}
    sizes = {graph.constants[lite.pointwise.input[1]].shape[:2] for stream in streams for lite in stream.lites}
    if len(streams) < len(terms) or len(values) != 1 or len(sizes) != 1:
        return None
    (outputs, inputs), value = sizes.pop(), values.pop()
    streams.sort(key=lambda stream: len(stream.lites))
    return StreamBlock(value, tuple(streams), tuple(adds), joining, outputs) if outputs == inputs else None


def _sum(graph: Graph, value: str) -> tuple[list[NodeProto], list[str]]:
    """The Add nodes that make ``value``, and the values that they add; what is read twice is not taken apart."""
    adds: list[NodeProto] = []
    terms: list[str] = []
    waiting = [value]
    while waiting:
        value = waiting.pop()
        node = graph.producers.get(value)
        if node is not None and node.op_type == "Add" and len(graph.consumers[value]) == 1:
            adds.append(node)
            waiting.extend(reversed(node.input))
        else:
            terms.append(value)
    return adds, terms


def _stream(graph: Graph, gated: str) -> Stream | None:
    """The stream that ends in the value ``gated``."""
    multiply = graph.producers.get(gated)
    if multiply is None or multiply.op_type != "Mul":
        return None
    for value, weight in (multiply.input, reversed(multiply.input)):
        gate, lites = _gate(graph, weight, value), list(_lites(graph, value))[::-1]
        if gate and lites:
            nodes = [node for lite in lites for node in (lite.pointwise, lite.depthwise, lite.relu)]
            return Stream(tuple(lites), (gate[1], gate[3]), (*nodes, *gate, multiply))
    return None


def _lites(graph: Graph, value: str) -> Iterator[Lite]:
    """The Lites that end in ``value``, last first."""
    while True:
        relu = graph.producers.get(value)
        depthwise = graph.producers.get(relu.input[0]) if relu is not None and relu.op_type == "Relu" else None
        if depthwise is None or not _is_depthwise(graph, depthwise):
            return
        pointwise = graph.producers.get(depthwise.input[0])
        if relu is None or pointwise is None or not _is_pointwise(graph, pointwise) or _has_bias(graph, pointwise):
            return
        yield Lite(pointwise, depthwise, relu)
        value = pointwise.input[0]


def _gate(graph: Graph, weight: str, value: str) -> list[NodeProto] | None:
    """Mean, Conv, Relu, Conv and Sigmoid from ``value`` to its ``weight``."""
    found: list[NodeProto] = []
    for kinds in ({"Sigmoid"}, {"Conv"}, {"Relu"}, {"Conv"}, {"ReduceMean", "GlobalAveragePool"}):
        node = graph.producers.get(weight)
        if node is None or node.op_type not in kinds or (node.op_type == "Conv" and not _is_pointwise(graph, node)):
            return None
        found.append(node)
        weight = node.input[0]
    is_mean = weight == value and graph.shapes.get(found[-1].output[0], ())[2:] == (1, 1)
    return found[::-1] if is_mean else None


def _is_pointwise(graph: Graph, node: NodeProto) -> bool:
    return node.op_type == "Conv" and attribute(node, "group", 1) == 1 and _keeps_the_map(graph, node, 1)


def _is_depthwise(graph: Graph, node: NodeProto) -> bool:
    if node.op_type != "Conv" or not _keeps_the_map(graph, node, 3):
        return False
    return int(attribute(node, "group", 1)) == len(graph.constants[node.input[1]])


def _keeps_the_map(graph: Graph, node: NodeProto, kernel: int) -> bool:
    """Whether a convolution of constant weights with this ``kernel`` pads by zeros so that the map keeps its size."""
    weights = graph.constants.get(node.input[1])
    pads = attribute(node, "pads", [0] * 4)
    return (
        weights is not None
        and weights.dtype == np.float32
        and weights.shape[2:] == (kernel, kernel)
        and all(bias in graph.constants for bias in node.input[2:])
        and attribute(node, "auto_pad", b"NOTSET") == b"NOTSET"
        and set(pads) == {kernel // 2}
        and set(attribute(node, "strides", [1])) == set(attribute(node, "dilations", [1])) == {1}
    )


def _has_bias(graph: Graph, node: NodeProto) -> bool:
    return any(graph.constants[bias].any() for bias in node.input[2:])


def _is_closed(graph: Graph, block: StreamBlock) -> bool:
    """Whether nothing else reads a value within the block, or its weights."""
    inside = {*(node.output[0] for node in block.replaced), block.joining.output[0]}
    values = [node.output[0] for node in block.replaced]
    weights = [name for node in block.replaced if node.op_type == "Conv" for name in node.input[1:]]
    weights.append(block.joining.input[1])
    readers = (node for name in (*values, *weights) for node in graph.consumers[name])
    return not set(values) & set(graph.outputs) and all(node.output[0] in inside for node in readers)
