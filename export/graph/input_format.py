"""A graph of ours for programs that bring their own preprocessing: float32 NCHW in, instead of uint8 NHWC."""

from __future__ import annotations

from onnx import ModelProto, TensorProto, helper

from reid_edge.card import ModelCard
from reid_edge.errors import ModelError

from .graph import consumers, tidied

__all__ = ["LAYOUTS", "in_layout"]

LAYOUTS = ("nhwc-uint8", "nchw-float")
"""What ``images`` may be: uint8 [N, H, W, 3], or float32 [N, 3, H, W]; RGB on the 0..255 scale, either way."""


def in_layout(model: ModelProto, card: ModelCard, layout: str) -> tuple[ModelProto, ModelCard]:
    """The graph with ``images`` as float32 [N, 3, H, W], 0..255 RGB, where ``layout`` says so; it still normalises.

    Raises ModelError for a graph that does not begin with our Cast and Transpose.
    """
    if layout == card.layout:
        return model, card
    changed = tidied(model)
    graph = changed.graph
    cast, transpose = (graph.node[i] if len(graph.node) > i else None for i in (0, 1))
    if cast is None or transpose is None or (cast.op_type, transpose.op_type) != ("Cast", "Transpose"):
        raise ModelError("this graph does not begin as ours do, with Cast and Transpose: give the file of an export")
    for reader in consumers(graph)[transpose.output[0]]:
        for place, value in enumerate(reader.input):
            if value == transpose.output[0]:
                reader.input[place] = "images"
    del graph.node[:2]
    height, width = card.input_hw
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, height, width]))
    return changed, card.with_(layout=layout)
