"""A tiny real model, in the form that `reid-edge export` writes, for tests that need one to run.

    images uint8 [N, H, W, 3] -> Cast -> Transpose -> normalise -> mean of each stripe -> MatMul -> L2 norm

It sees the colours of clothing from top to bottom, so it ranks people better than chance, in microseconds.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reid_edge.card import IMAGENET_MEAN, IMAGENET_STD, ModelCard
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx

__all__ = ["tiny_card", "tiny_embeddings", "tiny_model", "write_tiny_model"]


def write_tiny_model(path: Path, **options: Any) -> Path:
    """Write a model of these options (`tiny_model`'s, and fields of its card) to ``path``, as an export does."""
    shape = {name: options.pop(name) for name in ("input_hw", "stripes", "embedding_dim", "seed") if name in options}
    write_onnx(Graph(tiny_model(**shape)), tiny_card(**shape).with_(**options), path)
    return path


def tiny_model(
    *, input_hw: tuple[int, int] = (256, 128), stripes: int = 8, embedding_dim: int | None = None, seed: int = 0
) -> onnx.ModelProto:
    """The model without a card. ``embedding_dim`` adds a random projection from 3 x ``stripes`` features."""
    graph = _graph(input_hw, stripes, embedding_dim or 3 * stripes, projection(stripes, embedding_dim, seed))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tiny_card(
    *, input_hw: tuple[int, int] = (256, 128), stripes: int = 8, embedding_dim: int | None = None, seed: int = 0
) -> ModelCard:
    """The card of `tiny_model`."""
    dim = embedding_dim or 3 * stripes
    weights = hashlib.sha256(f"tiny {dim} {seed}".encode()).hexdigest()
    return ModelCard("tiny", dim, input_hw=input_hw, trained_on="nothing", weights_sha256=weights)


def tiny_embeddings(
    images: NDArray[np.uint8], *, stripes: int = 8, embedding_dim: int | None = None, seed: int = 0
) -> NDArray[np.float64]:
    """What the model must give for uint8 [N, H, W, 3], computed by NumPy: float64 [N, D]."""
    number, height, width, _ = images.shape
    pixels = (images / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    means = pixels.reshape(number, stripes, height // stripes * width, 3).mean(axis=2)  # [N, stripes, 3]
    features = means.transpose(0, 2, 1).reshape(number, -1)
    weights = projection(stripes, embedding_dim, seed)
    features = features if weights is None else features @ weights
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float64)


def projection(stripes: int, embedding_dim: int | None, seed: int) -> NDArray[np.float32] | None:
    """Random weights float32 [3 x stripes, embedding_dim], or None for no projection."""
    if embedding_dim is None:
        return None
    return np.random.default_rng(seed).standard_normal((3 * stripes, embedding_dim)).astype(np.float32)


def _graph(input_hw: tuple[int, int], stripes: int, dim: int, weights: NDArray[np.float32] | None) -> onnx.GraphProto:
    height, width = input_hw
    mean, std = (np.array(x, np.float32).reshape(1, 3, 1, 1) * 255 for x in (IMAGENET_MEAN, IMAGENET_STD))
    constants = {"mean": mean, "std": std, "tiny": np.array(1e-12, np.float32)}
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["nchw", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node(
            "AveragePool",
            ["normal"],
            ["stripes"],
            kernel_shape=[height // stripes, width],
            strides=[height // stripes, 1],
        ),
        helper.make_node("Flatten", ["stripes"], ["features"]),
    ]
    features = "features"
    if weights is not None:
        constants["weights"], features = weights, "projected"
        nodes.append(helper.make_node("MatMul", ["features", "weights"], ["projected"]))
    nodes += [
        helper.make_node("ReduceL2", [features], ["norm"], axes=[1], keepdims=1),
        helper.make_node("Max", ["norm", "tiny"], ["positive"]),
        helper.make_node("Div", [features, "positive"], ["embeddings"]),
    ]
    return helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", height, width, 3])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["N", dim])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
