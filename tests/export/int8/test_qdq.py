"""Q/DQ pairs: where numbers are rounded and by how much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.graphs.tokens_network import tokens_network, tokens_weights
from helpers.small_network import DIM, Array, images_of, model_of, network, run
from onnx import TensorProto, helper, shape_inference

from reid_edge.errors import ModelError
from reid_edge.export.graph.fp16 import fp16_from_fp32, simulated_fp16, stores_fp16
from reid_edge.export.graph.graph import Graph
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.layers import default_keep, quantized_values
from reid_edge.export.int8.qdq import quantized, weight_scales
from reid_edge.export.parity.compare import compare


def fake(x: Array, scale: Any) -> Array:
    """What a symmetric int8 Q/DQ pair does, in float32."""
    output: Array = np.clip(np.rint(x / scale), -128, 127).astype(np.float32) * np.float32(scale)
    return output


def one_conv(weight: Any) -> Graph:
    """A single 1x1 convolution from 3 channels, then the global mean."""
    nodes = [
        helper.make_node("Conv", ["normal", "model.only.weight"], ["map"], name="c"),
        helper.make_node("ReduceMean", ["map", "area"], ["feature"], name="m", keepdims=0),
    ]
    return model_of(nodes, {"model.only.weight": weight}, dim=len(weight))


def test_the_scales_of_one_convolution_by_hand() -> None:
    """The range 2.54 in 127 steps is 0.02 a step; weights up to 1.27 have steps of 0.01, up to 0.635 of 0.005."""
    weight = np.array([[1.27, -0.5, 0.014], [0.635, 0, -0.0126]]).reshape(2, 3, 1, 1)
    held = quantized(one_conv(weight), {"normal": 2.54}).constants
    assert held["normal.scale"] == pytest.approx(0.02)
    np.testing.assert_allclose(held["model.only.weight.scale"], [0.01, 0.005], rtol=1e-6)
    assert held["model.only.weight.int8"].reshape(2, 3).tolist() == [[127, -50, 1], [127, 0, -3]]
    assert held["model.only.weight.int8"].dtype == np.int8
    assert {held["zero.int8"].item(), *held["model.only.weight.zero"].tolist()} == {0}
    assert "model.only.weight" not in held, "the float weights travel on"


def test_pairs_are_on_the_inputs_of_conv_and_gemm_only(weights: dict[str, Array]) -> None:
    graph = network(weights)
    int8 = quantized(graph, dict.fromkeys(quantized_values(graph), 3.0))
    made_by = {node.output[0]: node for node in int8.nodes}
    readers = {name: [n for n in int8.nodes if name in n.input] for name in made_by}
    for node in int8.nodes:
        if node.op_type in {"Conv", "Gemm"}:
            assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert all(name not in made_by for name in node.input[2:]), "a bias was rounded"
        elif node.op_type == "QuantizeLinear":
            assert made_by[node.input[0]].op_type not in {"DequantizeLinear", "QuantizeLinear"}
            assert [n.op_type for n in readers[node.output[0]]] == ["DequantizeLinear"]
        elif node.op_type == "DequantizeLinear":
            assert {n.op_type for n in readers[node.output[0]]} <= {"Conv", "Gemm"}
    # relu1 is read by the depthwise convolution and by a mean, which goes on reading the float.
    assert made_by["squeezed"].input[0] == "relu1"
    pairs = [node.input[0] for node in int8.nodes if node.op_type == "QuantizeLinear"]
    assert pairs == ["normal", "squeezed", "relu1", "gated", "vector"]
    assert [node.op_type for node in graph.model.graph.node].count("QuantizeLinear") == 0, "the model given was changed"
    assert {o.version for o in int8.model.opset_import} == {18}
    assert all(a.dtype == np.float32 for name, a in int8.constants.items() if name.endswith("scale"))


def test_weight_scales_against_a_naive_loop() -> None:
    rng = np.random.default_rng(3)
    for shape, axis in (((5, 3, 2, 2), 0), ((4, 7), 0), ((4, 7), 1)):
        weight = rng.standard_normal(shape).astype(np.float32)
        naive = [max(abs(float(v)) for v in np.take(weight, i, axis).ravel()) / 127 for i in range(shape[axis])]
        np.testing.assert_allclose(weight_scales(weight, axis), naive, rtol=1e-6)


def test_a_gemm_has_its_channels_where_transb_says(weights: dict[str, Array]) -> None:
    graph = network({**weights, "model.fc.0.weight": weights["model.fc.0.weight"].T})
    gemm = next(node for node in graph.model.graph.node if node.op_type == "Gemm")
    del gemm.attribute[:]
    ranges = ranges_over(graph, images_of(), "minmax", 1)
    int8 = quantized(graph, ranges)
    assert int8.constants["model.fc.0.weight.scale"].shape == (DIM,)
    upright = quantized(network(weights), ranges)
    np.testing.assert_allclose(run(int8, images_of()), run(upright, images_of()), atol=1e-6)


def test_a_dead_channel_and_a_value_that_is_always_zero_stay_zero(weights: dict[str, Array]) -> None:
    """TensorRT wants every scale positive."""
    weights["model.backbone.conv1.weight"][2] = 0
    graph = network(weights)
    ranges = ranges_over(graph, images_of(), "minmax", 1)
    int8 = quantized(graph, {**ranges, "gated": 0.0})
    held = int8.constants
    assert all((array > 0).all() for name, array in held.items() if name.endswith(".scale"))
    assert not held["model.backbone.conv1.weight.int8"][2].any()
    assert np.isfinite(run(int8, images_of())).all()


def test_the_embeddings_are_those_of_a_numpy_reference(weights: dict[str, Array]) -> None:
    weight = np.asarray(weights["model.backbone.conv1.weight"][:, :, :1, :1], np.float32)
    graph, images = one_conv(weight), images_of()
    scale = np.float32(2.0 / 127)  # below the largest 2.55: what is beyond is clipped
    pixels = fake(images.astype(np.float32) / np.float32(100), scale)
    rows = np.stack([fake(row, np.float32(np.abs(row).max()) / np.float32(127)) for row in weight[:, :, 0, 0]])
    feature = (pixels @ rows.T).mean(axis=(1, 2))  # [N, 4]
    expected = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    np.testing.assert_allclose(run(quantized(graph, {"normal": 2.0}), images), expected, atol=2e-6)
    assert np.abs(run(graph, images) - expected).max() > 1e-3, "the test cannot tell INT8 from FP32"


def test_int8_is_near_fp32_and_not_equal(weights: dict[str, Array]) -> None:
    graph, images = network(weights), images_of()
    ranges = ranges_over(graph, images, "minmax", 1)
    exact = run(graph, images)
    found = compare(exact, run(quantized(graph, ranges), images))
    assert 0.99 < found.cosine_min < 1 - 1e-7
    np.testing.assert_allclose(run(quantized(graph, ranges, keep=list(graph.layers)), images), exact, atol=1e-6)


def test_layers_left_unquantised_go_to_fp16_and_the_pairs_stay(weights: dict[str, Array]) -> None:
    """Scales and what INT8 layers write stay FP32: TensorRT 10.3 reads that, and ONNX Runtime computes it correctly.

    So does the Relu after the last convolution: both its neighbours are INT8.
    """
    graph, images = network(weights), images_of()
    ranges = ranges_over(graph, images, "minmax", 1)
    int8 = quantized(graph, ranges, default_keep(graph))
    fp16 = fp16_from_fp32(int8)
    assert stores_fp16(fp16) and not stores_fp16(int8) and [one.version for one in fp16.model.opset_import] == [18]
    made = {node.output[0]: node.op_type for node in fp16.nodes}
    kinds = {node.name: [made.get(value) for value in node.input[:2]] for node in fp16.nodes}
    assert kinds["c1"] == kinds["c4"] == kinds["g"] == ["DequantizeLinear", "DequantizeLinear"]
    assert kinds["c2"] == ["ReduceMean", None] and kinds["c3"] == ["Relu", None]
    inferred = shape_inference.infer_shapes(fp16.model).graph.value_info
    types = {value.name: value.type.tensor_type.elem_type for value in inferred}
    in_fp16 = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    casts = {"map1_fp16"}
    assert in_fp16 == {"relu1", "squeezed", "excited", "gate", "map2", "gated"} | casts
    assert run(fp16, images) == pytest.approx(run(int8, images), abs=0.01)
    assert not stores_fp16(fp16_from_fp32(quantized(graph, ranges))), "nothing is left to compute in FP16"
    # The last layers' rounding to INT8 hides FP16's: without it, that shows, and is small.
    open_ended = quantized(graph, ranges, {*default_keep(graph), "backbone.block.1.conv", "fc.0"})
    away = np.abs(run(simulated_fp16(fp16_from_fp32(open_ended)), images) - run(open_ended, images)).max()
    assert 1e-6 < away < 0.01


def test_onnx_runtimes_quantizer_chooses_the_same_numbers(weights: dict[str, Array], tmp_path: Path) -> None:
    """The comparison that `qdq` describes: inputs only, biases in float, ranges of the same crops."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    graph, images = network(weights), images_of()

    class Once(CalibrationDataReader):  # type: ignore[misc]
        left = [images]

        def get_next(self) -> dict[str, Any] | None:
            return {"images": self.left.pop()} if self.left else None

    onnx.save(graph.model, str(tmp_path / "fp32.onnx"))
    quantize_static(
        tmp_path / "fp32.onnx",
        tmp_path / "int8.onnx",
        Once(),
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv", "Gemm"],
        extra_options={
            "ActivationSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv", "Gemm"],
        },
    )
    theirs = Graph(onnx.load(tmp_path / "int8.onnx")).constants
    ours = quantized(graph, ranges_over(graph, images, "minmax", 1)).constants
    for value in quantized_values(graph):
        # Some versions divide twice the amax into 255 steps, others, as `qdq` does, the amax into 127.
        assert theirs[f"{value}_scale"] == pytest.approx(ours[f"{value}.scale"], rel=5e-3)
    for weight in (name for name in weights if name.endswith(".weight")):
        assert np.abs(theirs[f"{weight}_quantized"].astype(int) - ours[f"{weight}.int8"]).max() <= 1


