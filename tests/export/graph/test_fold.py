"""Folding batch norm: weights worked by hand, and the same outputs as before on ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reid_edge.errors import ModelError
from reid_edge.export.graph.fold import fold_batch_norms
from reid_edge.export.graph.graph import Graph

Array = NDArray[Any]

# gamma 3, beta 7, mean 5, variance 4 and epsilon 0: y = 3 (x - 5) / 2 + 7 = 1.5 x - 0.5
GAMMA, BETA, MEAN, VARIANCE = 3.0, 7.0, 5.0, 4.0
SCALE, SHIFT = 1.5, -0.5


def norm(value: str, output: str, parameters: str = "bn", **attributes: Any) -> Any:
    names = [f"{parameters}_{part}" for part in ("gamma", "beta", "mean", "variance")]
    return helper.make_node("BatchNormalization", [value, *names], [output], name=output, epsilon=0.0, **attributes)


def parameters(*channels: float, name: str = "bn") -> dict[str, Array]:
    """A batch norm for as many channels; the numbers scale its gamma."""
    ones = np.ones(len(channels), np.float32)
    return {
        f"{name}_gamma": GAMMA * np.array(channels, np.float32),
        f"{name}_beta": BETA * ones,
        f"{name}_mean": MEAN * ones,
        f"{name}_variance": VARIANCE * ones,
    }


def model(nodes: list[Any], shape: list[Any], weights: dict[str, Array], outputs: tuple[str, ...] = ("y",)) -> Graph:
    """A graph of opset 18 that reads float ``x`` and gives float ``outputs``."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * len(shape)) for name in outputs],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))


def operators(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def outputs_of(graph: Graph, x: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(graph.model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x.astype(np.float32)}))


def assert_same_outputs(before: Graph, after: Graph, x: Array) -> None:
    onnx.checker.check_model(after.model, full_check=True)
    assert "BatchNormalization" not in operators(after)
    for old, new in zip(outputs_of(before, x), outputs_of(after, x), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)


def test_a_convolution_takes_the_batch_norm_into_its_weights() -> None:
    weights = {"w": np.full((1, 1, 1, 1), 2.0), "b": np.array([1.0]), **parameters(1)}
    before = model([helper.make_node("Conv", ["x", "w", "b"], ["c"]), norm("c", "y")], ["N", 1, 2, 2], weights)
    after = fold_batch_norms(before)
    assert operators(after) == ["Conv"]
    assert sorted(float(value.item()) for value in after.constants.values()) == [1.0, 3.0]  # 3 x + 1
    assert outputs_of(after, np.ones((1, 1, 2, 2)))[0].ravel().tolist() == [4.0] * 4  # 1.5 * (2 * 1 + 1) - 0.5


def test_each_output_channel_has_its_own_scale(rng: np.random.Generator) -> None:
    weights = {"w": rng.standard_normal((3, 2, 3, 3)), **parameters(1, -2, 0.5)}
    before = model([helper.make_node("Conv", ["x", "w"], ["c"]), norm("c", "y")], ["N", 2, 5, 5], weights)
    assert_same_outputs(before, fold_batch_norms(before), rng.standard_normal((2, 2, 5, 5)))


def test_a_depthwise_convolution_folds_too(rng: np.random.Generator) -> None:
    weights = {"w": rng.standard_normal((3, 1, 3, 3)), **parameters(1, -2, 0.5)}
    before = model([helper.make_node("Conv", ["x", "w"], ["c"], group=3), norm("c", "y")], ["N", 3, 5, 5], weights)
    after = fold_batch_norms(before)
    assert operators(after) == ["Conv"]
    assert_same_outputs(before, after, rng.standard_normal((2, 3, 5, 5)))


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_folds_whichever_way_its_weights_lie(
    rng: np.random.Generator, transposed: int, bias: bool
) -> None:
    weights = {"w": rng.standard_normal((3, 4) if transposed else (4, 3)), **parameters(1, -2, 0.5)}
    if bias:
        weights["b"] = rng.standard_normal(3)
    gemm = helper.make_node("Gemm", ["x", "w", "b"] if bias else ["x", "w"], ["c"], transB=transposed)
    before = model([gemm, norm("c", "y")], ["N", 4], weights)
    after = fold_batch_norms(before)
    assert operators(after) == ["Gemm"]
    assert_same_outputs(before, after, rng.standard_normal((2, 4)))


def test_a_linear_layer_with_a_factor_keeps_it(rng: np.random.Generator) -> None:
    weights = {"w": rng.standard_normal((4, 3)), "b": rng.standard_normal(3), **parameters(1, -2, 0.5)}
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["c"], alpha=0.5, beta=2.0)
    before = model([gemm, norm("c", "y")], ["N", 4], weights)
    after = fold_batch_norms(before)
    assert operators(after) == ["Gemm", "Mul", "Add"]
    assert_same_outputs(before, after, rng.standard_normal((2, 4)))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_a_batch_norm_on_its_own_becomes_a_scale_and_a_shift(rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    before = model([helper.make_node("Relu", ["x"], ["r"]), norm("r", "y")], ["N", *shape[1:]], parameters(1, -2, 0.5))
    after = fold_batch_norms(before)
    assert operators(after) == ["Relu", "Mul", "Add"]
    assert_same_outputs(before, after, rng.standard_normal(shape))


def test_a_convolution_that_others_read_is_left_alone(rng: np.random.Generator) -> None:
    weights = {"w": rng.standard_normal((3, 3, 1, 1)), **parameters(1, -2, 0.5)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), norm("c", "n"), helper.make_node("Add", ["c", "n"], ["y"])]
    before = model(nodes, ["N", 3, 2, 2], weights)
    assert_same_outputs(before, fold_batch_norms(before), rng.standard_normal((2, 3, 2, 2)))


def test_a_convolution_that_is_an_output_is_left_alone(rng: np.random.Generator) -> None:
    weights = {"w": rng.standard_normal((3, 3, 1, 1)), **parameters(1, -2, 0.5)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), norm("c", "y")]
    before = model(nodes, ["N", 3, 2, 2], weights, outputs=("c", "y"))
    assert_same_outputs(before, fold_batch_norms(before), rng.standard_normal((2, 3, 2, 2)))


def test_weights_that_two_convolutions_share_fold_apart(rng: np.random.Generator) -> None:
    weights = {"w": rng.standard_normal((3, 3, 1, 1)), **parameters(1, -2, 0.5), **parameters(4, 5, 6, name="other")}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        norm("c", "d"),
        helper.make_node("Conv", ["d", "w"], ["e"]),
        norm("e", "y", "other"),
    ]
    before = model(nodes, ["N", 3, 2, 2], weights)
    after = fold_batch_norms(before)
    assert operators(after) == ["Conv", "Conv"]
    assert_same_outputs(before, after, rng.standard_normal((2, 3, 2, 2)))


def test_the_pass_does_not_change_its_graph() -> None:
    weights = {"w": np.full((1, 1, 1, 1), 2.0), **parameters(1)}
    before = model([helper.make_node("Conv", ["x", "w"], ["c"]), norm("c", "y")], ["N", 1, 2, 2], weights)
    bytes_before = before.model.SerializeToString(deterministic=True)
    fold_batch_norms(before)
    assert before.model.SerializeToString(deterministic=True) == bytes_before


def test_a_batch_norm_in_training_mode_is_refused() -> None:
    before = model([norm("x", "y", training_mode=1)], ["N", 1, 2, 2], parameters(1))
    with pytest.raises(ModelError, match=r"'y' is in training mode: call model\.eval"):
        fold_batch_norms(before)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
