"""Multiply-accumulates of a node: answers by hand, and PyTorch's count beside them."""

from __future__ import annotations

import pytest
from helpers.small_network import Array, images_of, network, random_weights
from onnx import helper

from reid_edge.errors import ModelError
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.graph import Graph, finish
from reid_edge.export.graph.macs import node_macs
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.qdq import quantized

BY_HAND = {
    "map1": 14 * 14 * 4 * 3 * 9,  # 3x3 without padding on 16x16: 3 channels to 4
    "excited": 4 * 4,  # 1x1 on one pixel
    "map2": 12 * 12 * 4 * 9,  # depthwise 3x3 on 14x14
    "map3": 12 * 12 * 6 * 4,
    "feature": 6 * 8,
}


@pytest.fixture
def weights() -> dict[str, Array]:
    return random_weights()


def test_each_node_by_hand(weights: dict[str, Array]) -> None:
    assert node_macs(network(weights)) == BY_HAND


def test_rounding_changes_no_count(weights: dict[str, Array]) -> None:
    graph = network(weights)
    int8 = quantized(graph, ranges_over(graph, images_of(), "minmax", threads=1))
    assert node_macs(int8) == BY_HAND
    assert sorted(node_macs(fp16_from_fp32(graph)).values()) == sorted(BY_HAND.values())


def test_a_gemm_counts_its_inner_axis_in_any_order(weights: dict[str, Array]) -> None:
    edited = network({**weights, "model.fc.0.weight": weights["model.fc.0.weight"].T}).copy()
    edited.graph.node[-3].ClearField("attribute")  # transB
    assert node_macs(finish(edited)) == BY_HAND


def test_unknown_shapes_are_refused() -> None:
    ends = [helper.make_tensor_value_info(name, 1, ["N", "some"]) for name in ("x", "y", "z")]
    model = helper.make_model(
        helper.make_graph([helper.make_node("MatMul", ["x", "y"], ["z"])], "one", ends[:2], ends[2:])
    )
    with pytest.raises(ModelError, match=r"the shapes of MatMul 'z' are not known"):
        node_macs(Graph(model))


def test_the_sum_is_what_pytorch_counts() -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from reid_edge.export.graph.from_torch import onnx_from_model
    from reid_edge.training.models.checkpoint import card_of
    from reid_edge.training.models.macs import count_macs
    from reid_edge.training.models.registry import build_model

    torch.manual_seed(0)
    model = build_model("mobilenetv3_large", num_classes=2).eval()
    graph = onnx_from_model(model, card_of(model, input_hw=(64, 32)))
    assert sum(node_macs(graph).values()) == count_macs(model, (64, 32))