def test_a_module_called_twice_is_stored_and_kept_once(weights: dict[str, Array]) -> None:
    graph = network(weights)
    again = helper.make_node("Conv", ["gate", "model.backbone.block.0.gate.fc.weight"], ["gate2"], name="again")
    graph.model.graph.node.insert(8, again)
    graph.model.graph.node[10].input[1] = "gate2"
    assert [node.name for node in graph.layers["backbone.block.0.gate.fc"]] == ["c2", "again"]
    int8 = quantized(graph, dict.fromkeys(quantized_values(graph), 3.0))
    read = [node.input[1] for node in int8.nodes if node.name in {"c2", "again"}]
    assert read == ["model.backbone.block.0.gate.fc.weight.dq"] * 2
    run(int8, images_of())


def test_a_pair_stands_before_the_first_reader_also_of_a_module_called_again_later(weights: dict[str, Array]) -> None:
    """The gate's second call and the layer between its two calls read one value."""
    edited = network(weights).copy()
    edited.graph.node.insert(6, helper.make_node("Sigmoid", ["map1"], ["shared"], name="s"))
    place = next(i for i, node in enumerate(edited.graph.node) if node.name == "c3")
    edited.graph.node[place].input[0] = "shared"
    again = helper.make_node("Conv", ["shared", "model.backbone.block.0.gate.fc.weight"], ["map5"], name="again")
    edited.graph.node.insert(place + 1, again)
    edited.graph.node.insert(place + 2, helper.make_node("ReduceMean", ["map5", "area"], ["gate5"], name="m5"))
    next(node for node in edited.graph.node if node.name == "m2").input[1] = "gate5"
    graph = Graph(edited)
    order = [node.name for nodes in graph.layers.values() for node in nodes]
    assert order.index("again") < order.index("c3"), "the layers' order is not the graph's"
    run(quantized(graph, dict.fromkeys(quantized_values(graph), 3.0)), images_of())


