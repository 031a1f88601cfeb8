"""Slices of a rounded value are rounded with it, so that what is sliced is stored once, in int8.

::

    Conv, Relu -> Q, DQ -+-> Slice -> Q, DQ with the same scale -> Conv     rounding again changes nothing
                         +-> Slice -> Concat

Otherwise a builder must write the float value too, for the slice beside the convolution: TensorRT-RTX compiles another
kernel for each. Merged streams (`graph.merge_streams`) are sliced so.
"""

from __future__ import annotations

from onnx import NodeProto, helper

from reid_edge.export.graph.graph import Graph, finish, set_nodes

__all__ = ["slices_after_rounding", "unsliced"]


def unsliced(graph: Graph, value: str) -> str:
    """The value that ``value`` is a slice of; itself if it is none."""
    producer = graph.producers.get(value)
    return unsliced(graph, producer.input[0]) if producer is not None and producer.op_type == "Slice" else value


def slices_after_rounding(graph: Graph) -> Graph:
    """An INT8 ``graph`` in which a Slice reads the Q/DQ pair of its input.

    Where only slices of a value have a pair, the value gets one, with the scale of theirs: `calibrate.ranges_over`
    gives a slice the activation range of the whole.
    """
    edited = graph.copy()
    pairs = {node.input[0]: node for node in graph.nodes if node.op_type == "QuantizeLinear"}
    scales = {unsliced(graph, value): list(node.input[1:]) for value, node in pairs.items()}
    nodes: list[NodeProto] = []
    for node in edited.graph.node:
        if node.op_type == "Slice" and (value := node.input[0]) in scales:
            if value not in pairs:
                pairs[value] = helper.make_node(
                    "QuantizeLinear", [value, *scales[value]], [f"{value}.q"], name=f"{value}.q"
                )
                back = [f"{value}.q", *scales[value]], [f"{value}.dq"]
                nodes += [pairs[value], helper.make_node("DequantizeLinear", *back, name=f"{value}.dq")]
            node.input[0] = f"{value}.dq"
        nodes.append(node)
    set_nodes(edited, nodes)
    return finish(edited)
