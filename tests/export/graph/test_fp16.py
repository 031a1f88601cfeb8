"""FP16 graphs: where the body begins and ends, which weights are refused, and what a GPU would store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers.graphs.tokens_network import BODY, SQUARES, tokens_network, tokens_weights
from helpers.small_network import images_of
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from reid_edge.card import ModelCard
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import GateError, ModelError
from reid_edge.export.graph.body import body_values
from reid_edge.export.graph.fp16 import fp16_from_fp32, overflowing_layer, simulated_fp16
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.graph.session import embed_graph

Array = NDArray[Any]
FP16, FP32 = TensorProto.FLOAT16, TensorProto.FLOAT
SIDE = 16


@pytest.fixture
def weights() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        "first": rng.standard_normal((4, 3, 3, 3)) / 3,
        "squeeze": rng.standard_normal((4, 4, 1, 1)),
        "second": rng.standard_normal((6, 4, 1, 1)),
        "second_bias": rng.standard_normal(6),
        "head": rng.standard_normal((6, 5)),
    }


def network(weights: Mapping[str, Array]) -> Graph:
    """Two convolutions with squeeze-and-excitation between, then a global mean, a linear head and the L2 norm."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=FP32),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["nchw", "std"], ["normal"]),
        helper.make_node("Conv", ["normal", "first"], ["map1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["map1"], ["relu1"]),
        helper.make_node("ReduceMean", ["relu1", "area"], ["squeezed"]),
        helper.make_node("Conv", ["squeezed", "squeeze"], ["excited"]),
        helper.make_node("HardSigmoid", ["excited"], ["gate"]),
        helper.make_node("Mul", ["relu1", "gate"], ["gated"]),
        helper.make_node("AveragePool", ["gated"], ["smaller"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["smaller", "second", "second_bias"], ["map2"]),
        helper.make_node("ReduceMean", ["map2", "area"], ["vector"], keepdims=0),
        helper.make_node("Gemm", ["vector", "head"], ["feature"]),
        helper.make_node("ReduceL2", ["feature", "axis"], ["norm"]),
        helper.make_node("Div", ["feature", "norm"], ["embeddings"]),
    ]
    floats = {"std": np.float32(255), **weights}
    integers = {"area": np.array([2, 3]), "axis": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("embeddings", FP32, ["N", 5])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in floats.items()]
        + [numpy_helper.from_array(value, name) for name, value in integers.items()],
    )
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def types_of(graph: Graph) -> dict[str, int]:
    inferred = shape_inference.infer_shapes(graph.model).graph.value_info
    return {value.name: value.type.tensor_type.elem_type for value in inferred}


def run(graph: Graph, images: Array) -> Array:
    onnx.checker.check_model(graph.model, full_check=True)
    session = onnxruntime.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    embeddings: Array = session.run(None, {"images": images})[0]
    return embeddings


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)


def test_the_body_goes_from_the_first_convolution_to_the_last_map(weights: dict[str, Array]) -> None:
    """The mean of squeeze-and-excitation is inside it, as is a pool with a convolution behind it."""
    body = {"map1", "relu1", "squeezed", "excited", "gate", "gated", "smaller", "map2"}
    assert body_values(network(weights)) == body


def test_both_ends_stay_in_fp32(weights: dict[str, Array]) -> None:
    fp16 = fp16_from_fp32(network(weights))
    types = types_of(fp16)
    assert {types[name] for name in ("float", "nchw", "normal", "vector", "feature", "norm")} == {FP32}
    assert {types[name] for name in body_values(network(weights))} == {FP16}
    casts = [(node.input[0], node.output[0]) for node in fp16.nodes if node.op_type == "Cast"]
    assert casts == [("images", "float"), ("normal", "normal_fp16"), ("map2", "map2_fp32")]


