"""Merged streams: the plain graph beside the merged one, weights by hand, and what is no such block."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from helpers.small_network import network, random_weights
from helpers.streams_network import streams_network
from onnx import ModelProto, NodeProto, helper, numpy_helper

from reid_edge.errors import InputError
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.graph import Array, Graph, finish
from reid_edge.export.graph.macs import node_macs
from reid_edge.export.graph.merge_streams import FORMS, merge_streams
from reid_edge.export.graph.session import embed_graph
from reid_edge.export.graph.streams import stream_blocks
from reid_edge.export.int8.layers import default_keep, depthwise_layers

CROPS = np.random.default_rng(0).integers(0, 256, (6, 64, 32, 3), dtype=np.uint8)
FEW, MANY = 1, 3  # hidden units of a gate, which becomes elementwise or stays two convolutions


def merged(graph: Graph, form: str) -> Graph:
    found = merge_streams(graph, form)
    assert found is not None
    return found


@pytest.mark.parametrize("units", [FEW, 2, MANY])
@pytest.mark.parametrize("form", FORMS)
def test_merged_streams_give_the_same_embeddings(form: str, units: int) -> None:
    plain = streams_network(CROPS, gate_units=units)
    found = merged(plain, form)
    expected = embed_graph(plain, CROPS, threads=1)
    assert np.abs(expected - expected[0]).max() > 0.1  # else nothing is compared
    np.testing.assert_allclose(embed_graph(found, CROPS, threads=1), expected, atol=2e-6)
    assert depthwise_layers(plain) and not depthwise_layers(found)
    assert merge_streams(found, form) is None  # once


def test_a_lite_is_one_dense_convolution_by_hand() -> None:
    """Two channels: the first copies its left neighbour in the second, the second sums a column of 2a + 3b."""
    plain = streams_network(CROPS, gate_units=FEW)
    (block, _) = stream_blocks(plain)
    assert [len(stream.lites) for stream in block.streams] == [1, 2] and block.name == "model.backbone.conv2.0"
    pointwise, depthwise = np.zeros((12, 12, 1, 1), np.float32), np.zeros((12, 1, 3, 3), np.float32)
    pointwise[0, 1], pointwise[1, 0], pointwise[1, 1] = 1, 2, 3
    depthwise[0, 0, 1, 0], depthwise[1, 0, :, 1] = 1, 1
    bias = np.arange(12, dtype=np.float32)
    prefix = "model.backbone.conv2.0.stream2.0"
    named = {f"{prefix}.pointwise.weight": pointwise, f"{prefix}.weight": depthwise, f"{prefix}.bias": bias}
    found = merged(with_constants(plain, named), "gpu").constants
    weights = found["model.backbone.conv2.0.streams.0.weight"]  # [2 streams of 12 channels, 12, 3, 3]
    expected = np.zeros((12, 12, 3, 3), np.float32)
    expected[0, 1, 1, 0] = 1
    expected[1, 0, :, 1], expected[1, 1, :, 1] = 2, 3
    assert np.array_equal(weights[12:], expected)
    assert np.array_equal(found["model.backbone.conv2.0.streams.0.bias"][12:], bias)


def test_forms_differ_in_what_they_read() -> None:
    """Two streams of one and two Lites with 12 channels: the second level has 12 channels of its own."""
    plain = streams_network(CROPS, gate_units=FEW)
    graphs = {form: merged(plain, form) for form in FORMS}
    shapes = {form: graph.constants["model.backbone.conv2.0.streams.1.weight"].shape for form, graph in graphs.items()}
    assert shapes == {"gpu": (12, 12, 3, 3), "gpu-latency": (12, 24, 3, 3)}
    assert not graphs["gpu-latency"].constants["model.backbone.conv2.0.streams.1.weight"][:, :12].any()
    kinds = {form: Counter(node.op_type for node in graph.nodes) for form, graph in graphs.items()}
    assert (kinds["gpu"]["Slice"], kinds["gpu-latency"]["Slice"]) == (4, 2)  # of two blocks
    macs = {form: node_macs(graph)["model.backbone.conv2.0.streams.1"] for form, graph in graphs.items()}
    assert macs == {"gpu": 16 * 8 * 9 * 12 * 12, "gpu-latency": 16 * 8 * 9 * 12 * 24}


def test_layers_keep_meaningful_names() -> None:
    found = merged(streams_network(CROPS, gate_units=MANY), "gpu")
    block = [name for name in found.layers if name.startswith("backbone.conv2.0.")]
    parts = ("conv1", "streams.0", "streams.1", "gate.fc1", "gate.fc2", "conv3")
    assert block == [f"backbone.conv2.0.{part}" for part in parts]
    assert default_keep(found) == {
        f"backbone.{stage}.0.gate.{fc}" for stage in ("conv2", "conv3") for fc in ("fc1", "fc2")
    }


def test_the_fp16_graph_of_merged_streams_agrees() -> None:
    plain = streams_network(CROPS, gate_units=2)
    for form in FORMS:
        found = embed_graph(fp16_from_fp32(merged(plain, form)), CROPS, threads=1)
        np.testing.assert_allclose(found, embed_graph(plain, CROPS, threads=1), atol=5e-3)


def test_gates_that_are_not_shared_stay_apart() -> None:
    plain = streams_network(CROPS, gate_units=FEW)
    for units in (FEW, MANY):
        plain = streams_network(CROPS, gate_units=units)
        edited = plain.copy()
        convs = [node for node in edited.graph.node if node.input[1:2] == ["model.backbone.conv2.0.gate.fc1.weight"]]
        weights = plain.constants[convs[1].input[1]]
        edited.graph.initializer.append(numpy_helper.from_array(-weights, "other.weight"))
        convs[1].input[1] = "other.weight"
        own = finish(edited)
        expected = embed_graph(own, CROPS, threads=1)
        assert np.abs(expected - embed_graph(plain, CROPS, threads=1)).max() > 1e-3
        np.testing.assert_allclose(embed_graph(merged(own, "gpu"), CROPS, threads=1), expected, atol=2e-6)


def test_a_graph_without_streams_is_refused_politely() -> None:
    assert merge_streams(network(random_weights()), "gpu") is None
    assert merge_streams(streams_network(CROPS), "gpu") is None  # depthwise convolutions alone
    with pytest.raises(InputError, match="form 'gpus' is unknown: give one of gpu, gpu-latency; did you mean gpu"):
        merge_streams(network(random_weights()), "gpus")


BLOCK = "model.backbone.conv2.0"


def biased(edited: ModelProto) -> None:
    """A 1x1 convolution of a Lite with a bias, which its depthwise convolution does not see beyond the border."""
    conv = reader(edited, f"{BLOCK}.stream2.1.pointwise.weight")
    conv.input.append(constant(edited, "bias", np.ones(12, np.float32)))


def padded_unevenly(edited: ModelProto) -> None:
    pads = next(one for one in reader(edited, f"{BLOCK}.stream2.1.weight").attribute if one.name == "pads")
    pads.ints[:] = [1, 0, 1, 2]


def watched(edited: ModelProto) -> None:
    value = reader(edited, f"{BLOCK}.stream2.1.weight").output[0]
    edited.graph.output.append(helper.make_tensor_value_info(value, 1, None))


def read_twice(edited: ModelProto) -> None:
    relu = next(
        node for node in edited.graph.node if node.input[0] == reader(edited, f"{BLOCK}.stream1.0.weight").output[0]
    )
    other = next(node for node in edited.graph.node if node.input[1:2] == ["model.backbone.conv5.weight"])
    pool = helper.make_node("AveragePool", [relu.output[0]], ["pooled"], name="p", kernel_shape=[2, 2], strides=[2, 2])
    edited.graph.node.insert(list(edited.graph.node).index(other), pool)
    edited.graph.node.insert(
        list(edited.graph.node).index(other), helper.make_node("Add", [other.input[0], "pooled"], ["more"])
    )
    other.input[0] = "more"


def ungated(edited: ModelProto) -> None:
    add = next(node for node in edited.graph.node if node.op_type == "Add")
    multiply = next(node for node in edited.graph.node if node.output[0] == add.input[0])
    add.input[0] = multiply.input[0]


@pytest.mark.parametrize("change", [biased, padded_unevenly, watched, read_twice, ungated])
def test_a_block_that_cannot_be_merged_exactly_stays(change: object) -> None:
    """Only the first of two blocks is changed; the other is merged, and the whole stays the same function."""
    edited = streams_network(CROPS, gate_units=FEW).copy()
    assert callable(change)
    change(edited)
    plain = finish(edited)
    assert [block.name for block in stream_blocks(plain)] == ["model.backbone.conv3.0"]
    found = merged(plain, "gpu-latency")
    assert not any(name.startswith("backbone.conv2.0.streams") for name in found.layers)
    np.testing.assert_allclose(embed_graph(found, CROPS, 1), embed_graph(plain, CROPS, 1), atol=2e-6)


def test_a_bias_of_zeros_is_none() -> None:
    edited = streams_network(CROPS, gate_units=FEW).copy()
    conv = reader(edited, f"{BLOCK}.stream2.1.pointwise.weight")
    conv.input.append(constant(edited, "bias", np.zeros(12, np.float32)))
    assert len(stream_blocks(finish(edited))) == 2


def reader(edited: ModelProto, weights: str) -> NodeProto:
    return next(node for node in edited.graph.node if node.input[1:2] == [weights])


def constant(edited: ModelProto, name: str, array: Array) -> str:
    edited.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def with_constants(graph: Graph, arrays: dict[str, Array]) -> Graph:
    edited = graph.copy()
    for tensor in edited.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return finish(edited)


@pytest.mark.parametrize(("skip", "count"), [("x", 2000), ("", 60)])
def test_long_sums_before_a_convolution_are_read_in_a_moment(skip: str, count: int) -> None:
    """A chain deeper than Python's stack, and a value added to itself so often that its terms cannot be counted."""
    ends = [helper.make_tensor_value_info(name, 1, ["N", 2, 4, 4]) for name in ("x", "y")]
    values = ["x", *(f"sum{i}" for i in range(count))]
    nodes = [helper.make_node("Add", [a, skip or a], [b]) for a, b in itertools.pairwise(values)]
    nodes.append(helper.make_node("Conv", [values[-1], "w"], ["y"]))
    weight = helper.make_tensor("w", 1, [2, 2, 1, 1], [1.0] * 4)
    assert not stream_blocks(Graph(helper.make_model(helper.make_graph(nodes, "sums", ends[:1], ends[1:], [weight]))))
