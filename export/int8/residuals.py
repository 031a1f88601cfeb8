"""Residual adds: where INT8 may round the skip input, so that a builder makes one integer kernel of Conv, Add and Relu.

::

    x ----- Q, DQ ---------------------+            the pair that the block's first convolution reads too
    x - Q, DQ - Conv - ... - Conv --- Add - Relu - Q, DQ - ...        nothing between the last Conv and its Add

An Add with a float input has a float output, and the Q after it cannot move into the kernel. NVIDIA's two toolkits
place the pair alike. TensorFlow 2's (``ResNetV1QDQCase``; docs.nvidia.com/deeplearning/tensorrt, *Add Custom QDQ
Insertion Case*) rounds every input of an Add but one that a convolution writes and nothing else reads. Model
Optimizer's (``build_non_residual_input_map`` in ``modelopt/onnx/quantization/graph_utils.py``) leaves the input with
the longer way from the common ancestor in float, where convolutions write both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reid_edge.errors import ModelError
from reid_edge.export.graph.graph import Graph

from .layers import quantized_values

__all__ = ["ResidualAdd", "layers_before_adds", "measured_values", "ranges_of_skips", "residual_adds"]


@dataclass(frozen=True)
class ResidualAdd:
    """An Add of the output of ``layer``, a convolution, and of the value ``skip``; ``output`` is what it writes."""

    layer: str
    skip: str
    output: str


def residual_adds(graph: Graph) -> list[ResidualAdd]:
    """The adds of an FP32 ``graph`` that a convolution before them can take in, in the graph's order.

    Sums of what no convolution writes, as of OSNet's gated streams, are none, nor are biases. Of two convolutions it is
    the one with the longer way from the input.
    """
    layer_of = {
        node.output[0]: name for name, nodes in graph.layers.items() for node in nodes if node.op_type == "Conv"
    }
    depths = _depths(graph)
    found = []
    for node in graph.nodes:
        if node.op_type != "Add" or not all(value in graph.producers for value in node.input):
            continue
        fusible = [value for value in node.input if value in layer_of and _read_once(graph, value)]
        if fusible:
            main = max(fusible, key=lambda value: depths[value])
            skip = next(value for value in node.input if value != main)
            found.append(ResidualAdd(layer_of[main], skip, node.output[0]))
    return found


def layers_before_adds(graph: Graph, kept: Collection[str]) -> frozenset[str]:
    """The layers whose adds gain from a rounded skip input when those of ``kept`` stay in float: the ones in INT8."""
    return frozenset(add.layer for add in residual_adds(graph) if add.layer not in kept)


def measured_values(graph: Graph) -> list[str]:
    """All values that INT8 may round, the inputs of layers and then those of residual adds: what is calibrated."""
    return list(dict.fromkeys([*quantized_values(graph), *(add.skip for add in residual_adds(graph))]))


def ranges_of_skips(graph: Graph, by_layer: object, known: Mapping[str, float]) -> dict[str, float]:
    """The activation ranges of skip inputs by value, from those on a card: by the layer before the add, one a call.

    Raises ModelError unless they fit the residual adds of the ``graph``, and the ranges ``known`` of the same values.
    """
    adds: dict[str, list[ResidualAdd]] = {}
    for add in residual_adds(graph):
        adds.setdefault(add.layer, []).append(add)
    found = dict(known)
    for layer, ranges in by_layer.items() if isinstance(by_layer, dict) else ():
        own = adds.get(layer, [])
        fits = isinstance(ranges, list) and len(ranges) == len(own) > 0
        pairs = list(zip(own, ranges, strict=True)) if fits else []
        if not fits or any(found.setdefault(add.skip, float(value)) != float(value) for add, value in pairs):
            raise ModelError(
                f"the activation ranges on this model's card do not fit the residual add after {str(layer)[:100]}: "
                "add --calibrate (calibrate=)"
            )
    return found


def _read_once(graph: Graph, value: str) -> bool:
    return len(graph.consumers.get(value, ())) == 1 and value not in graph.outputs


def _depths(graph: Graph) -> dict[str, int]:
    """The longest way to each value, in nodes from the graph's input."""
    depths: dict[str, int] = {}
    for node in graph.nodes:
        depth = 1 + max((depths.get(value, 0) for value in node.input), default=0)
        depths.update(dict.fromkeys(node.output, depth))
    return depths
