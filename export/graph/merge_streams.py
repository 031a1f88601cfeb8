"""OSNet's parallel streams merged for tensor cores: a third of the kernels, the same function.

A GPU runs OSNet at a fraction of the speed of a plain network of its FLOPs, because its four streams of small 1x1 and
depthwise convolutions are many small kernels. Exact rewrites make a few larger ones:

- a Lite, 1x1 convolution P and depthwise 3x3 convolution D without anything between them, is one dense 3x3 convolution
  with weights ``W[o, i, y, x] = D[o, y, x] P[o, i]``;
- the streams run side by side, level by level: the first Lites of all streams are one convolution of C channels to 4C,
  the second ones of the three that go on are one with a block for each stream on its diagonal, and so on. The sum of
  the streams goes into the 1x1 convolution after it, whose weights are repeated for each stream;
- the gate that the streams share becomes one on all 4C channels.

Forms (`FORMS`) differ in what a level does with the streams that have ended before it:

- ``gpu`` slices them off: the fewest multiply-accumulates, and a kernel that copies between two levels;
- ``gpu-latency`` reads them and multiplies them by zeros: a quarter more multiply-accumulates, and nothing between two
  levels. (Passed on by an identity, which a Relu leaves alone, they take as many kernels, and twice the
  multiply-accumulates.)

Both multiply the zeros beside the diagonals, which a CPU pays for (docs/guides/export.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from reid_edge.core.names import require_name

from .graph import Array, Graph, finish, set_nodes
from .streams import Lite, StreamBlock, stream_blocks

__all__ = ["FORMS", "merge_streams"]

FORMS = ("gpu", "gpu-latency")
"""The forms of merged streams."""

_FEW_UNITS = 2
"""Up to this many hidden units, a gate is elementwise: TensorRT-RTX makes one kernel of it and the concatenation before
it. For more units it makes a kernel for each, and convolutions are fewer."""


def merge_streams(graph: Graph, form: str) -> Graph | None:
    """The FP32 ``graph`` with the streams of its blocks merged into one of `FORMS`, equal up to float32 rounding.

    None for a graph without such a block (`streams.stream_blocks`). The convolution of a level is a layer named after
    its block, as ``backbone.conv2.0.streams.1``; the 1x1 convolution after the streams keeps its name, and so do the
    gate's two where it has them. Raises InputError for an unknown form.
    """
    require_name(form, FORMS, "form")
    blocks = stream_blocks(graph)
    if not blocks:
        return None
    names = [block.name for block in blocks]
    if len(set(names)) < len(names):
        names = [block.joining.output[0] for block in blocks]
    edited = graph.copy()
    drafts = {
        block.joining.output[0]: _merged(_Draft(edited.graph, graph, name), block, form)
        for block, name in zip(blocks, names, strict=True)
    }
    replaced = {node.output[0] for block in blocks for node in block.replaced}
    kept = [node for node in edited.graph.node if node.output[0] not in replaced]
    for node in kept:
        if node.output[0] in drafts:
            node.input[0] = drafts[node.output[0]][-1].output[0]
    set_nodes(edited, (one for node in kept for one in (*drafts.get(node.output[0], ()), node)))
    return finish(edited)


@dataclass
class _Draft:
    """The new nodes of one block; their weights go into ``edited`` at once. Values and weights begin with ``name``."""

    edited: GraphProto
    graph: Graph
    name: str
    nodes: list[NodeProto] = field(default_factory=list)

    def node(self, op_type: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        value = f"{self.name}.{name}"
        self.nodes.append(helper.make_node(op_type, inputs, [value], name=f"{value}.{op_type}", **attributes))
        return value

    def constant(self, name: str, array: Array) -> str:
        value = f"{self.name}.{name}"
        self.edited.initializer.append(numpy_helper.from_array(array, value))
        return value

    def conv(self, value: str, weights: str, bias: str, name: str, kernel: int) -> str:
        pads = [kernel // 2] * 4
        return self.node("Conv", [value, weights, bias], name, kernel_shape=[kernel] * 2, pads=pads)

    def replace(self, name: str, array: Array) -> str:
        """Give a constant, which nothing outside of the block reads, another value."""
        (tensor,) = (tensor for tensor in self.edited.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(array, name))
        return name


def _merged(draft: _Draft, block: StreamBlock, form: str) -> list[NodeProto]:
    """The nodes that compute the gated streams side by side, [N, streams * C, H, W]."""
    value, read = block.value, 0
    lengths = [len(stream.lites) for stream in block.streams]
    parts: list[tuple[str, int]] = []  # the streams that have ended, the first so many channels of a value
    for level in range(lengths[-1]):
        running = [stream.lites[level] for stream in block.streams if len(stream.lites) > level]
        if ended := lengths.count(level) * block.channels:
            parts.append((value, ended))
            if form == "gpu":
                value, read = _sliced(draft, value, ended, None, f"running.{level}"), len(running)
        weights, bias = _dense(draft.graph, running, block.channels, read)
        name = f"streams.{level}"
        names = draft.constant(f"{name}.weight", weights), draft.constant(f"{name}.bias", bias)
        value = draft.node("Relu", [draft.conv(value, *names, name, kernel=3)], f"{name}.relu")
        read = len(running)
    if parts:
        slices = [_sliced(draft, part, 0, channels, f"ended.{i}") for i, (part, channels) in enumerate(parts)]
        value = draft.node("Concat", [*slices, value], "streams", axis=1)
    draft.node("Mul", [value, _gate(draft, block, value)], "gated")
    joining = block.joining.input[1]
    draft.replace(joining, np.concatenate([draft.graph.constants[joining]] * len(lengths), axis=1))
    return draft.nodes


def _sliced(draft: _Draft, value: str, start: int, end: int | None, name: str) -> str:
    """Channels from ``start`` to ``end`` (None: the last) of a value."""
    bounds = {"start": start, "end": np.iinfo(np.int64).max if end is None else end, "axis": 1}
    parts = [draft.constant(f"{name}.{key}", np.array([at])) for key, at in bounds.items()]
    return draft.node("Slice", [value, *parts], name)


def _dense(graph: Graph, lites: Sequence[Lite], channels: int, read: int) -> tuple[Array, Array]:
    """The 3x3 weights [O, I, 3, 3] and bias [O] of Lites side by side, in float32.

    The last of the ``read`` streams of ``channels`` channels in the input are theirs; all read the same for 0.
    """
    count = len(lites)
    weights = np.zeros((count, channels, max(read, 1), channels, 3, 3))
    bias = np.zeros((count, channels))
    for i, lite in enumerate(lites):
        pointwise = graph.constants[lite.pointwise.input[1]].astype(np.float64)  # [C, C, 1, 1]
        weights[i, :, read - count + i if read else 0] = graph.constants[lite.depthwise.input[1]] * pointwise
        bias[i] = _bias(graph, lite.depthwise)
    shape = (count * channels, max(read, 1) * channels, 3, 3)
    return weights.reshape(shape).astype(np.float32), bias.reshape(-1).astype(np.float32)


def _bias(graph: Graph, conv: NodeProto) -> Array:
    if len(conv.input) > 2:
        return graph.constants[conv.input[2]]
    return np.zeros(len(graph.constants[conv.input[1]]), np.float32)


def _gate(draft: _Draft, block: StreamBlock, value: str) -> str:
    """The weights [N, streams * C, 1, 1] of the streams side by side in ``value``: the gates of all at once."""
    first, second = zip(*(stream.gate for stream in block.streams), strict=True)
    weights = (*_stacked(draft.graph, first), *_stacked(draft.graph, second))
    if weights[0].shape[1] <= _FEW_UNITS:
        return _elementwise_gate(draft, value, *weights)
    return _conv_gate(draft, block.streams[0].gate, value, *weights)


def _stacked(graph: Graph, convs: Sequence[NodeProto]) -> tuple[Array, Array]:
    """The weights [k, O, I] and biases [k, O] of k 1x1 convolutions, float32."""
    weights = np.stack([graph.constants[conv.input[1]][:, :, 0, 0] for conv in convs])
    return weights, np.stack([_bias(graph, conv) for conv in convs])


def _elementwise_gate(draft: _Draft, value: str, w1: Array, b1: Array, w2: Array, b2: Array) -> str:
    """The gates of k streams with weights [k, R, C] and [k, C, R] as R weighted means over channels and pixels.

    A hidden unit, the sum over C channels of weighted means, is C times the mean over all of them: a Relu lets C
    through, to ``w2``.
    """
    streams, units, channels = w1.shape
    apart = draft.constant("gate.apart", np.array([0, streams, -1, 1]))
    total = draft.constant("gate.bias", b2.reshape(1, streams, channels, 1))
    for unit in range(units):
        name = f"gate.unit{unit}"
        weights = draft.constant(f"{name}.weight", w1[:, unit].reshape(1, -1, 1, 1))
        shift = draft.constant(f"{name}.bias", b1[:, unit].reshape(1, streams, 1, 1) / np.float32(channels))
        shares = draft.constant(
            f"{name}.shares", w2[:, :, unit].reshape(1, streams, channels, 1) * np.float32(channels)
        )
        weighted = draft.node("Mul", [value, weights], f"{name}.weighted")
        per_stream = draft.node("Reshape", [weighted, apart], f"{name}.apart")
        mean = draft.node("GlobalAveragePool", [per_stream], f"{name}.mean")
        hidden = draft.node("Relu", [draft.node("Add", [mean, shift], f"{name}.sum")], name)
        total = draft.node("Add", [draft.node("Mul", [hidden, shares], f"{name}.share"), total], f"{name}.total")
    together = draft.constant("gate.together", np.array([0, streams * channels, 1, 1]))
    return draft.node("Reshape", [draft.node("Sigmoid", [total], "gate.sigmoid"), together], "gate")


def _conv_gate(
    draft: _Draft, convs: tuple[NodeProto, NodeProto], value: str, w1: Array, b1: Array, w2: Array, b2: Array
) -> str:
    """The same as two 1x1 convolutions with a block for each stream on their diagonals."""
    value = draft.node("GlobalAveragePool", [value], "gate.mean")
    for i, (conv, weights, bias) in enumerate(zip(convs, (w1, w2), (b1, b2), strict=True)):
        streams, outputs, inputs = weights.shape
        diagonal = np.einsum("soi,st->soti", weights, np.eye(streams, dtype=np.float32))
        whole = draft.replace(conv.input[1], diagonal.reshape(streams * outputs, streams * inputs, 1, 1))
        shift = draft.constant(f"gate.{i}.bias", bias.reshape(-1))
        value = draft.conv(value, whole, shift, f"gate.{i}", kernel=1)
        value = draft.node("Sigmoid" if i else "Relu", [value], f"gate.{i}.activation")
    return value
