"""Activation ranges: what they are measured on, and what the cache keeps of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from helpers.small_network import CARD, Array, images_of, network
from onnx import ModelProto, TensorProto, helper, numpy_helper

from reid_edge.card import ModelCard
from reid_edge.data.datasets import open_dataset
from reid_edge.data.records import Crop
from reid_edge.errors import InputError, ModelError
from reid_edge.export.graph.graph import Graph
from reid_edge.export.int8.calibrate import calibrated_ranges, ranges_over
from reid_edge.export.int8.crops import CalibrationCrops, calibration_crops
from reid_edge.export.int8.histogram import METHODS
from reid_edge.export.int8.layers import quantized_values

FP32 = TensorProto.FLOAT


@pytest.mark.parametrize("method", METHODS)
def test_calibration_sees_all_crops_and_both_signs(weights: dict[str, Array], method: str) -> None:
    weights["model.backbone.conv1.bias"][:] = -5.0
    graph = network(weights)
    graph.model.graph.node[4].op_type = "Identity"  # what the depthwise convolution reads is negative nearly everywhere
    images = np.concatenate([images_of(8, high=20), images_of(1)])  # the last, ragged batch is the brightest
    session = onnxruntime.InferenceSession(_showing(graph, "relu1").SerializeToString())
    relu1 = session.run(["relu1"], {"images": images})[0]
    ranges = ranges_over(graph, images, method, 1)
    assert list(ranges) == quantized_values(graph)
    assert -relu1.min() > 2 * relu1.max(), "the test cannot tell the signs"
    clipped = (np.abs(relu1) > ranges["relu1"] * 1.001).mean()
    assert clipped == 0 if method == "minmax" else clipped < 0.01
    assert ranges["normal"] > 0.3, "the last batch was left out"


def _showing(graph: Graph, value: str) -> ModelProto:
    model = ModelProto.FromString(graph.model.SerializeToString())
    model.graph.output.append(helper.make_tensor_value_info(value, FP32, None))
    return model


def test_minmax_is_the_largest_magnitude(weights: dict[str, Array]) -> None:
    graph, images = network(weights), images_of(9)
    session = onnxruntime.InferenceSession(_showing(graph, "gated").SerializeToString())
    exact = np.abs(session.run(["gated"], {"images": images})[0]).max()
    assert ranges_over(graph, images, "minmax", 1)["gated"] == pytest.approx(exact, rel=1e-5)


def test_a_model_that_overflows_is_refused_by_value(weights: dict[str, Array]) -> None:
    weights["model.backbone.block.0.depthwise.weight"][:] = 3e38
    with pytest.raises(ModelError, match="value 'gated' of the FP32 model is not finite"):
        ranges_over(network(weights), images_of(), "minmax", 1)


def test_one_value_that_is_no_number_is_seen(weights: dict[str, Array]) -> None:
    """Zero times infinity in a single place of a map, with larger numbers in other batches."""
    graph = network(weights)
    graph.model.graph.node[4].op_type = "Log"  # of negative numbers
    with pytest.raises(ModelError, match="is not finite"):
        ranges_over(Graph(graph.model), images_of(), "mse", 1)


def test_sums_beyond_float32_are_no_matter_of_calibration(weights: dict[str, Array]) -> None:
    """Each number of the map is finite, their sum is not."""
    weights["model.backbone.block.0.depthwise.weight"][:] *= 1e36
    weights["model.backbone.block.1.conv.weight"][:] /= 1e36
    assert 1e36 < ranges_over(network(weights), images_of(8), "minmax", 1)["gated"] < 3e38


def test_activations_of_any_size_are_bounded_before_they_are_computed(weights: dict[str, Array]) -> None:
    """One Resize makes a map of 2.2 TB, which a convolution reads and writes: refused by its shape."""
    graph = network(weights)
    nodes = graph.model.graph.node
    place = next(i for i, node in enumerate(nodes) if node.name == "c3")
    sizes = numpy_helper.from_array(np.array([1, 4, 2**17, 2**18], np.int64), "sizes")
    graph.model.graph.initializer.append(sizes)
    nodes.insert(place, helper.make_node("Resize", ["relu1", "", "", "sizes"], ["huge"], name="huge"))
    nodes[place + 1].input[0] = "huge"
    with pytest.raises(ModelError, match=r"take 4398 GB for 4 crops \(at most 9\), 'huge' the largest"):
        ranges_over(Graph(graph.model), images_of(1), "minmax", 1)


def test_an_unknown_method_is_refused(weights: dict[str, Array]) -> None:
    with pytest.raises(InputError, match="method 'entropy' is unknown: give one of minmax, percentile, mse"):
        ranges_over(network(weights), images_of(), "entropy")


def test_noise_gives_other_ranges_than_crops(weights: dict[str, Array], people: Path, tmp_path: Path) -> None:
    """Noise has no two equal neighbours, so that the means of its maps lie elsewhere."""
    graph = network(weights)
    crops = calibration_ranges(graph, people, tmp_path)
    noise = ranges_over(graph, images_of(36), "mse", 1)
    assert max(abs(crops[name] / noise[name] - 1) for name in crops) > 0.2


def calibration_ranges(graph: Graph, people: Path, folder: Path, method: str = "mse") -> dict[str, float]:
    return calibrated_ranges(graph, crops_for(calibration_crops(open_dataset(people))), method, folder, threads=1)


def crops_for(crops: Sequence[Crop], card: ModelCard = CARD) -> CalibrationCrops:
    return CalibrationCrops(tuple(crops), "people", 0, card.input_hw, card.resize)


def test_ranges_are_kept_for_this_model_and_these_crops_only(
    weights: dict[str, Array], people: Path, tmp_path: Path
) -> None:
    graph, crops = network(weights), calibration_crops(open_dataset(people))
    first = calibrated_ranges(graph, crops_for(crops), folder=tmp_path, threads=1)
    (kept,) = tmp_path.iterdir()
    content = json.loads(kept.read_text())
    content["ranges"]["normal"] = 123.0
    kept.write_text(json.dumps(content))
    again = calibrated_ranges(graph, crops_for(crops), folder=tmp_path, threads=1)
    assert again == {**first, "normal": 123.0}, "the kept ranges were not read"

    other = network({**weights, "model.fc.0.bias": weights["model.fc.0.bias"] + 1e-3})
    copies = [Crop(tmp_path / "copy.jpg", crop.pid, crop.camid) for crop in crops[:1]]
    copies[0].path.write_bytes(crops[0].path.read_bytes())
    for changed in (
        calibrated_ranges(other, crops_for(crops), folder=tmp_path, threads=1),
        calibrated_ranges(graph, crops_for(crops, CARD.with_(resize="pillow-bilinear")), folder=tmp_path, threads=1),
        calibrated_ranges(graph, crops_for(crops), "minmax", folder=tmp_path, threads=1),
        calibrated_ranges(graph, crops_for(crops[1:]), folder=tmp_path, threads=1),
    ):
        assert changed["normal"] != 123.0
    moved = calibrated_ranges(graph, crops_for([*copies, *crops[1:]]), folder=tmp_path, threads=1)
    assert moved["normal"] == 123.0, "a crop is known by its bytes, not by its path"


@pytest.mark.parametrize("damage", ["", "{}", '{"ranges": {"normal": 1}}', '{"ranges": null}'])
def test_a_damaged_cache_is_measured_anew(weights: dict[str, Array], people: Path, tmp_path: Path, damage: str) -> None:
    first = calibration_ranges(network(weights), people, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text(damage)
    assert calibration_ranges(network(weights), people, tmp_path) == first


def test_a_graph_without_layers_is_refused_with_the_option(weights: dict[str, Array]) -> None:
    graph = network(weights)
    for node in graph.model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            node.op_type = "Identity"  # as a model of averages is
    with pytest.raises(ModelError, match=r"no convolution or matrix product to quantise: leave --int8"):
        ranges_over(Graph(graph.model), images_of(2), "minmax", 1)
