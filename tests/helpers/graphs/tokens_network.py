"""A small transformer as an exported graph: patches, a layer norm of single operators, attention, one token."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from helpers.small_network import model_of
from reid_edge.export.graph.graph import Graph

__all__ = ["BODY", "SQUARES", "tokens_network", "tokens_weights"]

BODY = set("map rows tokens centre centred normed mixed q k v turned scores shares seen hidden".split())
"""What FP16 stores, beside the feature where it is a token."""

SQUARES = {"squares", "variance", "above", "deviation"}


def tokens_weights(seed: int = 0) -> dict[str, NDArray[Any]]:
    """Weights of `tokens_network`, by name."""
    rng = np.random.default_rng(seed)
    return {
        "model.patch.weight": rng.standard_normal((8, 3, 4, 4)) / 4,
        "model.qkv.weight": rng.standard_normal((8, 12)) / 3,
        "model.mlp.weight": rng.standard_normal((4, 8)),
        "two": np.array(2.0),
        "eps": np.array(1e-6),
    }


def tokens_network(weights: dict[str, NDArray[Any]], pool: bool = False) -> Graph:
    """Its feature is the first token or, with ``pool``, the mean of all. The batch of a reshape is computed."""
    nodes = [
        helper.make_node("Conv", ["normal", "model.patch.weight"], ["map"], "patch", strides=[4, 4]),
        helper.make_node("Shape", ["map"], ["sizes"], "sizes", end=1),
        helper.make_node("Concat", ["sizes", "rest"], ["target"], "target", axis=0),
        helper.make_node("Reshape", ["map", "target"], ["rows"], "rows"),
        helper.make_node("Transpose", ["rows"], ["tokens"], "tokens", perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["tokens", "last"], ["centre"], "centre"),
        helper.make_node("Sub", ["tokens", "centre"], ["centred"], "centred"),
        helper.make_node("Pow", ["centred", "two"], ["squares"], "squares"),
        helper.make_node("ReduceMean", ["squares", "last"], ["variance"], "variance"),
        helper.make_node("Add", ["variance", "eps"], ["above"], "above"),
        helper.make_node("Sqrt", ["above"], ["deviation"], "deviation"),
        helper.make_node("Div", ["centred", "deviation"], ["normed"], "normed"),
        helper.make_node("MatMul", ["normed", "model.qkv.weight"], ["mixed"], "mixed"),
        helper.make_node("Split", ["mixed"], ["q", "k", "v"], "split", axis=2, num_outputs=3),
        helper.make_node("Transpose", ["k"], ["turned"], "turned", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "turned"], ["scores"], "scores"),
        helper.make_node("Softmax", ["scores"], ["shares"], "shares"),
        helper.make_node("MatMul", ["shares", "v"], ["seen"], "seen"),
        helper.make_node("MatMul", ["seen", "model.mlp.weight"], ["hidden"], "hidden"),
        helper.make_node("ReduceMean", ["hidden", "axis"], ["feature"], "pool", keepdims=0)
        if pool
        else helper.make_node("Gather", ["hidden", "first"], ["feature"], "token", axis=1),
    ]
    for node in nodes:
        node.name = f"node_{node.name}"  # a pass names casts by the values they give
    graph = model_of(nodes, weights).model
    for name, value in {"rest": [8, 16], "last": [-1], "first": 0}.items():
        graph.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    return Graph(graph)
