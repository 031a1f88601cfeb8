"""Bias correction: the mean error of each channel, by a naive reference and on a model that hardly learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.small_network import CARD, Array, images_of, network, run
from onnx import numpy_helper

from reid_edge.errors import GateError, ModelError
from reid_edge.export.graph.graph import Graph, finish
from reid_edge.export.int8.bias import bias_corrected, mean_errors
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.convert import int8_from_fp32
from reid_edge.export.int8.plan import Int8Options, plan_int8
from reid_edge.export.int8.qdq import quantized
from reid_edge.export.parity.compare import compare
from reid_edge.export.parity.limits import THRESHOLDS
from reid_edge.export.parity.structure import check_structure

CONV1, FC = "model.backbone.conv1.bias", "model.fc.0.bias"


def rounded_to(values: Array, amax: float) -> Array:
    step = np.float32(amax / 127)
    return np.clip(np.rint(values / step), -127, 127) * step


def test_the_mean_errors_by_a_naive_reference(weights: dict[str, Array]) -> None:
    """The first convolution and the last Gemm in numpy, on FP32 values: what rounding adds, averaged."""
    graph, images = network(weights), images_of(6)
    ranges = ranges_over(graph, images, "mse", 1)
    errors = mean_errors(graph, quantized(graph, ranges), images, 1)
    assert set(errors) == {CONV1, FC}  # the others have no bias

    normal = images.transpose(0, 3, 1, 2).astype(np.float32) / 100
    kernel = weights["model.backbone.conv1.weight"].astype(np.float32)
    steps = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True) / 127
    windows = np.lib.stride_tricks.sliding_window_view(normal, (3, 3), axis=(2, 3))  # [N, 3, 14, 14, 3, 3]
    exact = np.einsum("nchwij,ocij->nohw", windows, kernel)
    found = np.einsum("nchwij,ocij->nohw", rounded_to(windows, ranges["normal"]), np.rint(kernel / steps) * steps)
    np.testing.assert_allclose(errors[CONV1], (found - exact).mean(axis=(0, 2, 3)), atol=1e-4)
    assert errors[FC].shape == (8,) and np.abs(errors[FC]).max() > 0


def test_the_mean_of_each_channel_is_right_again(weights: dict[str, Array]) -> None:
    graph, images = network(weights), images_of(16)
    int8 = quantized(graph, {**ranges_over(graph, images, "mse", 1), "normal": 2.45})  # clips a little
    errors = mean_errors(graph, int8, images, 1)
    again = bias_corrected(int8, errors)
    assert np.abs(errors[CONV1]).max() > 0.003
    means = [_means(each, "map1", images) for each in (graph, int8, again)]
    np.testing.assert_allclose(means[1] - means[0], errors[CONV1], atol=1e-4)
    np.testing.assert_allclose(means[2], means[0], atol=1e-4)


def test_errors_that_are_not_finite_are_refused(weights: dict[str, Array]) -> None:
    """Outputs at the end of float32: calibration reads inputs alone."""
    weights[FC.replace("bias", "weight")] *= 1e38
    graph, images = network(weights), images_of(4)
    int8 = quantized(graph, ranges_over(graph, images, "mse", 1))
    with pytest.raises(ModelError, match="what rounding adds to 'feature' is not finite on these crops"):
        mean_errors(graph, int8, images, 1)


def _means(graph: Graph, value: str, images: Array) -> Array:
    from reid_edge.export.graph.session import open_session

    (array,) = open_session(graph.with_outputs([value]), 1).run([value], {"images": images})
    return np.asarray(array.mean(axis=(0, 2, 3)))


def test_a_network_without_biases_stays_as_it_is(weights: dict[str, Array]) -> None:
    graph, images = network(weights), images_of(4)
    int8 = quantized(graph, ranges_over(graph, images, "minmax", 1), ["backbone.conv1", "fc"])
    assert mean_errors(graph, int8, images, 1) == {}


def test_a_corrected_file_is_the_model_without_its_rounding(
    weights: dict[str, Array], people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    graph, crops = network(weights), images_of(16)
    plan = plan_int8(graph, CARD, Int8Options(calibrate=people, threads=1))
    int8, card = int8_from_fp32(graph, CARD, plan)
    assert {name for name in int8.constants if name.endswith(".corrected")} == {f"{CONV1}.corrected", f"{FC}.corrected"}
    reference = run(graph, crops)
    check_structure(int8, card, graph.constants, reference, crops, THRESHOLDS["fp32"])
    for change, said in ((0.0, "model.backbone.conv1.bias are"), (10.0, "model.backbone.conv1.bias are")):
        edited = int8.copy()
        for tensor in edited.graph.initializer:
            if tensor.name == f"{CONV1}.corrected":
                tensor.CopyFrom(numpy_helper.from_array(np.full(4, change, np.float32), tensor.name))
        with pytest.raises(GateError, match=said.removeprefix("model.")):
            check_structure(finish(edited), card, graph.constants, reference, crops, THRESHOLDS["fp32"])


def test_correction_brings_embeddings_nearer(weights: dict[str, Array]) -> None:
    """What all crops share is large and what tells them apart is small, as in a model that has hardly learned."""
    weights["model.backbone.conv1.weight"] *= 0.1
    weights["model.backbone.conv1.bias"] = np.array([5.0, 9.0, 7.0, 3.0])
    graph, images = network(weights), images_of(64)
    int8 = quantized(graph, ranges_over(graph, images, "mse", 1), ["backbone.block"])
    exact = run(graph, images)
    before = compare(exact, run(int8, images))
    after = compare(exact, run(bias_corrected(int8, mean_errors(graph, int8, images, 1)), images))
    assert after.relative_error < 0.8 * before.relative_error
