"""Batch norm at inference is a scale and a shift of each channel: fold it into the weights before it.

::

    gamma (W x + b - mean) / sqrt(var + eps) + beta  =  (scale W) x + (scale (b - mean) + beta),
    scale = gamma / sqrt(var + eps)

(Jacob et al., *Quantization and Training of Neural Networks*, CVPR 2018, section 3.2.) Exporters fold some of these
themselves, which and when changing with their version; after this pass none is left.
"""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, NodeProto, helper, numpy_helper

from reid_edge.errors import ModelError

from .graph import Array, Graph, attribute, finish

__all__ = ["fold_batch_norms"]


def fold_batch_norms(graph: Graph) -> Graph:
    """The graph without a BatchNormalization node, equal to ``graph`` up to float32 rounding.

    A Conv or Gemm that feeds only the batch norm takes it into its weights; any other batch norm becomes a Mul and an
    Add. Raises ModelError for one in training mode: its output for a crop depends on the other crops in the batch.
    """
    edited = graph.copy()
    weights = dict(graph.constants)
    for norm in [node for node in edited.graph.node if node.op_type == "BatchNormalization"]:
        if attribute(norm, "training_mode", 0):
            raise ModelError(f"batch norm {norm.name!r} is in training mode: call model.eval() before exporting")
        value = norm.input[0]
        scale, shift = _affine(norm, weights)
        before = _producer(edited.graph, value) if _is_read_once(graph, value) else None
        if before is not None and _absorb(edited.graph, before, weights, scale, shift):
            before.output[0] = norm.output[0]
            edited.graph.node.remove(norm)
        else:
            _replace(edited.graph, norm, weights, scale, shift, rank=len(graph.shapes[value]))
    return finish(edited)


def _affine(node: NodeProto, weights: dict[str, Array]) -> tuple[Array, Array]:
    """The scale and shift of each channel, float64 [C]."""
    gamma, beta, mean, variance = (weights[name].astype(np.float64) for name in node.input[1:5])
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return scale, beta - mean * scale


def _is_read_once(graph: Graph, value: str) -> bool:
    """Folding gives values no new readers, so that those of the graph before it still hold."""
    return len(graph.consumers[value]) == 1 and value not in graph.outputs


def _producer(edited: GraphProto, value: str) -> NodeProto | None:
    """The Conv or Gemm that computes ``value``."""
    return next((node for node in edited.node if value in node.output and node.op_type in {"Conv", "Gemm"}), None)


def _absorb(edited: GraphProto, node: NodeProto, weights: dict[str, Array], scale: Array, shift: Array) -> bool:
    """Fold a scale and a shift into a Conv or Gemm; False where it does not compute a plain ``W x + b``."""
    names = [name for name in node.input[1:] if name]
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1
    if not plain or any(name not in weights for name in names):
        return False
    weight = weights[names[0]].astype(np.float64)
    outputs_last = node.op_type == "Gemm" and not attribute(node, "transB", 0)
    by = scale if outputs_last else scale.reshape(-1, *[1] * (weight.ndim - 1))
    bias = weights[names[1]] * scale if len(names) > 1 else 0.0
    del node.input[1:]
    name = f"{names[0]}.{node.output[0]}"
    node.input.append(_add_constant(edited, weights, name, weight * by))
    node.input.append(_add_constant(edited, weights, f"{name}.bias", (bias + shift).reshape(-1)))
    return True


def _replace(
    edited: GraphProto, node: NodeProto, weights: dict[str, Array], scale: Array, shift: Array, rank: int
) -> None:
    """Put a Mul and an Add in the place of a batch norm of values with ``rank`` axes."""
    per_channel = [-1] + [1] * (rank - 2)
    output = node.output[0]
    scaled, by, plus = f"{output}_scaled", f"{output}_scale", f"{output}_shift"
    _add_constant(edited, weights, by, scale.reshape(per_channel))
    _add_constant(edited, weights, plus, shift.reshape(per_channel))
    place = list(edited.node).index(node)
    edited.node.remove(node)
    edited.node.insert(place, helper.make_node("Mul", [node.input[0], by], [scaled], name=scaled))
    edited.node.insert(place + 1, helper.make_node("Add", [scaled, plus], [output], name=f"{output}_shifted"))


def _add_constant(edited: GraphProto, weights: dict[str, Array], name: str, value: Array) -> str:
    weights[name] = value.astype(np.float32)
    edited.initializer.append(numpy_helper.from_array(weights[name], name))
    return name
