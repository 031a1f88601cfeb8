"""Batch norm at inference is a scale and a shift of each channel: fold it into the weights before it.

::

    gamma (W x + b - mean) / sqrt(var + eps) + beta  =  (scale W) x + (scale (b - mean) + beta),
    scale = gamma / sqrt(var + eps)

(Jacob et al., *Quantization and Training of Neural Networks*, CVPR 2018, section 3.2.) Exporters fold some of these
themselves, which and when changing with their version; after this pass none is left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper, shape_inference

from reid_edge.errors import ModelError

from .graph import attribute, constants, consumers, tidied

__all__ = ["fold_batch_norms"]

Array = NDArray[Any]


def fold_batch_norms(model: ModelProto) -> ModelProto:
    """A tidied copy of ``model`` without a BatchNormalization node, equal to it up to float32 rounding.

    A Conv or Gemm that feeds only the batch norm takes it into its weights; any other batch norm becomes a Mul and an
    Add. Raises ModelError for one in training mode: its answer for a crop depends on the rest of the batch.
    """
    ranks = _ranks(model)
    folded = tidied(model)
    for node in [node for node in folded.graph.node if node.op_type == "BatchNormalization"]:
        if attribute(node, "training_mode", 0):
            raise ModelError(f"batch norm {node.name!r} is in training mode: call model.eval() before exporting")
        weights = constants(folded.graph)
        scale, shift = _affine(node, weights)
        before = _sole_source(folded.graph, node)
        if before is not None and _absorb(folded.graph, before, weights, scale, shift):
            before.output[0] = node.output[0]
            folded.graph.node.remove(node)
        else:
            _replace(folded.graph, node, scale, shift, ranks[node.input[0]])
    return tidied(folded)


def _affine(node: NodeProto, weights: dict[str, Array]) -> tuple[Array, Array]:
    """The scale and shift of each channel, float64 [C]."""
    gamma, beta, mean, variance = (weights[name].astype(np.float64) for name in node.input[1:5])
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return scale, beta - mean * scale


def _sole_source(graph: GraphProto, node: NodeProto) -> NodeProto | None:
    """The Conv or Gemm whose only reader is ``node``."""
    value = node.input[0]
    if len(consumers(graph)[value]) > 1 or any(output.name == value for output in graph.output):
        return None
    sources = [source for source in graph.node if value in source.output and source.op_type in {"Conv", "Gemm"}]
    return sources[0] if sources else None


def _absorb(graph: GraphProto, node: NodeProto, weights: dict[str, Array], scale: Array, shift: Array) -> bool:
    """Fold a scale and a shift into a Conv or Gemm; False where that one is not of the plain kind ``W x + b``."""
    names = [name for name in node.input[1:] if name]
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1
    if not plain or any(name not in weights for name in names):
        return False
    weight = weights[names[0]].astype(np.float64)
    outputs_last = node.op_type == "Gemm" and not attribute(node, "transB", 0)
    by = scale if outputs_last else scale.reshape(-1, *[1] * (weight.ndim - 1))
    bias = weights[names[1]] * scale if len(names) > 1 else 0.0
    del node.input[1:]
    node.input.append(_add_constant(graph, f"{names[0]}.{node.output[0]}", weight * by))
    node.input.append(_add_constant(graph, f"{names[0]}.{node.output[0]}.bias", (bias + shift).reshape(-1)))
    return True


def _replace(graph: GraphProto, node: NodeProto, scale: Array, shift: Array, rank: int) -> None:
    """Put a Mul and an Add in the place of a batch norm."""
    per_channel = [-1] + [1] * (rank - 2)
    output = node.output[0]
    scaled, by, plus = f"{output}_scaled", f"{output}_scale", f"{output}_shift"
    _add_constant(graph, by, scale.reshape(per_channel))
    _add_constant(graph, plus, shift.reshape(per_channel))
    place = list(graph.node).index(node)
    graph.node.remove(node)
    graph.node.insert(place, helper.make_node("Mul", [node.input[0], by], [scaled], name=scaled))
    graph.node.insert(place + 1, helper.make_node("Add", [scaled, plus], [output], name=f"{output}_shifted"))


def _add_constant(graph: GraphProto, name: str, value: Array) -> str:
    graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return name


def _ranks(model: ModelProto) -> dict[str, int]:
    """How many dimensions each value has."""
    graph = shape_inference.infer_shapes(model).graph
    known = [*graph.input, *graph.value_info, *graph.output]
    return {value.name: len(value.type.tensor_type.shape.dim) for value in known}
