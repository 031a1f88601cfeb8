"""A rewrite of a graph in the making: nodes in the places of others, and new constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from reid_edge.export.graph.graph import Graph, finish, set_nodes

__all__ = ["Array", "Draft", "node"]

Array = NDArray[Any]


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    """A node with one output, which names it."""
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


class Draft:
    """What to change of ``graph``; `done` gives the rewritten one."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._constants: dict[str, Array] = {}
        self._places: dict[str, list[NodeProto]] = {}
        self._dropped: set[str] = set()

    def constant(self, name: str, value: Any) -> str:
        """A new constant; floats become float32."""
        array = np.asarray(value)
        self._constants[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return name

    def weight(self, conv: NodeProto) -> Array:
        """The weights of a convolution, float64 [out, in, h, w]."""
        return self.graph.constants[conv.input[1]].astype(np.float64)

    def bias(self, conv: NodeProto) -> Array:
        """Its bias, or zeros: float64 [out]."""
        if len(conv.input) > 2:
            return self.graph.constants[conv.input[2]].astype(np.float64)
        return np.zeros(len(self.weight(conv)))

    def replace(self, old: list[NodeProto], new: list[NodeProto]) -> None:
        """Put the ``new`` nodes where the last of the ``old`` ones is, and take those out."""
        self._dropped.update(each.output[0] for each in old)
        self._places[old[-1].output[0]] = new

    def done(self) -> Graph:
        """The graph with all replacements."""
        edited = self.graph.copy()
        nodes: list[NodeProto] = []
        for each in edited.graph.node:
            nodes.extend(self._places.get(each.output[0], [] if each.output[0] in self._dropped else [each]))
        set_nodes(edited, nodes)
        edited.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in self._constants.items())
        return finish(edited)
