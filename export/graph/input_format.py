"""The input format of a graph: float32 NCHW, for programs with their own preprocessing, instead of uint8 NHWC."""

from __future__ import annotations

from onnx import TensorProto, helper

from reid_edge.card import ModelCard
from reid_edge.errors import ModelError

from .graph import Graph, finish

__all__ = ["INPUT_FORMATS", "in_input_format"]

INPUT_FORMATS = ("nhwc-uint8", "nchw-float")
"""What ``images`` may be: uint8 [N, H, W, 3], or float32 [N, 3, H, W]; RGB on the 0..255 scale in both."""


def in_input_format(graph: Graph, card: ModelCard, input_format: str) -> tuple[Graph, ModelCard]:
    """The graph whose ``images`` have the ``input_format``, and its card; normalisation stays in the graph.

    Raises ModelError for a graph that does not begin with the Cast and Transpose of an exported file.
    """
    if input_format == card.input_format:
        return graph, card
    if [node.op_type for node in graph.nodes[:2]] != ["Cast", "Transpose"]:
        raise ModelError("this graph does not begin with Cast and Transpose: give a file that reid-edge export wrote")
    edited = graph.copy()
    planar = edited.graph.node[1].output[0]
    for node in edited.graph.node:
        for place, value in enumerate(node.input):
            if value == planar:
                node.input[place] = "images"
    del edited.graph.node[:2]
    height, width = card.input_hw
    del edited.graph.input[:]
    edited.graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, height, width]))
    return finish(edited), card.with_(input_format=input_format)
