"""Residual adds: which ones, where the pair stands, and what a builder makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.small_network import CARD, Array, images_of, model_of, run
from onnx import helper

from reid_edge.errors import InputError, MissingExtraError, ModelError
from reid_edge.export.engines.build import engine_from_onnx
from reid_edge.export.engines.kernels import layers_writing
from reid_edge.export.engines.options import EngineOptions
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.convert import int8_from_fp32, trained_ranges
from reid_edge.export.int8.plan import Int8Options, plan_int8
from reid_edge.export.int8.qdq import quantized
from reid_edge.export.int8.residuals import ResidualAdd, layers_before_adds, measured_values, residual_adds
from reid_edge.export.parity.limits import THRESHOLDS
from reid_edge.export.parity.structure import check_structure

CHANNELS = 16


def residual_network(seed: int = 0) -> Graph:
    """A first block with a convolution beside it, a second that adds its input, a sum of two gates, the mean."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {"model.stem.weight": rng.standard_normal((CHANNELS, 3, 1, 1)) / 2}
    for name in ("a.conv1", "a.conv2", "a.down", "b.conv1", "b.conv2"):
        weights[f"model.{name}.weight"] = rng.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 12
        weights[f"model.{name}.bias"] = rng.standard_normal(CHANNELS) / 4
    weights["model.bias"] = rng.standard_normal((1, CHANNELS, 1, 1)) / 4

    def conv(read: str, name: str, written: str) -> object:
        inputs = [read, f"model.{name}.weight", f"model.{name}.bias"]
        return helper.make_node("Conv", inputs, [written], name=name, pads=[1] * 4)

    def node(kind: str, read: list[str], written: str, **options: object) -> object:
        return helper.make_node(kind, read, [written], name=written, **options)

    nodes = [
        node("Conv", ["normal", "model.stem.weight"], "x0"),
        node("Add", ["x0", "model.bias"], "x1"),
        node("Relu", ["x1"], "x"),
        conv("x", "a.down", "down"),
        conv("x", "a.conv1", "a1"),
        node("Relu", ["a1"], "a2"),
        conv("a2", "a.conv2", "a3"),
        node("Add", ["down", "a3"], "sum_a"),
        node("Relu", ["sum_a"], "y"),
        conv("y", "b.conv1", "b1"),
        node("Relu", ["b1"], "b2"),
        conv("b2", "b.conv2", "b3"),
        node("Add", ["b3", "y"], "sum_b"),
        node("Relu", ["sum_b"], "z"),
        node("Sigmoid", ["z"], "left"),
        node("Mul", ["z", "left"], "right"),
        node("Add", ["left", "right"], "gates"),
        node("ReduceMean", ["gates", "area"], "feature", keepdims=0),
    ]
    return model_of(nodes, weights, dim=CHANNELS)  # type: ignore[arg-type]


def test_the_adds_by_hand() -> None:
    """Of two convolutions the one behind another is taken in; a bias and a sum of gates are no residual adds."""
    graph = residual_network()
    assert residual_adds(graph) == [ResidualAdd("a.conv2", "down", "sum_a"), ResidualAdd("b.conv2", "y", "sum_b")]
    assert layers_before_adds(graph, {"b.conv2"}) == {"a.conv2"}
    assert measured_values(graph) == ["normal", "x", "a2", "y", "b2", "down"]


def test_a_convolution_that_something_else_reads_cannot_be_taken_in() -> None:
    graph = residual_network()
    watched = graph.copy()
    place = next(i for i, node in enumerate(watched.graph.node) if node.name == "sum_b")
    watched.graph.node.insert(place, helper.make_node("Relu", ["b3"], ["again"], name="again"))
    assert [add.layer for add in residual_adds(Graph(watched))] == ["a.conv2"]


def test_an_add_reads_the_pair_that_the_next_convolution_reads() -> None:
    graph = residual_network()
    ranges = ranges_over(graph, images_of(), "minmax", 1)
    int8 = quantized(graph, ranges, residuals=["a.conv2", "b.conv2"])
    made = {node.output[0]: node for node in int8.nodes}
    assert list(made["sum_a"].input) == ["down.dq", "a3"] and list(made["sum_b"].input) == ["b3", "y.dq"]
    assert list(made["b1"].input)[0] == "y.dq"
    pairs = [node.input[0] for node in int8.nodes if node.op_type == "QuantizeLinear"]
    assert sorted(pairs) == sorted(set(pairs)) == ["a2", "b2", "down", "normal", "x", "y"]
    assert int8.constants["down.scale"] == pytest.approx(ranges["down"] / 127)
    kept = quantized(graph, ranges, keep=["a.conv2"], residuals=["a.conv2", "b.conv2"])
    assert "down.scale" not in kept.constants, "an add behind a layer in float gains nothing"
    plain = quantized(graph, ranges)
    assert list({node.output[0]: node for node in plain.nodes}["sum_b"].input) == ["b3", "y"]