def test_a_value_that_two_nodes_read_across_a_border_is_cast_once(weights: dict[str, Array]) -> None:
    graph = network(weights)
    graph.model.graph.node[12].input[0] = "sum"
    graph.model.graph.node.insert(12, helper.make_node("GlobalAveragePool", ["map2"], ["again"]))
    graph.model.graph.node.insert(13, helper.make_node("Flatten", ["again"], ["flat"]))
    graph.model.graph.node.insert(14, helper.make_node("Add", ["vector", "flat"], ["sum"]))
    fp16 = fp16_from_fp32(graph)
    onnx.checker.check_model(fp16.model, full_check=True)
    assert [node.input[0] for node in fp16.nodes if node.op_type == "Cast"] == ["images", "normal", "map2"]


def test_the_weights_of_the_body_are_in_fp16_and_those_of_the_head_are_not(weights: dict[str, Array]) -> None:
    kinds = {name: array.dtype for name, array in fp16_from_fp32(network(weights)).constants.items()}
    rounded = {name for name, kind in kinds.items() if kind == np.float16}
    assert rounded == {"first.fp16", "squeeze.fp16", "second.fp16", "second_bias.fp16"}
    assert {name for name, kind in kinds.items() if kind == np.float32} == {"std", "head"}


def test_a_weight_that_body_and_head_share_is_kept_in_both(weights: dict[str, Array]) -> None:
    graph = network({**weights, "second": np.ones((6, 4, 1, 1)), "head": np.ones((6, 6))})
    graph.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6
    graph.model.graph.node[-3].input.append("second_bias")
    kinds = {name: array.dtype for name, array in fp16_from_fp32(graph).constants.items()}
    assert (kinds["second_bias.fp16"], kinds["second_bias"]) == (np.float16, np.float32)


def test_the_embeddings_are_those_of_fp32_up_to_rounding(weights: dict[str, Array], images: NDArray[np.uint8]) -> None:
    graph = network(weights)
    exact = run(graph, images)
    for form in (fp16_from_fp32(graph), simulated_fp16(fp16_from_fp32(graph))):
        embeddings = run(form, images)
        assert embeddings.dtype == np.float32
        np.testing.assert_allclose(embeddings, exact, atol=2e-3)
        assert not np.array_equal(embeddings, exact), "nothing was rounded"


def test_a_pass_does_not_change_its_graph(weights: dict[str, Array]) -> None:
    graph = network(weights)
    before = graph.model.SerializeToString(deterministic=True)
    fp16 = fp16_from_fp32(graph)
    fp16_before = fp16.model.SerializeToString(deterministic=True)
    simulated_fp16(fp16)
    assert graph.model.SerializeToString(deterministic=True) == before
    assert fp16.model.SerializeToString(deterministic=True) == fp16_before


def test_weights_beyond_fp16_are_refused_by_name(weights: dict[str, Array]) -> None:
    weights["second"][2, 1] = -70000
    with pytest.raises(GateError, match=r"weights second reach 7e\+04, beyond the 65504 of FP16: leave out --fp16"):
        fp16_from_fp32(network(weights))


def test_a_bias_beyond_fp16_is_refused_too(weights: dict[str, Array]) -> None:
    weights["second_bias"][0] = 66000
    with pytest.raises(GateError, match="weights second_bias reach"):
        fp16_from_fp32(network(weights))


def test_a_head_may_leave_the_range_of_fp16(weights: dict[str, Array]) -> None:
    weights["head"] = weights["head"] * 1e6
    fp16_from_fp32(network(weights))


def test_weights_that_vanish_in_fp16_are_refused_by_name(weights: dict[str, Array]) -> None:
    weights["squeeze"] = weights["squeeze"] * 1e-8
    with pytest.raises(GateError, match=r"weights squeeze are too small for FP16, which changes them by \d+"):
        fp16_from_fp32(network(weights))


def test_a_dead_channel_and_a_tiny_bias_may_vanish(weights: dict[str, Array]) -> None:
    """A channel that training switched off has weights of 1e-9 beside others of 1."""
    weights["second"][3] *= 1e-9
    weights["second_bias"] = np.full(6, 1e-9)
    weights["squeeze"][:] = 0
    fp16_from_fp32(network(weights))