def test_ranges_of_another_model_are_refused(weights: dict[str, Array]) -> None:
    graph = network(weights)
    with pytest.raises(ModelError, match="4 values have no activation range, 'gated' first: calibrate this model"):
        quantized(graph, {"normal": 1.0})
    with pytest.raises(ModelError, match="the activation range of 'normal' is nan: calibrate again"):
        quantized(graph, {**dict.fromkeys(quantized_values(graph), 1.0), "normal": float("nan")})


def test_a_matmul_has_a_scale_for_each_column() -> None:
    """The global mean of pixels times [3, 4]: a range of 2.54 in steps of 0.02, weights in steps of their column."""
    weight = np.array([[1.27, 0, 0.5, -2.54], [0.635, 0.0127, 0, 1], [-0.1, 0, 0.254, 0]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["normal", "area"], ["mean"], name="p", keepdims=0),
        helper.make_node("MatMul", ["mean", "model.head.weight"], ["feature"], name="m"),
    ]
    graph, images = model_of(nodes, {"model.head.weight": weight}, dim=4), images_of()
    assert list(graph.layers) == ["head"]
    int8 = quantized(graph, {"mean": 2.54})
    np.testing.assert_allclose(int8.constants["model.head.weight.scale"], [0.01, 1e-4, 0.5 / 127, 0.02], rtol=1e-5)
    means = fake((images.astype(np.float32) / np.float32(100)).mean(axis=(1, 2)), np.float32(0.02))
    columns = np.stack([fake(column, np.float32(np.abs(column).max() / 127)) for column in weight.T], axis=1)
    expected = means @ columns
    np.testing.assert_allclose(run(int8, images), expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=2e-6)


def test_attention_stays_in_float() -> None:
    graph = tokens_network(tokens_weights())
    assert list(graph.layers) == ["patch", "qkv", "mlp"] and not default_keep(graph)
    int8 = quantized(graph, ranges_over(graph, images_of(), "minmax", 1))
    made_by = {name: node.op_type for node in int8.nodes for name in node.output}
    assert [made_by[name] for node in int8.nodes if node.op_type == "MatMul" for name in node.input] == [
        *["DequantizeLinear"] * 2,
        *["Split", "Transpose"],
        *["Softmax", "Split"],
        *["DequantizeLinear"] * 2,
    ]
    found = compare(run(graph, images_of()), run(int8, images_of()))
    assert 0.99 < found.cosine_min < 1


def test_weights_that_are_read_along_two_axes_are_refused() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["normal", "area"], ["mean"], name="p", keepdims=0),
        helper.make_node("MatMul", ["mean", "model.tied.weight"], ["there"], name="m"),
        helper.make_node("Gemm", ["there", "model.tied.weight"], ["feature"], name="g", transB=1),
    ]
    graph = model_of(nodes, {"model.tied.weight": np.ones((3, 3))}, dim=3)
    with pytest.raises(ModelError, match=r"model.tied.weight are read along two axes: keep their layer in float"):
        quantized(graph, {"mean": 1.0, "there": 1.0})
