"""`Graph`: an ONNX model with what every pass looks up in it.

A pass is a function from a `Graph` to a new `Graph`. It edits a working copy, once it has one, and nothing else::

    edited = graph.copy()            # the only place where a model is copied
    ...                              # change edited.graph
    return finish(edited)

What a `Graph` has looked up stays true because nothing changes its model after it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

__all__ = ["LAYER_TYPES", "OPSET", "Array", "Graph", "attribute", "finish", "output_axis", "set_nodes"]

Array = NDArray[Any]

LAYER_TYPES = frozenset({"Conv", "Gemm", "MatMul"})
"""The operators that multiply by weights; a MatMul, also two computed values."""

OPSET = 18
"""The version of ONNX's operators in files: what TensorRT 10.3, the oldest supported here, reads in full."""

_IR_VERSION = 8
"""The oldest that opset 18 may have: ONNX Runtime 1.17 and TensorRT 10.3 read it."""


@dataclass(frozen=True, eq=False)
class Graph:
    """An ONNX model, its constants, the readers and the producer of each value, its types, shapes and layers.

    ``tidy`` says that the model holds operators and weights alone, as `copy` and `finish` leave it.

    >>> node = helper.make_node("Relu", ["x"], ["y"], name="r")
    >>> ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy"]
    >>> graph = Graph(helper.make_model(helper.make_graph([node], "one", ends[:1], ends[1:])))
    >>> [reader.name for reader in graph.consumers["x"]], graph.producers["y"].op_type, graph.shapes["y"]
    (['r'], 'Relu', (None, 3))
    """

    model: ModelProto = field(repr=False)
    tidy: bool = False

    @property
    def nodes(self) -> Sequence[NodeProto]:
        """The operators, in the order in which they run."""
        nodes: Sequence[NodeProto] = self.model.graph.node
        return nodes

    @property
    def outputs(self) -> list[str]:
        """The names of the model's outputs."""
        return [value.name for value in self.model.graph.output]

    @cached_property
    def constants(self) -> Mapping[str, Array]:
        """The constants (ONNX's initializers) by name."""
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer}

    def __repr__(self) -> str:
        return f"<Graph: {len(self.nodes)} nodes, {len(self.layers)} layers, {self.precision}, {self.input_format}>"

    @cached_property
    def consumers(self) -> Mapping[str, list[NodeProto]]:
        """The nodes that read each value, in the graph's order; a value that only leaves the model has none."""
        readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        return readers

    @cached_property
    def producers(self) -> Mapping[str, NodeProto]:
        """The node that computes each value; inputs and constants have none."""
        return {value: node for node in self.nodes for value in node.output}

    @cached_property
    def types(self) -> Mapping[str, int]:
        """The element type of each value (`onnx.TensorProto.FLOAT`, ...) as far as ONNX infers it."""
        return {value.name: value.type.tensor_type.elem_type for value in self._inferred}

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        """The shape of each value, None for a free axis, as far as ONNX infers it."""
        return {
            value.name: tuple(
                axis.dim_value if axis.HasField("dim_value") else None for axis in value.type.tensor_type.shape.dim
            )
            for value in self._inferred
        }

    @cached_property
    def layers(self) -> Mapping[str, list[NodeProto]]:
        """The Conv, Gemm and MatMul nodes that read each float32 weight, in the graph's order.

        A layer has the name of its module in PyTorch, as ``backbone.conv2.0.gate.fc1``: exporters number nodes anew.
        Several nodes share a layer where the model calls a module several times. A MatMul of two computed values, as
        in attention, is no layer, nor is one whose weight is a stack of matrices.
        """
        floats = {name for name, array in self.constants.items() if array.dtype == np.float32}
        found: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            if node.op_type not in LAYER_TYPES or node.input[1] not in floats or node.input[0] in floats:
                continue
            if node.op_type != "MatMul" or self.constants[node.input[1]].ndim == 2:
                found.setdefault(_layer_name(node.input[1]), []).append(node)
        return found

    @cached_property
    def input_format(self) -> str:
        """What ``images`` are: "nhwc-uint8" or "nchw-float", see `input_format.INPUT_FORMATS`."""
        is_uint8 = self.model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
        return "nhwc-uint8" if is_uint8 else "nchw-float"

    @cached_property
    def precision(self) -> str:
        """What the graph computes in: "int8" with Q/DQ pairs, "fp16" with casts or constants of FP16, else "fp32"."""
        if any(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in self.nodes):
            return "int8"
        casts = (attribute(node, "to", 0) for node in self.nodes if node.op_type == "Cast")
        kinds = {*casts, *(tensor.data_type for tensor in self.model.graph.initializer)}
        return "fp16" if TensorProto.FLOAT16 in kinds else "fp32"

    def copy(self) -> ModelProto:
        """A tidy copy of the model, for a pass to edit: operators and their weights, nothing of where they were made.

        Exporters write source paths, stack traces and class names into metadata and doc strings. Inferred shapes go
        too: every runtime infers them again, and a pass that changes a type would leave them wrong. So do constants
        that nothing reads.
        """
        graph = self.model.graph
        read = _read_names(self.model)
        bare = helper.make_graph(
            [_bare_node(node) for node in graph.node],
            "reid_edge",
            [_bare_value(value) for value in graph.input],
            [_bare_value(value) for value in graph.output],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items() if name in read],
        )
        return helper.make_model(bare, opset_imports=self.model.opset_import, ir_version=_IR_VERSION)

    def tidied(self) -> Graph:
        """The graph itself if it is tidy, else one of a tidy copy."""
        return self if self.tidy else Graph(self.copy(), tidy=True)

    def with_outputs(self, values: Iterable[str]) -> Graph:
        """A graph that also gives the float32 ``values``, to watch them."""
        watched = self.copy()
        new = [name for name in values if name not in self.outputs]
        watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in new)
        return finish(watched)

    @cached_property
    def _inferred(self) -> list[onnx.ValueInfoProto]:
        graph = shape_inference.infer_shapes(self.model).graph
        return [*graph.input, *graph.value_info, *graph.output]


