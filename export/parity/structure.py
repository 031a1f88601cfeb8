"""A file without its rounding must be the FP32 model, to FP32's limits.

INT8's limits are wide because rounding moves embeddings; a mirrored input or a lost bias can hide behind them. So Q/DQ
pairs and casts are taken out, the float weights are put back, and what is left is judged as FP32. What the file stores
must be these weights to half a quantisation step. The wide limits then judge rounding alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from reid_edge.card import ModelCard
from reid_edge.engines.base import as_input
from reid_edge.errors import GateError
from reid_edge.export.graph.graph import LAYER_TYPES, Array, Graph, attribute, finish, output_axis, set_nodes
from reid_edge.export.graph.session import embed_graph

from .compare import Embeddings, compare
from .gate import require_close
from .limits import Thresholds

__all__ = ["check_structure", "check_weights", "largest_correction", "unrounded"]

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16}
_CORRECTED = ".corrected"
_SUFFIXES = (".int8", "_quantized", ".fp16", _CORRECTED)
"""What `int8.qdq`, ONNX Runtime's quantiser, `graph.fp16` and `int8.bias` add to the name of a constant they change."""

_CROPS = 64
"""A wrong structure shows on any crop: these are spread over those that the file is compared on."""

_HALF_STEP = 0.505
_LEVELS = 127
_SMALLEST_STEP = 1e-4
"""Of a layer's largest weight: ONNX Runtime widens the steps of channels near zero, so that their int32 bias fits."""


def check_structure(
    graph: Graph,
    card: ModelCard,
    floats: Mapping[str, Array],
    reference: Embeddings,
    crops: NDArray[np.uint8],
    limits: Thresholds,
) -> None:
    """Hold an FP16 or INT8 ``graph`` without its rounding to the ``limits`` of FP32, and its weights to half a step.

    ``floats`` are the constants of the FP32 graph by name, ``reference`` float32 [N, D] are the embeddings of ``crops``
    uint8 [N, H, W, 3]. The two halves of each Q/DQ pair must agree. Raises GateError.
    """
    spread = np.unique(np.linspace(0, len(crops) - 1, _CROPS).astype(int))
    check_weights(graph, floats)
    _check_pairs(graph)
    name = f"{graph.precision} without its rounding"
    exact = unrounded(graph, floats)
    try:
        found = embed_graph(exact, as_input(crops[spread], card))
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise GateError(f"{name} does not run ({' '.join(str(error).split())[:200]}): export it again") from None
    require_close(compare(reference[spread], found, tie=limits.tie), limits, name, len(spread))


def unrounded(graph: Graph, floats: Mapping[str, Array]) -> Graph:
    """An FP16 or INT8 ``graph`` without Q/DQ pairs and casts between floats, with the constants of the FP32 graph.

    A pair whose least integer is its zero point lets nothing negative through: ONNX Runtime's quantiser drops the Relu
    before it, which is put back. Raises GateError for a constant that ``floats`` lacks.
    """
    edited = graph.copy()
    exact = {name: _float_name(name, floats) for name in _rounded_constants(graph)}  # what each value is, unrounded
    edited.graph.initializer.extend(numpy_helper.from_array(floats[name], name) for name in set(exact.values()))
    nodes: list[NodeProto] = []
    for node in edited.graph.node:
        is_rounding = node.op_type in {"QuantizeLinear", "DequantizeLinear"} or _is_float_cast(node, graph)
        for place, value in enumerate(node.input):
            node.input[place] = exact.get(value, value)
        if not is_rounding:
            nodes.append(node)
        elif node.op_type == "QuantizeLinear" and _drops_negatives(node, graph):
            nodes.append(helper.make_node("Relu", [node.input[0]], [node.output[0]], name=node.name))
        else:
            exact[node.output[0]] = node.input[0]
    nodes += [helper.make_node("Identity", [exact[name]], [name], name=name) for name in graph.outputs if name in exact]
    set_nodes(edited, nodes)
    return finish(edited)


def check_weights(graph: Graph, floats: Mapping[str, Array]) -> None:
    """Raise GateError, naming the layer, unless an FP16 or INT8 ``graph`` stores the ``floats`` to half a step.

    A step of a layer's int8 weights is a 127th of the largest of their output channel; one of FP16 is its last bit.
    """
    for name in _rounded_constants(graph):
        float_name = _float_name(name, floats)
        layer = float_name.removeprefix("model.").removesuffix(".weight")
        if graph.constants[name].shape != floats[float_name].shape:
            raise GateError(f"{graph.precision} weights of {layer} have another shape than the model's: {_REMEDY}")
        with np.errstate(invalid="ignore"):  # infinite weights are no number of steps away
            for value, step in _values(graph, name, floats[float_name]):
                off = float((np.abs(value - floats[float_name].astype(np.float64)) / step).max(initial=0))
                if not off <= _HALF_STEP:
                    found = f"{off:.3g} steps of rounding from the model's (at most 0.5)"
                    raise GateError(f"{graph.precision} weights of {layer} are {found}: {_REMEDY}")