def test_a_graph_without_a_global_mean_is_refused(weights: dict[str, Array]) -> None:
    graph = network(weights)
    del graph.model.graph.node[11:]
    graph.model.graph.output[0].name = "map2"
    with pytest.raises(
        ModelError,
        match="no global pooling found after the convolutions, and no L2 norm: cannot tell where the backbone",
    ):
        fp16_from_fp32(graph)


def planted_overflow(weights: dict[str, Array]) -> Graph:
    """Weights that FP16 holds, and a first map that reaches hundreds of thousands."""
    return network(
        {
            **weights,
            "first": weights["first"] * 5e4,
            "second": weights["second"] / 5e4,
            "squeeze": 0 * weights["squeeze"],
        }
    )


def planted_underflow(weights: dict[str, Array]) -> Graph:
    """Weights that FP16 holds, and a first map below its smallest number, 6e-8."""
    return network({**weights, "first": weights["first"] * 1e-3, "second_bias": np.zeros(6), "std": np.float32(2e7)})


def written(graph: Graph, path: Path) -> Path:
    std = (float(graph.constants["std"]) / 255,) * 3
    card = ModelCard("network", 5, (SIDE, SIDE), precision="fp16", std=std, weights_sha256="5e" * 32)
    write_onnx(graph, card, path)
    return path


def test_the_simulation_shows_an_overflow(weights: dict[str, Array], images: NDArray[np.uint8], tmp_path: Path) -> None:
    fp16 = fp16_from_fp32(planted_overflow(weights))
    with OnnxEngine(written(simulated_fp16(fp16), tmp_path / "m.onnx")) as engine, pytest.raises(ModelError) as error:
        engine.run(images)
    assert "not finite" in str(error.value)


def test_the_layer_that_overflows_is_named(weights: dict[str, Array], images: NDArray[np.uint8]) -> None:
    fp16 = fp16_from_fp32(planted_overflow(weights))
    said = overflowing_layer(fp16, images)
    assert said is not None and re.fullmatch(r"\S+ reaches [\d.e+]+, beyond the 65504 of FP16", said)
    first = next(node for node in fp16.nodes if node.op_type == "Conv")
    assert said.startswith(first.name or "Conv")
    assert overflowing_layer(fp16_from_fp32(network(weights)), images) is None


def pooled_by_gem(images_reach: float) -> Graph:
    """A 1x1 convolution that gives every pixel ``images_reach`` times its share of 255; GeM with p = 3; a norm."""
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=FP32),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["nchw", "std"], ["normal"]),
        helper.make_node("Conv", ["normal", "scaled"], ["map"]),
        helper.make_node("Clip", ["map", "smallest"], ["above_0"]),
        helper.make_node("Pow", ["above_0", "p"], ["power"]),
        helper.make_node("ReduceMean", ["power", "area"], ["mean"], keepdims=0),
        helper.make_node("Pow", ["mean", "one_over_p"], ["feature"]),
        helper.make_node("ReduceL2", ["feature", "axis"], ["norm"]),
        helper.make_node("Div", ["feature", "norm"], ["embeddings"]),
    ]
    floats = {"std": 255, "scaled": images_reach * np.eye(3)[:, :, None, None], "smallest": 1e-6, "p": 3}
    integers = {"area": np.array([2, 3]), "axis": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("embeddings", FP32, ["N", 3])],
        [
            numpy_helper.from_array(np.asarray(v, np.float32), name)
            for name, v in (floats | {"one_over_p": 1 / 3}).items()
        ]
        + [numpy_helper.from_array(value, name) for name, value in integers.items()],
    )
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def test_the_power_of_a_generalised_mean_stays_in_fp32() -> None:
    """Activations of 50, 25 and 10: the cube of 50 is 125,000, and GeM of a constant is the constant."""
    graph = pooled_by_gem(50.0)
    assert body_values(graph) == {"map"}
    images = np.broadcast_to(np.array([255, 127.5, 51]).round().astype(np.uint8), (2, SIDE, SIDE, 3))
    fp16 = fp16_from_fp32(graph)
    assert overflowing_layer(fp16, images) is None
    expected = np.array([50, 50 * 128 / 255, 10])
    for embeddings in (run(fp16, images), run(simulated_fp16(fp16), images)):
        np.testing.assert_allclose(embeddings, [expected / np.linalg.norm(expected)] * 2, rtol=2e-3)