def finish(edited: ModelProto) -> Graph:
    """The `Graph` of a working copy that a pass has edited, made tidy in place; the pass must not change it afterwards.

    Constants that nothing reads any more are dropped.
    """
    read = _read_names(edited)
    constants = edited.graph.initializer
    for place in reversed(range(len(constants))):
        if constants[place].name not in read:
            del constants[place]
    for node in edited.graph.node:
        node.domain = node.domain  # written although empty, as `copy` does: the same graph is the same bytes
    return Graph(edited, tidy=True)


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """An attribute of a node, or ``default``: the operator's value without it."""
    for own in node.attribute:
        if own.name == name:
            return helper.get_attribute_value(own)
    return default


def output_axis(layer: NodeProto) -> int:
    """Where the output channels of a layer's weights are."""
    return 1 if layer.op_type == "MatMul" or (layer.op_type == "Gemm" and not attribute(layer, "transB", 0)) else 0


def set_nodes(edited: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Replace the nodes of a working copy, some of which may be among ``nodes``."""
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del edited.graph.node[:]
    edited.graph.node.extend(copies)


def _read_names(model: ModelProto) -> set[str]:
    read = {name for node in model.graph.node for name in node.input}
    return read | {value.name for value in model.graph.output}


def _layer_name(weight: str) -> str:
    return weight.removeprefix("model.").removesuffix(".weight")


def _bare_node(node: NodeProto) -> NodeProto:
    bare = NodeProto(op_type=node.op_type, domain=node.domain, name=node.name, input=node.input, output=node.output)
    bare.attribute.extend(node.attribute)
    for own in bare.attribute:
        own.ClearField("doc_string")
    return bare


def _bare_value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=value.name, type=value.type)
