"""What a graph computes and moves: multiply-accumulates and bytes by type, of each layer that runs as one kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from reid_edge.errors import ModelError

from .fusion import FusedLayer, fused_layers
from .graph import Graph
from .macs import node_macs

__all__ = ["GraphCost", "LayerCost", "bytes_by_type", "graph_cost", "layer_costs", "macs_by_type"]

_SHORT = {"float32": "fp32", "float16": "fp16", "float64": "fp64"}
_WEIGHT_ENDS = (".weight.fp16", ".weight.int8", ".weight")


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs for a whole batch: ``macs`` multiply-accumulates, and bytes by the type that is stored.

    ``weights`` are read once for the batch; ``reads`` and ``writes`` are activations. ``precision`` is the type that
    the layer multiplies in, or stores, where it has no product: "fp32", "fp16" or "int8". ``name`` is that of the
    module in PyTorch where the layer has its weights, else that of the last such layer and the operators.
    """

    name: str
    operators: tuple[str, ...]
    precision: str
    macs: int
    weights: Mapping[str, int]
    reads: Mapping[str, int]
    writes: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """All bytes that are moved."""
        return sum(sum(part.values()) for part in (self.weights, self.reads, self.writes))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: all of the above."""
        return {**asdict(self), "operators": list(self.operators), "bytes": self.bytes}


@dataclass(frozen=True)
class GraphCost:
    """What one crop costs: ``layers`` that run as one kernel each, multiply-accumulates, and bytes that are moved."""

    layers: int
    macs: int
    bytes: int


def graph_cost(graph: Graph) -> GraphCost | None:
    """The sums of `layer_costs` for one crop; None for a graph whose shapes are not known."""
    try:
        layers = layer_costs(graph)
    except ModelError:
        return None
    return GraphCost(len(layers), sum(layer.macs for layer in layers), sum(layer.bytes for layer in layers))


def layer_costs(graph: Graph, batch: int = 1) -> list[LayerCost]:
    """The cost of each layer of a ``graph`` (`fusion.fused_layers`) for ``batch`` crops, in the order of running.

    Raises ModelError for a graph whose shapes are not known.

    >>> nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    >>> ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name, n in (("x", 3), ("y", 5))]
    >>> weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 5], [0.0] * 15)
    >>> model = helper.make_model(helper.make_graph(nodes, "one", ends[:1], ends[1:], [weight]))
    >>> (layer,) = layer_costs(Graph(model), batch=2)
    >>> layer.operators, layer.macs, layer.weights, layer.reads, layer.writes
    (('MatMul', 'Relu'), 30, {'fp32': 60}, {'fp32': 24}, {'fp32': 40})
    """
    macs = node_macs(graph)
    module = ""
    found = []
    for layer in fused_layers(graph):
        operators = "+".join(dict.fromkeys(node.op_type for node in layer.nodes))
        name = _module(layer) or ", then ".join(filter(None, (module, operators)))
        module = _module(layer) or module
        found.append(_cost(graph, layer, name, macs, batch))
    return found


def macs_by_type(layers: Iterable[LayerCost]) -> dict[str, int]:
    """The multiply-accumulates of ``layers`` by the type that they are computed in."""
    found: Counter[str] = Counter()
    for layer in layers:
        found[layer.precision] += layer.macs
    return {kind: count for kind, count in found.items() if count}


def bytes_by_type(layers: Iterable[LayerCost]) -> dict[str, int]:
    """The bytes that ``layers`` move, weights and activations, by the type that they are stored in."""
    found: Counter[str] = Counter()
    for layer in layers:
        for part in (layer.weights, layer.reads, layer.writes):
            found.update(part)
    return dict(found)


def _cost(graph: Graph, layer: FusedLayer, name: str, macs: Mapping[str, int], batch: int) -> LayerCost:
    return LayerCost(
        name=name,
        operators=tuple(node.op_type for node in layer.nodes),
        precision=_precision(graph, layer, macs),
        macs=batch * sum(macs.get(node.output[0], 0) for node in layer.nodes),
        weights=_bytes(graph, layer.weights, 1),
        reads=_bytes(graph, layer.reads, batch),
        writes=_bytes(graph, layer.writes, batch),
    )


def _bytes(graph: Graph, values: Mapping[str, int], batch: int) -> dict[str, int]:
    found: Counter[str] = Counter()
    for value, elements in values.items():
        kind = _kind(graph, value)
        found[_SHORT.get(kind.name, kind.name)] += batch * elements * kind.itemsize
    return dict(found)


def _precision(graph: Graph, layer: FusedLayer, macs: Mapping[str, int]) -> str:
    """The type of what the products of the layer read, or of what it writes; integers of 8 bits count as "int8"."""
    multiplies = any(node.output[0] in macs for node in layer.nodes)
    values = layer.weights if multiplies and layer.weights else layer.writes
    kind = _kind(graph, max(values, key=lambda value: values[value])).name if values else "float32"
    return "int8" if kind in {"int8", "uint8"} else _SHORT.get(kind, kind)


def _kind(graph: Graph, value: str) -> np.dtype[Any]:
    if value in graph.constants:
        return graph.constants[value].dtype
    return np.dtype(helper.tensor_dtype_to_np_dtype(graph.types.get(value, TensorProto.FLOAT)))


def _module(layer: FusedLayer) -> str:
    """The module whose weights the layer reads; empty where there is none."""
    for value in layer.weights:
        for end in _WEIGHT_ENDS:
            if value.endswith(end):
                return value.removeprefix("model.").removesuffix(end)
    return ""