def test_the_simulation_shows_values_too_small_for_fp16(weights: dict[str, Array], images: NDArray[np.uint8]) -> None:
    graph = planted_underflow(weights)
    assert np.isfinite(run(graph, images)).all()
    embeddings = run(simulated_fp16(fp16_from_fp32(graph)), images)
    assert np.isnan(embeddings).all()  # 0 / 0: this network's norm has no epsilon


def test_the_simulation_rounds_every_stored_value_by_hand() -> None:
    """One pixel of 2049: FP16 holds 2048 and 2050, and ties go to the even one. 2048 x 1.0009765625 is 2050 in FP16."""
    nodes = [
        helper.make_node("Conv", ["x", "one"], ["a"]),
        helper.make_node("Conv", ["a", "more"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["y"]),
    ]
    kernel = [("one", 1.0), ("more", 1 + 2.0**-10)]
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["input"], ["x"]), *nodes],
            "test",
            [helper.make_tensor_value_info("input", FP32, ["N", 1, 1, 1])],
            [helper.make_tensor_value_info("y", FP32, ["N", 1, 1, 1])],
            [numpy_helper.from_array(np.full((1, 1, 1, 1), value, np.float32), name) for name, value in kernel],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    simulated = simulated_fp16(fp16_from_fp32(Graph(proto)))
    session = onnxruntime.InferenceSession(simulated.model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"input": np.full((1, 1, 1, 1), 2049, np.float32)})[0].item() == 2050


def test_the_body_of_a_transformer_goes_to_the_norm_or_the_pooling() -> None:
    assert body_values(tokens_network(tokens_weights())) == BODY | {"feature"}
    assert body_values(tokens_network(tokens_weights(), pool=True)) == BODY


def test_sizes_are_not_cast_and_every_output_of_a_split_is_rounded() -> None:
    graph, images = tokens_network(tokens_weights()), images_of()
    fp16 = fp16_from_fp32(graph)
    types = types_of(fp16)
    assert {types[name] for name in BODY} == {FP16} and {types[name] for name in SQUARES} == {FP32}
    assert {types[name] for name in ("sizes", "target")} == {TensorProto.INT64}
    exact = run(graph, images)
    stored = {node.input[0] for node in simulated_fp16(fp16).nodes if node.op_type == "Cast"}
    assert {"q_exact", "k_exact", "v_exact"} <= stored
    for embeddings in (embed_graph(fp16, images, 1), embed_graph(simulated_fp16(fp16), images, 1)):
        np.testing.assert_allclose(embeddings, exact, atol=5e-3)
        assert not np.array_equal(embeddings, exact), "nothing was rounded"


def test_a_layer_norm_of_large_values_does_not_overflow() -> None:
    """Tokens reach thousands, their squares millions: FP16 holds the first alone."""
    weights = tokens_weights()
    weights["model.patch.weight"] = weights["model.patch.weight"] * 1000
    graph, images = tokens_network(weights), images_of()
    fp16 = fp16_from_fp32(graph)
    assert overflowing_layer(fp16, images) is None
    np.testing.assert_allclose(embed_graph(simulated_fp16(fp16), images, 1), run(graph, images), atol=5e-3)


def test_the_scales_of_a_resize_stay_in_fp32(weights: dict[str, Array]) -> None:
    """ONNX has them in float32 beside images of any type."""
    graph = network(weights)
    graph.model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    graph.model.graph.node[9].CopyFrom(helper.make_node("Resize", ["gated", "", "scales"], ["smaller"]))
    fp16 = fp16_from_fp32(graph)
    onnx.checker.check_model(fp16.model, full_check=True)
    assert fp16.constants["scales"].dtype == np.float32 and "smaller" in body_values(graph)
