"""Layers that run as one kernel, and the bytes that cross their borders: answers by hand for the small network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.small_network import DIM, Array, images_of, model_of, network, random_weights
from onnx import helper

from reid_edge.errors import ModelError
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.fusion import fused_layers
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.traffic import LayerCost, bytes_by_type, layer_costs, macs_by_type
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.qdq import quantized

PIXELS = 16 * 16 * 3
MAP1, MAP2, MAP3 = 14 * 14 * 4, 12 * 12 * 4, 12 * 12 * 6


def _by_name(graph: Graph, batch: int = 1) -> dict[str, LayerCost]:
    return {layer.name: layer for layer in layer_costs(graph, batch)}


def test_pointwise_operators_join_the_layer_before_them() -> None:
    names = [[node.name for node in layer.nodes] for layer in fused_layers(network(random_weights()))]
    assert names == [
        ["transpose", "normalise"],  # the cast of the pixels moves nothing: they are read as bytes
        ["c1", "r1"],
        ["m1"],
        ["c2", "s2"],
        ["c3", "m2"],
        ["c4", "r3"],
        ["m3"],
        ["g"],
        ["norm", "unit"],
    ]


def test_weights_are_read_once_a_batch_and_maps_once_a_crop() -> None:
    layers = _by_name(network(random_weights()), batch=3)
    first = layers["backbone.conv1"]
    assert first.weights == {"fp32": 4 * (4 * 3 * 9 + 4)}  # with the bias
    assert first.reads == {"fp32": 3 * 4 * PIXELS} and first.writes == {"fp32": 3 * 4 * MAP1}
    assert first.macs == 3 * MAP1 * 3 * 9 and first.precision == "fp32"
    assert layers["Transpose+Div"].reads == {"uint8": 3 * PIXELS}
    gated = layers["backbone.block.0.depthwise"]
    assert gated.operators == ("Conv", "Mul") and gated.macs == 3 * 9 * MAP2
    assert gated.reads == {"fp32": 3 * 4 * (MAP1 + 4)} and gated.writes == {"fp32": 3 * 4 * MAP2}
    assert gated.bytes == 4 * 36 + 3 * 4 * (MAP1 + 4 + MAP2)
    assert layers["fc.0, then ReduceL2+Div"].reads == {"fp32": 3 * 4 * DIM}  # once, though two operators read it


def test_fp16_halves_the_maps_of_the_body() -> None:
    graph = fp16_from_fp32(network(random_weights()))
    assert len(fused_layers(graph)) == len(fused_layers(network(random_weights()))) == 9, "casts are no kernels"
    layers = _by_name(graph)
    assert layers["backbone.conv1"].weights == {"fp16": 2 * (4 * 3 * 9 + 4)}
    assert layers["Transpose+Div+Cast"].writes == {"fp16": 2 * PIXELS}, "the layer before writes what the border rounds"
    assert layers["backbone.block.1.conv, then ReduceMean"].reads == {"fp16": 2 * MAP3}
    assert layers["fc.0"].weights == {"fp32": 4 * (DIM * 6 + DIM)}
    assert macs_by_type(layers.values()) == {
        "fp16": MAP1 * 27 + 16 + MAP2 * 9 + MAP3 * 4,
        "fp32": DIM * 6,
    }


def test_int8_reads_integers_and_writes_what_is_read_next() -> None:
    graph = network(random_weights())
    layers = _by_name(quantized(graph, ranges_over(graph, images_of(), "minmax", threads=1)))
    first, depthwise = layers["backbone.conv1"], layers["backbone.block.0.depthwise"]
    assert first.precision == depthwise.precision == "int8"
    assert first.reads == {"int8": PIXELS} and depthwise.reads == {"int8": MAP1, "fp32": 4 * 4}
    assert first.writes == {"int8": MAP1, "fp32": 4 * MAP1}, "the mean of the gate reads it in float"
    assert first.weights == {"int8": 4 * 27, "fp32": 4 * 4}, "a bias stays in float"
    assert set(macs_by_type(layers.values())) == {"int8"}
    assert sum(bytes_by_type(layers.values()).values()) == sum(layer.bytes for layer in layers.values())


def test_a_gate_on_the_map_of_an_earlier_layer_is_a_kernel_of_its_own() -> None:
    """As in squeeze-and-excitation: the convolution before it has one pixel, and the product 256."""
    nodes = [
        _convolution("w1", "normal", "a"),
        helper.make_node("ReduceMean", ["a", "area"], ["mean"], name="mean"),
        _convolution("w2", "mean", "b"),
        helper.make_node("HardSigmoid", ["b"], ["gate"], name="gate"),
        helper.make_node("Mul", ["a", "gate"], ["gated"], name="mul"),
        helper.make_node("ReduceMean", ["gated", "area"], ["feature"], name="last", keepdims=0),
    ]
    weights: dict[str, Array] = {"w1": np.ones((8, 3, 1, 1)), "w2": np.ones((8, 8, 1, 1))}
    layers = fused_layers(model_of(nodes, weights))
    assert [[node.name for node in layer.nodes] for layer in layers[1:]] == [
        ["w1"],
        ["mean"],
        ["w2", "gate"],
        ["mul", "last"],
        ["norm", "unit"],
    ]


def _convolution(name: str, inputs: str, output: str) -> Any:
    return helper.make_node("Conv", [inputs, name], [output], name=name)


def test_a_skip_connection_joins_the_later_layer_and_reads_the_earlier_map() -> None:
    nodes = [
        _convolution("w1", "normal", "a"),
        _convolution("w2", "a", "b"),
        helper.make_node("Add", ["b", "a"], ["sum"], name="add"),
        helper.make_node("ReduceMean", ["sum", "area"], ["feature"], name="mean", keepdims=0),
    ]
    weights: dict[str, Array] = {"w1": np.ones((8, 3, 1, 1)), "w2": np.ones((8, 8, 1, 1))}
    layers = fused_layers(model_of(nodes, weights))
    assert [[node.name for node in layer.nodes] for layer in layers[1:3]] == [["w1"], ["w2", "add"]]
    assert layers[2].reads == {"a": 8 * 256} and layers[2].writes == {"sum": 8 * 256}


def test_slices_and_reshapes_move_nothing_and_a_concatenation_does() -> None:
    bounds = {"two": np.array([2]), "none": np.array([0]), "one": np.array([1])}
    nodes = [
        _convolution("w1", "normal", "a"),
        helper.make_node("Split", ["a"], ["low", "high"], name="split", axis=1, num_outputs=2),
        _convolution("w2", "high", "b"),
        helper.make_node("Concat", ["low", "b"], ["c"], name="concat", axis=1),
        helper.make_node("ReduceMean", ["c", "area"], ["feature"], name="mean", keepdims=0),
    ]
    weights: dict[str, Array] = {"w1": np.ones((8, 3, 1, 1)), "w2": np.ones((4, 4, 1, 1)), **bounds}
    layers = fused_layers(model_of(nodes, weights))
    assert [[node.name for node in layer.nodes] for layer in layers[1:4]] == [["w1"], ["w2"], ["concat"]]
    assert layers[2].reads == {"a": 4 * 256} and layers[3].reads == {"a": 4 * 256, "b": 4 * 256}


def test_unknown_shapes_are_refused() -> None:
    ends = [helper.make_tensor_value_info(name, 1, ["N", "some"]) for name in ("x", "y")]
    node = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(ModelError, match=r"the shape of 'y' is not known: export the model again"):
        fused_layers(Graph(helper.make_model(helper.make_graph([node], "one", ends[:1], ends[1:]))))