def _check_pairs(graph: Graph) -> None:
    """Raise GateError unless activations are dequantised with the scale and zero point that they are quantised with.

    A pair that does not agree with itself scales or shifts what goes through it, which taking it out would hide.
    """
    for after in (node for node in graph.nodes if node.op_type == "DequantizeLinear"):
        before = graph.producers.get(after.input[0])
        if before is None or before.op_type != "QuantizeLinear":
            continue
        for what, ours, theirs in (
            ("scale", before.input[1], after.input[1]),
            ("zero point", _zero_point(before), _zero_point(after)),
        ):
            if not np.array_equal(_constant(graph, ours), _constant(graph, theirs)):
                raise GateError(f"the Q/DQ pair around {before.input[0]!r} has one {what} and another: {_REMEDY}")


_REMEDY = "export the file again, or name the model that it was exported from"


def _rounded_constants(graph: Graph) -> list[str]:
    """The constants that are stored in FP16, read through a DequantizeLinear, or biases that hold a correction."""
    read = {node.input[0] for node in graph.nodes if node.op_type == "DequantizeLinear"}
    return [
        name
        for name, array in graph.constants.items()
        if name in read or array.dtype == np.float16 or name.endswith(_CORRECTED)
    ]


def _float_name(name: str, floats: Mapping[str, Array]) -> str:
    """The name that a rounded constant has in the FP32 graph.

    ONNX Runtime's quantiser copies a bias for each further layer that reads it, and numbers the copies.
    """
    for suffix in (suffix for suffix in _SUFFIXES if name.endswith(suffix)):
        bare = name.removesuffix(suffix)
        for known in (bare, bare.rstrip("0123456789")):
            if known in floats:
                return known
    raise GateError(f"the reference has no weights {name!r}: give the fp32 .onnx that this file was made with")


def _values(graph: Graph, name: str, exact: Array) -> Iterator[tuple[Array, Array]]:
    """What each reader of a rounded constant gets, float64, and the step that it may be rounded to."""
    array = graph.constants[name]
    if name.endswith(_CORRECTED):
        for node in graph.consumers[name]:
            yield array.astype(np.float64), largest_correction(node, graph) / _HALF_STEP
        return
    if array.dtype == np.float16:
        yield array.astype(np.float64), np.maximum(np.abs(exact) * 2.0**-10, 2.0**-24)
        return
    for pair in (node for node in graph.consumers[name] if node.op_type == "DequantizeLinear"):
        scale, zero = (_constant(graph, part).astype(np.float64) for part in (pair.input[1], _zero_point(pair)))
        if scale.ndim:
            others = [axis for axis in range(array.ndim) if axis != attribute(pair, "axis", 1) % array.ndim]
            scale, zero = np.expand_dims(scale, others), np.expand_dims(zero, others)
        value = (array - zero) * scale
        for reader in graph.consumers.get(pair.output[0], []):
            is_weight = reader.op_type in LAYER_TYPES and reader.input[1] == pair.output[0]
            yield value, _channel_steps(reader, exact) if is_weight else scale


def largest_correction(node: NodeProto, graph: Graph) -> Array:
    """What the bias of an INT8 layer may be corrected by, float64 [C].

    Six standard deviations of the rounding of one output: steps are rounded evenly, over a twelfth of their square, and
    inputs are taken to have a third of their activation range as root mean square. A mean error is far smaller than
    this unless weights or ranges are not the layer's.
    """
    pairs = [graph.producers.get(value) for value in node.input[:2]]
    if not all(pair and pair.op_type == "DequantizeLinear" for pair in pairs):
        raise GateError(f"the bias of {node.name!r} is corrected and the layer is not in INT8: {_REMEDY}")
    step, steps = (_constant(graph, pair.input[1]).astype(np.float64) for pair in pairs if pair)
    stored = _constant(graph, pairs[1].input[0]).astype(np.float64)  # type: ignore[union-attr]
    channels = 1 if node.op_type == "Gemm" and not attribute(node, "transB", 0) else 0
    stored = np.moveaxis(stored, channels, 0).reshape(stored.shape[channels], -1)  # [C, inputs]
    noise = (stored**2).sum(axis=1) + stored.shape[1] * (_LEVELS / 3) ** 2
    largest: Array = 6 * step * steps * np.sqrt(noise / 12)
    return largest


def _channel_steps(node: NodeProto, weights: Array) -> Array:
    """The step of each output channel of a layer, a 127th of its largest weight."""
    channel = output_axis(node)
    largest = np.abs(weights).max(axis=tuple(i for i in range(weights.ndim) if i != channel), keepdims=True)
    smallest = _SMALLEST_STEP * float(largest.max()) + float(np.finfo(np.float32).tiny)
    steps: Array = np.maximum(largest.astype(np.float64) / _LEVELS, smallest)
    return steps


def _is_float_cast(node: NodeProto, graph: Graph) -> bool:
    return node.op_type == "Cast" and attribute(node, "to", 0) in _FLOATS and graph.types.get(node.input[0]) in _FLOATS


def _drops_negatives(node: NodeProto, graph: Graph) -> bool:
    """Whether the zero point of a QuantizeLinear is its least integer."""
    zero = _constant(graph, _zero_point(node))
    return bool(zero.ndim == 0 and zero == np.iinfo(zero.dtype).min)


def _zero_point(node: NodeProto) -> str:
    """The constant that holds it, empty where a pair has none."""
    return node.input[2] if len(node.input) > 2 else ""


def _constant(graph: Graph, name: str) -> Array:
    if not name:
        return np.zeros((), np.uint8)  # what a pair without zero point has
    if name not in graph.constants:
        raise GateError(f"{name!r} of a Q/DQ pair is not a constant: export the file again")
    return graph.constants[name]
