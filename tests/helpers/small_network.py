"""A small convolutional network as an exported graph: two convolutions, a gated depthwise one and a Gemm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reid_edge.card import ModelCard
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.session import embed_graph

Array = NDArray[Any]
FP32 = TensorProto.FLOAT
SIDE = 16
DIM = 8
STD = 100.0
CARD = ModelCard(
    "tiny",
    DIM,
    (SIDE, SIDE),
    mean=(0.0, 0.0, 0.0),
    std=(STD / 255,) * 3,
    weights_sha256="5e" * 32,  # of no checkpoint
)


def model_of(nodes: list[onnx.NodeProto], weights: Mapping[str, Any], dim: int = DIM) -> Graph:
    """A graph like an exported one: uint8 ``images`` become ``normal`` for ``nodes``; their ``feature`` gets norm 1."""
    before = [
        helper.make_node("Cast", ["images"], ["float"], name="cast", to=FP32),
        helper.make_node("Transpose", ["float"], ["nchw"], name="transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["nchw", "std"], ["normal"], name="normalise"),
    ]
    after = [
        helper.make_node("ReduceL2", ["feature", "axis"], ["norm"], name="norm"),
        helper.make_node("Div", ["feature", "norm"], ["embeddings"], name="unit"),
    ]
    floats = {"std": np.float32(STD), **weights}
    integers = {"area": np.array([2, 3]), "axis": np.array([1])}
    graph = helper.make_graph(
        [*before, *nodes, *after],
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("embeddings", FP32, ["N", dim])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in floats.items()]
        + [numpy_helper.from_array(value, name) for name, value in integers.items()],
    )
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def random_weights() -> dict[str, Array]:
    """Weights of `network`, by name."""
    rng = np.random.default_rng(0)
    return {
        "model.backbone.conv1.weight": rng.standard_normal((4, 3, 3, 3)) / 3,
        "model.backbone.conv1.bias": rng.standard_normal(4),
        "model.backbone.block.0.gate.fc.weight": rng.standard_normal((4, 4, 1, 1)),
        "model.backbone.block.0.depthwise.weight": rng.standard_normal((4, 1, 3, 3)),
        "model.backbone.block.1.conv.weight": rng.standard_normal((6, 4, 1, 1)),
        "model.fc.0.weight": rng.standard_normal((DIM, 6)),
        "model.fc.0.bias": rng.standard_normal(DIM),
    }


def network(weights: Mapping[str, Array]) -> Graph:
    """A convolution, a gated depthwise one, a 1x1, a global mean and a Gemm."""
    w = {name.removeprefix("model.").removesuffix(".weight"): name for name in weights}
    nodes = [
        helper.make_node("Conv", ["normal", w["backbone.conv1"], "model.backbone.conv1.bias"], ["map1"], name="c1"),
        helper.make_node("Relu", ["map1"], ["relu1"], name="r1"),
        helper.make_node("ReduceMean", ["relu1", "area"], ["squeezed"], name="m1"),
        helper.make_node("Conv", ["squeezed", w["backbone.block.0.gate.fc"]], ["excited"], name="c2"),
        helper.make_node("Sigmoid", ["excited"], ["gate"], name="s2"),
        helper.make_node("Conv", ["relu1", w["backbone.block.0.depthwise"]], ["map2"], name="c3", group=4),
        helper.make_node("Mul", ["map2", "gate"], ["gated"], name="m2"),
        helper.make_node("Conv", ["gated", w["backbone.block.1.conv"]], ["map3"], name="c4"),
        helper.make_node("Relu", ["map3"], ["relu3"], name="r3"),
        helper.make_node("ReduceMean", ["relu3", "area"], ["vector"], name="m3", keepdims=0),
        helper.make_node("Gemm", ["vector", w["fc.0"], "model.fc.0.bias"], ["feature"], name="g", transB=1),
    ]
    return model_of(nodes, weights)


def images_of(count: int = 6, seed: int = 1, low: int = 0, high: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(low, high, (count, SIDE, SIDE, 3), dtype=np.uint8)


def run(graph: Graph, images: Array) -> Array:
    onnx.checker.check_model(graph.model, full_check=True)
    return embed_graph(graph, images, threads=1)