def test_the_rounded_sum_is_that_of_numpy() -> None:
    """Everything else in float: the embeddings are those of the FP32 graph with two values rounded by hand."""
    graph, images = residual_network(), images_of()
    ranges = {**ranges_over(graph, images, "minmax", 1), "down": 0.8}
    others = [name for name in graph.layers if name != "a.conv2"]
    int8 = quantized(graph, ranges, keep=others, residuals=["a.conv2"])
    edited = graph.copy()
    parts = {"down": ("down.by", "down.fake"), "a2": ("a2.by", "a2.fake")}
    for value, (by, written) in parts.items():
        scale = np.float32(ranges[value] / 127)
        constants = {by: scale, f"{value}.low": np.float32(-128), f"{value}.high": np.float32(127)}
        edited.graph.initializer.extend(_tensor(array, name) for name, array in constants.items())
        place = next(i for i, node in enumerate(edited.graph.node) if value in node.input and node.name != "a.conv1")
        new = [
            helper.make_node("Div", [value, by], [f"{value}.1"], name=f"{value}.1"),
            helper.make_node("Round", [f"{value}.1"], [f"{value}.2"], name=f"{value}.2"),
            helper.make_node(
                "Clip", [f"{value}.2", f"{value}.low", f"{value}.high"], [f"{value}.3"], name=f"{value}.3"
            ),
            helper.make_node("Mul", [f"{value}.3", by], [written], name=written),
        ]
        reader = edited.graph.node[place]
        reader.input[list(reader.input).index(value)] = written
        for offset, one in enumerate(new):
            edited.graph.node.insert(place + offset, one)
    weight = next(tensor for tensor in edited.graph.initializer if tensor.name == "model.a.conv2.weight")
    floats = graph.constants["model.a.conv2.weight"]
    steps = np.abs(floats).max(axis=(1, 2, 3), keepdims=True) / np.float32(127)
    weight.CopyFrom(_tensor((np.rint(floats / steps) * steps).astype(np.float32), weight.name))
    by_hand = run(Graph(edited), images)
    np.testing.assert_allclose(run(int8, images), by_hand, atol=2e-6)
    without = quantized(graph, ranges, keep=others)
    assert np.abs(run(without, images) - by_hand).max() > 1e-4, "the test cannot tell the rounded skip from a float one"


def test_the_structure_gate_sees_through_a_rounded_skip() -> None:
    graph, images = residual_network(), images_of()
    ranges = ranges_over(graph, images, "minmax", 1)
    int8 = quantized(graph, ranges, residuals=layers_before_adds(graph, ()))
    card = CARD.with_(embedding_dim=CHANNELS, precision="int8")
    check_structure(int8, card, graph.constants, run(graph, images), images, THRESHOLDS["fp32"])


def test_the_option_reaches_the_graph_and_the_card(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    graph, card = residual_network(), CARD.with_(embedding_dim=CHANNELS)
    options = Int8Options(calibrate=people, count=8, threads=1, quantize_residuals=True, unquantized="fp32")
    plan = plan_int8(graph, card, options)
    assert plan.residuals == {"a.conv2", "b.conv2"}
    int8, int8_card = int8_from_fp32(graph, card, plan)
    assert "down.scale" in int8.constants and int8_card.calibration.endswith("; residual adds rounded")
    trained = card.with_(quantization=trained_ranges(graph, plan))
    assert set(trained.quantization["residuals"]) == {"a.conv2", "b.conv2"}
    assert trained.quantization["residuals"]["b.conv2"] == trained.quantization["layers"]["b.conv1"]
    again, _ = int8_from_fp32(graph, trained, plan_int8(graph, trained, Int8Options(unquantized="fp32")))
    uncorrected = quantized(graph, plan.activation_ranges(graph), plan.kept, plan.residuals)
    assert again.model.SerializeToString(deterministic=True) == uncorrected.model.SerializeToString(deterministic=True)
    plain = card.with_(quantization={"layers": trained.quantization["layers"]})
    assert plan_int8(graph, plain, Int8Options()).residuals == frozenset()
    with pytest.raises(InputError, match="was trained without rounded residual adds: leave --quantize-residuals"):
        plan_int8(graph, plain, Int8Options(quantize_residuals=True))
    with pytest.raises(InputError, match="for a CPU rounds residual adds anyway: leave --quantize-residuals"):
        plan_int8(graph, card, Int8Options(calibrate=people, for_runtime="cpu", quantize_residuals=True))


@pytest.mark.parametrize(
    "residuals", [{"nowhere": [1.0]}, {"a.conv1": [1.0]}, {"a.conv2": []}, {"a.conv2": [1.0, 1.0]}, {"b.conv2": [9.5]}]
)
def test_ranges_on_a_card_that_do_not_fit_are_refused(residuals: dict[str, list[float]]) -> None:
    """The last has another range than the convolution that reads the same value."""
    graph = residual_network()
    card = CARD.with_(quantization={"layers": {"b.conv1": [1.0], "b.conv2": [1.0]}, "residuals": residuals})
    with pytest.raises(ModelError, match=r"do not fit the residual add after \S+: add --calibrate"):
        plan_int8(graph, card, Int8Options())


def test_a_builder_writes_no_float_copy_of_a_map_that_is_added(tmp_path: Path) -> None:
    """TensorRT-RTX's convolutions write FP32 either way; the kernels between two blocks then write INT8 alone."""
    graph = residual_network()
    ranges = ranges_over(graph, images_of(), "minmax", 1)
    card = CARD.with_(embedding_dim=CHANNELS, precision="int8")
    writing = {}
    for name, residuals in (("off", ()), ("on", ("a.conv2", "b.conv2"))):
        write_onnx(quantized(graph, ranges, residuals=residuals), card, tmp_path / f"{name}.onnx")
        try:
            built = engine_from_onnx(tmp_path / f"{name}.onnx", tmp_path, EngineOptions(backend="tensorrt-rtx"))
        except MissingExtraError as error:
            pytest.skip(f"needs the rtx-build extra: {error}")
        writing[name] = layers_writing(built.layers, "Float")
    assert writing["on"] < writing["off"]


def _tensor(array: Array, name: str) -> object:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(array), name)
