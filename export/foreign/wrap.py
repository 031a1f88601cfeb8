"""A foreign graph to one of reid-edge's: uint8 crops in, preprocessing inside, embeddings of norm 1 out.

::

    images uint8 [N, H, W, 3] RGB -> Cast, Transpose, - mean, / std, channel order -> the foreign graph -> L2 norm
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from reid_edge.errors import ModelError
from reid_edge.export.graph.fold import fold_batch_norms
from reid_edge.export.graph.graph import Graph

from .plain import Plain
from .preprocessing import Preprocessing

__all__ = ["ends_in_norm", "wrapped"]

_NORMS = {"Div", "LpNormalization", "Mul"}
_PASSES = {"Flatten", "Reshape", "Squeeze"}


def ends_in_norm(plain: Plain) -> bool:
    """Whether the last operator may be an L2 norm; that it is one shows in the norms of what it gives."""
    makers = {name: node for node in plain.nodes for name in node.output}
    node = makers[plain.output]
    while node.op_type in _PASSES and node.input[0] in makers:
        node = makers[node.input[0]]
    return node.op_type in _NORMS


def wrapped(
    plain: Plain, preprocessing: Preprocessing, size: tuple[int, int], dim: int, *, flat: bool, normalised: bool
) -> Graph:
    """The graph of an exported file, for crops of ``size`` and embeddings of ``dim`` numbers.

    ``flat`` says that the foreign graph gives [N, D], else axes of length 1 are taken off; ``normalised`` that it ends
    in an L2 norm, which is not repeated. Batch norms are folded. Raises ModelError for one that cannot be.
    """
    constants: dict[str, Any] = dict(plain.constants)
    before, pixels = _before(preprocessing, constants)
    after = _after(plain.output, constants, flat=flat, normalised=normalised)
    for node in plain.nodes:
        node.input[:] = [pixels if name == plain.images else name for name in node.input]
    if not after:
        _call_output(plain)
    height, width = size
    graph = helper.make_graph(
        [*before, *plain.nodes, *after],
        "reid_edge",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", height, width, 3])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", dim])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    made = Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", plain.opset)])).tidied()
    _check_batch_norms(made)
    return fold_batch_norms(made)


def _before(preprocessing: Preprocessing, constants: dict[str, Any]) -> tuple[list[NodeProto], str]:
    """Preprocessing, and the value that the foreign graph reads; a mean of 0 and a std of 1 need no operator."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], name="node_float", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], name="node_nchw", perm=[0, 3, 1, 2]),
    ]
    on_pixels = {name: np.multiply(value, 255) for name, value in preprocessing.on_the_card().items()}
    if on_pixels["mean"].any():
        constants["mean"] = on_pixels["mean"].astype(np.float32).reshape(1, 3, 1, 1)
        nodes.append(helper.make_node("Sub", ["nchw", "mean"], ["centred"], name="node_centred"))
    if not np.allclose(on_pixels["std"], 1, rtol=1e-9):
        constants["std"] = on_pixels["std"].astype(np.float32).reshape(1, 3, 1, 1)
        nodes.append(helper.make_node("Div", [nodes[-1].output[0], "std"], ["normal"], name="node_normal"))
    if preprocessing.channels == "bgr":
        constants["order"] = np.array([2, 1, 0], np.int64)
        nodes.append(
            helper.make_node("Gather", [nodes[-1].output[0], "order"], ["ordered"], name="node_ordered", axis=1)
        )
    return nodes, nodes[-1].output[0]


def _after(output: str, constants: dict[str, Any], *, flat: bool, normalised: bool) -> list[NodeProto]:
    """What makes [N, D] of norm 1 of the foreign graph's output."""
    nodes = []
    value = output
    if not flat:
        value = "embeddings" if normalised else "flat"
        nodes.append(helper.make_node("Flatten", [output], [value], name="node_flat"))
    if not normalised:
        constants |= {"axis": np.array([1], np.int64), "tiny": np.array(1e-12, np.float32)}
        nodes += [
            helper.make_node("ReduceL2", [value, "axis"], ["norm"], name="node_norm"),
            helper.make_node("Max", ["norm", "tiny"], ["positive"], name="node_positive"),
            helper.make_node("Div", [value, "positive"], ["embeddings"], name="node_embeddings"),
        ]
    return nodes


def _call_output(plain: Plain) -> None:
    """Name the output "embeddings", in the node that gives it and in those that read it too."""
    for node in plain.nodes:
        node.input[:] = ["embeddings" if name == plain.output else name for name in node.input]
        node.output[:] = ["embeddings" if name == plain.output else name for name in node.output]


def _check_batch_norms(graph: Graph) -> None:
    """Raise ModelError for a batch norm that `fold_batch_norms` cannot fold."""
    for node in graph.nodes:
        known = all(name in graph.constants for name in node.input[1:5]) and node.input[0] in graph.shapes
        if node.op_type == "BatchNormalization" and not known:
            raise ModelError(
                f"batch norm {node.name!r} has statistics that are computed: export the model in eval mode"
            )
