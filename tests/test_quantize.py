"""INT8: where numbers are rounded and by how much, what calibration sees, which layers lose most, and for whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, shape_inference
from small_network import CARD, DIM, Array, images_of, model_of, network, random_weights, run

from reid_edge.datasets import Dataset, open_dataset
from reid_edge.engine_onnx import OnnxEngine
from reid_edge.errors import DatasetError, GateError, InputError, ModelError
from reid_edge.export.calibrate import (
    calibrated_ranges,
    calibration_crops,
    calibration_note,
    ranges_over,
)
from reid_edge.export.fp16 import fp16_from_fp32, simulated_fp16, stores_fp16
from reid_edge.export.graph import constants, read_fp32, write_onnx
from reid_edge.export.histogram import BINS, METHODS, histogram_of, mse_range, percentile_range
from reid_edge.export.int8 import Int8Options, int8_from_fp32
from reid_edge.export.int8_layers import (
    default_keep,
    depthwise_layers,
    gate_layers,
    layers,
    named,
    quantized_values,
)
from reid_edge.export.parity import THRESHOLDS, check_parity, compare
from reid_edge.export.quantize import quantized, weight_scales
from reid_edge.export.quantize_cpu import CpuTimes, quantized_for_cpu, require_faster, time_on_cpu
from reid_edge.export.sensitivity import draw_sensitivity, keep_from_json, sensitivity
from reid_edge.layouts import Listing
from reid_edge.records import Crop, Split
from reid_edge.synthetic import synthesize

FP32 = TensorProto.FLOAT


@pytest.fixture
def weights() -> dict[str, Array]:
    return random_weights()


def fake(x: Array, scale: Any) -> Array:
    """What a symmetric int8 Q/DQ pair does, in float32."""
    answer: Array = np.clip(np.rint(x / scale), -128, 127).astype(np.float32) * np.float32(scale)
    return answer


def one_conv(weight: Any) -> ModelProto:
    """A single 1x1 convolution from 3 channels, then the global mean."""
    nodes = [
        helper.make_node("Conv", ["normal", "model.only.weight"], ["map"], name="c"),
        helper.make_node("ReduceMean", ["map", "area"], ["feature"], name="m", keepdims=0),
    ]
    return model_of(nodes, {"model.only.weight": weight}, dim=len(weight))


def test_the_scales_of_one_convolution_by_hand() -> None:
    """The range 2.54 in 127 steps is 0.02 a step; weights up to 1.27 have steps of 0.01, up to 0.635 of 0.005."""
    weight = np.array([[1.27, -0.5, 0.014], [0.635, 0, -0.0126]]).reshape(2, 3, 1, 1)
    held = constants(quantized(one_conv(weight), {"normal": 2.54}).graph)
    assert held["normal.scale"] == pytest.approx(0.02)
    np.testing.assert_allclose(held["model.only.weight.scale"], [0.01, 0.005], rtol=1e-6)
    assert held["model.only.weight.int8"].reshape(2, 3).tolist() == [[127, -50, 1], [127, 0, -3]]
    assert held["model.only.weight.int8"].dtype == np.int8
    assert {held["zero.int8"].item(), *held["model.only.weight.zero"].tolist()} == {0}
    assert "model.only.weight" not in held, "the float weights travel on"


def test_pairs_are_on_the_inputs_of_conv_and_gemm_only(weights: dict[str, Array]) -> None:
    model = network(weights)
    int8 = quantized(model, dict.fromkeys(quantized_values(model), 3.0))
    made_by = {node.output[0]: node for node in int8.graph.node}
    readers = {name: [n for n in int8.graph.node if name in n.input] for name in made_by}
    for node in int8.graph.node:
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
    pairs = [node.input[0] for node in int8.graph.node if node.op_type == "QuantizeLinear"]
    assert pairs == ["normal", "squeezed", "relu1", "gated", "vector"]
    assert [node.op_type for node in model.graph.node].count("QuantizeLinear") == 0, "the model given was changed"
    assert {o.version for o in int8.opset_import} == {18}
    assert all(a.dtype == np.float32 for name, a in constants(int8.graph).items() if name.endswith("scale"))


def test_weight_scales_against_a_naive_loop() -> None:
    rng = np.random.default_rng(3)
    for shape, axis in (((5, 3, 2, 2), 0), ((4, 7), 0), ((4, 7), 1)):
        weight = rng.standard_normal(shape).astype(np.float32)
        naive = [max(abs(float(v)) for v in np.take(weight, i, axis).ravel()) / 127 for i in range(shape[axis])]
        np.testing.assert_allclose(weight_scales(weight, axis), naive, rtol=1e-6)


def test_a_gemm_has_its_channels_where_transb_says(weights: dict[str, Array]) -> None:
    model = network({**weights, "model.fc.0.weight": weights["model.fc.0.weight"].T})
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    del gemm.attribute[:]
    ranges = ranges_over(model, images_of(), "minmax", 1)
    int8 = quantized(model, ranges)
    assert constants(int8.graph)["model.fc.0.weight.scale"].shape == (DIM,)
    upright = quantized(network(weights), ranges)
    np.testing.assert_allclose(run(int8, images_of()), run(upright, images_of()), atol=1e-6)


def test_a_dead_channel_and_a_value_that_is_always_zero_stay_zero(weights: dict[str, Array]) -> None:
    """TensorRT wants every scale positive."""
    weights["model.trunk.conv1.weight"][2] = 0
    model = network(weights)
    ranges = ranges_over(model, images_of(), "minmax", 1)
    int8 = quantized(model, {**ranges, "gated": 0.0})
    held = constants(int8.graph)
    assert all((array > 0).all() for name, array in held.items() if name.endswith(".scale"))
    assert not held["model.trunk.conv1.weight.int8"][2].any()
    assert np.isfinite(run(int8, images_of())).all()


def test_the_answer_is_that_of_a_numpy_reference(weights: dict[str, Array]) -> None:
    weight = np.asarray(weights["model.trunk.conv1.weight"][:, :, :1, :1], np.float32)
    model, images = one_conv(weight), images_of()
    scale = np.float32(2.0 / 127)  # below the largest 2.55: what is beyond is clipped
    pixels = fake(images.astype(np.float32) / np.float32(100), scale)
    rows = np.stack([fake(row, np.float32(np.abs(row).max()) / np.float32(127)) for row in weight[:, :, 0, 0]])
    feature = (pixels @ rows.T).mean(axis=(1, 2))  # [N, 4]
    expected = feature / np.linalg.norm(feature, axis=1, keepdims=True)
    np.testing.assert_allclose(run(quantized(model, {"normal": 2.0}), images), expected, atol=2e-6)
    assert np.abs(run(model, images) - expected).max() > 1e-3, "the test cannot tell INT8 from FP32"


def test_int8_is_near_fp32_and_not_equal(weights: dict[str, Array]) -> None:
    model, images = network(weights), images_of()
    ranges = ranges_over(model, images, "minmax", 1)
    exact = run(model, images)
    found = compare(exact, run(quantized(model, ranges), images))
    assert 0.99 < found.cosine_min < 1 - 1e-7
    np.testing.assert_allclose(run(quantized(model, ranges, keep=list(layers(model))), images), exact, atol=1e-6)


def test_what_is_not_int8_goes_to_fp16_and_the_pairs_stay(weights: dict[str, Array]) -> None:
    """Scales and what INT8 layers write stay FP32: TensorRT 10.3 reads that, and ONNX Runtime computes it rightly.

    So does the Relu after the last convolution, for both its neighbours are INT8.
    """
    model, images = network(weights), images_of()
    ranges = ranges_over(model, images, "minmax", 1)
    int8 = quantized(model, ranges, default_keep(model))
    half = fp16_from_fp32(int8)
    assert stores_fp16(half) and not stores_fp16(int8) and [one.version for one in half.opset_import] == [18]
    made = {node.output[0]: node.op_type for node in half.graph.node}
    kinds = {node.name: [made.get(value) for value in node.input[:2]] for node in half.graph.node}
    assert kinds["c1"] == kinds["c4"] == kinds["g"] == ["DequantizeLinear", "DequantizeLinear"]
    assert kinds["c2"] == ["ReduceMean", None] and kinds["c3"] == ["Relu", None]
    inferred = shape_inference.infer_shapes(half).graph.value_info
    types = {value.name: value.type.tensor_type.elem_type for value in inferred}
    in_half = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    casts = {"map1_fp16"}
    assert in_half == {"relu1", "squeezed", "excited", "gate", "map2", "gated"} | casts
    assert run(half, images) == pytest.approx(run(int8, images), abs=0.01)
    assert not stores_fp16(fp16_from_fp32(quantized(model, ranges))), "nothing is left to compute in FP16"
    # The last layers' rounding to INT8 hides FP16's: without it, that shows, and is small.
    open_ended = quantized(model, ranges, {*default_keep(model), "trunk.block.1.conv", "fc.0"})
    away = np.abs(run(simulated_fp16(fp16_from_fp32(open_ended)), images) - run(open_ended, images)).max()
    assert 1e-6 < away < 0.01


def test_onnx_runtimes_quantizer_chooses_the_same_numbers(weights: dict[str, Array], tmp_path: Path) -> None:
    """The comparison that `quantize` tells of: inputs only, biases in float, ranges of the same crops."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    model, images = network(weights), images_of()

    class Once(CalibrationDataReader):  # type: ignore[misc]
        left = [images]

        def get_next(self) -> dict[str, Any] | None:
            return {"images": self.left.pop()} if self.left else None

    onnx.save(model, str(tmp_path / "fp32.onnx"))
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
    theirs = constants(onnx.load(tmp_path / "int8.onnx").graph)
    ours = constants(quantized(model, ranges_over(model, images, "minmax", 1)).graph)
    for value in quantized_values(model):
        # Some versions put the range into 255 half steps, others, as we do, into 127 steps.
        assert theirs[f"{value}_scale"] == pytest.approx(ours[f"{value}.scale"], rel=5e-3)
    for weight in (name for name in weights if name.endswith(".weight")):
        assert np.abs(theirs[f"{weight}_quantized"].astype(int) - ours[f"{weight}.int8"]).max() <= 1


def test_layers_have_the_names_of_their_modules(weights: dict[str, Array]) -> None:
    model = network(weights)
    names = ["trunk.conv1", "trunk.block.0.gate.fc", "trunk.block.0.depthwise", "trunk.block.1.conv", "fc.0"]
    assert list(layers(model)) == names
    assert depthwise_layers(model) == {"trunk.block.0.depthwise"}
    assert gate_layers(model) == {"trunk.block.0.gate.fc"}
    assert default_keep(model) == {"trunk.block.0.depthwise", "trunk.block.0.gate.fc"}


def test_a_name_keeps_all_that_is_below_it(weights: dict[str, Array]) -> None:
    model = network(weights)
    assert named(model, ["trunk.block.0", "fc"]) == {"trunk.block.0.gate.fc", "trunk.block.0.depthwise", "fc.0"}
    assert quantized_values(model, ["trunk.block.0", "fc"]) == ["normal", "gated"]
    with pytest.raises(InputError, match=r"no layer 'trunk\.conv' to keep: give some of trunk\.conv1,"):
        named(model, ["trunk.conv"])


def test_a_module_called_twice_is_stored_and_kept_once(weights: dict[str, Array]) -> None:
    model = network(weights)
    again = helper.make_node("Conv", ["gate", "model.trunk.block.0.gate.fc.weight"], ["gate2"], name="again")
    model.graph.node.insert(8, again)
    model.graph.node[10].input[1] = "gate2"
    assert [node.name for node in layers(model)["trunk.block.0.gate.fc"]] == ["c2", "again"]
    int8 = quantized(model, dict.fromkeys(quantized_values(model), 3.0))
    read = [node.input[1] for node in int8.graph.node if node.name in {"c2", "again"}]
    assert read == ["model.trunk.block.0.gate.fc.weight.dq"] * 2
    run(int8, images_of())


def test_ranges_of_another_model_are_refused(weights: dict[str, Array]) -> None:
    model = network(weights)
    with pytest.raises(ModelError, match="4 values have no range, 'gated' first: calibrate this very model"):
        quantized(model, {"normal": 1.0})
    with pytest.raises(ModelError, match="the range of 'normal' is nan: calibrate again"):
        quantized(model, {**dict.fromkeys(quantized_values(model), 1.0), "normal": float("nan")})


def test_percentile_against_sorting() -> None:
    numbers = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    peak = float(np.abs(numbers).max())
    found = percentile_range(histogram_of(numbers, peak), peak, 99)
    assert found == pytest.approx(np.sort(np.abs(numbers))[19799], abs=1.01 * peak / BINS)


def test_the_search_against_trying_every_range_on_the_numbers_themselves() -> None:
    """Most within 1 and one outlier at 10: keeping it would make every step eight times as wide."""
    numbers = np.append(np.random.default_rng(0).uniform(-1, 1, 50000), 10).astype(np.float32)
    tried = 10 * np.arange(16, 257) / 256
    errors = [float(((numbers - np.clip(np.rint(numbers * 127 / t), -127, 127) * t / 127) ** 2).sum()) for t in tried]
    found = mse_range(histogram_of(numbers, 10.0), 10.0)
    # Rounding to the histogram's bins may prefer a neighbour of equal worth, not another region.
    assert errors[int(np.argmin(np.abs(tried - found)))] <= min(errors) * 1.01
    assert found < 10


def test_the_search_clips_nothing_where_nothing_is_gained() -> None:
    even = np.full(BINS, 7)
    assert mse_range(even, 4.0) == pytest.approx(4.0, rel=0.02)
    assert mse_range(np.zeros(BINS, np.int64), 0.0) == 0


def test_a_histogram_counts_every_number_once() -> None:
    counts = histogram_of(np.array([[0, -1.0], [0.5, 1.0]], np.float32), 1.0)
    assert counts.sum() == 4
    assert (counts[0], counts[BINS // 2], counts[-1]) == (1, 1, 2)


@pytest.mark.parametrize("method", METHODS)
def test_calibration_sees_all_crops_and_both_signs(weights: dict[str, Array], method: str) -> None:
    weights["model.trunk.conv1.bias"][:] = -5.0
    model = network(weights)
    model.graph.node[4].op_type = "Identity"  # what the depthwise convolution reads is negative nearly everywhere
    images = np.concatenate([images_of(8, high=20), images_of(1)])  # the last, ragged batch is the brightest
    session = onnxruntime.InferenceSession(_showing(model, "relu1").SerializeToString())
    relu1 = session.run(["relu1"], {"images": images})[0]
    ranges = ranges_over(model, images, method, 1)
    assert list(ranges) == quantized_values(model)
    assert -relu1.min() > 2 * relu1.max(), "the test cannot tell the signs"
    clipped = (np.abs(relu1) > ranges["relu1"] * 1.001).mean()
    assert clipped == 0 if method == "minmax" else clipped < 0.01
    assert ranges["normal"] > 0.3, "the last batch was left out"


def _showing(model: ModelProto, value: str) -> ModelProto:
    model = ModelProto.FromString(model.SerializeToString())
    model.graph.output.append(helper.make_tensor_value_info(value, FP32, None))
    return model


def test_minmax_is_the_largest_magnitude(weights: dict[str, Array]) -> None:
    model, images = network(weights), images_of(9)
    session = onnxruntime.InferenceSession(_showing(model, "gated").SerializeToString())
    exact = np.abs(session.run(["gated"], {"images": images})[0]).max()
    assert ranges_over(model, images, "minmax", 1)["gated"] == pytest.approx(exact, rel=1e-5)


def test_a_model_that_overflows_is_refused_by_value(weights: dict[str, Array]) -> None:
    weights["model.trunk.block.0.depthwise.weight"][:] = 3e38
    with pytest.raises(ModelError, match="value 'gated' of the FP32 model is not finite"):
        ranges_over(network(weights), images_of(), "minmax", 1)


def test_an_unknown_method_is_refused(weights: dict[str, Array]) -> None:
    with pytest.raises(InputError, match="method 'entropy' is unknown: give one of minmax, percentile, mse"):
        ranges_over(network(weights), images_of(), "entropy")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "people"
    return synthesize(out, people=6, test_people=2, cameras=3, progress=False)


def dataset_of(crops: list[Crop]) -> Dataset:
    return Dataset("made", "manifest", Path("made.csv"), Listing(Split(train=tuple(crops))))


def test_crops_are_balanced_over_people_and_cameras() -> None:
    """Person 0 has 100 crops of camera 0; five others have 4 of each of three cameras."""
    crops = [Crop(Path(f"0_{i}"), 0, 0) for i in range(100)]
    crops += [Crop(Path(f"{p}_{c}_{i}"), p, c) for p in range(1, 6) for c in range(3) for i in range(4)]
    chosen = calibration_crops(dataset_of(crops), count=24)
    assert [sum(crop.pid == pid for crop in chosen) for pid in range(6)] == [4] * 6
    assert [sum(crop.camid == camera for crop in chosen) for camera in range(3)] == [8] * 3
    assert len(set(chosen)) == 24


def test_crops_are_chosen_by_seed_and_all_are_taken_when_they_are_few() -> None:
    crops = [Crop(Path(f"{p}_{i}"), p, i % 2) for p in range(10) for i in range(6)]
    chosen = calibration_crops(dataset_of(crops), 20, seed=1)
    assert chosen == calibration_crops(dataset_of(crops), 20, seed=1) != calibration_crops(dataset_of(crops), 20, 2)
    assert sorted(map(str, calibration_crops(dataset_of(crops), 512))) == sorted(map(str, crops))


def test_only_training_crops_are_taken(people: Path) -> None:
    split = open_dataset(people).split
    assert set(calibration_crops(open_dataset(people))) == set(split.train)


def test_without_crops_there_is_no_calibration(weights: dict[str, Array], people: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no training crops: calibrate INT8 on training crops: give --calibrate"):
        calibration_crops(dataset_of([]))
    with pytest.raises(DatasetError, match="no crops were given: calibrate INT8"):
        calibrated_ranges(network(weights), CARD, [], folder=tmp_path)
    with pytest.raises(InputError, match="0 calibration crops show no range"):
        calibration_crops(open_dataset(people), 0)
    with pytest.raises(InputError, match="INT8 needs training crops to find its ranges: add --calibrate DATASET"):
        int8_from_fp32(network(weights), CARD, Int8Options())


def test_noise_gives_other_ranges_than_crops(weights: dict[str, Array], people: Path, tmp_path: Path) -> None:
    """Noise has no two equal neighbours, so that the means of its maps lie elsewhere."""
    model = network(weights)
    crops = calibration_ranges(model, people, tmp_path)
    noise = ranges_over(model, images_of(36), "mse", 1)
    assert max(abs(crops[name] / noise[name] - 1) for name in crops) > 0.2


def calibration_ranges(model: ModelProto, people: Path, folder: Path, method: str = "mse") -> dict[str, float]:
    return calibrated_ranges(model, CARD, calibration_crops(open_dataset(people)), method, folder, threads=1)


def test_ranges_are_kept_for_this_model_and_these_crops_only(
    weights: dict[str, Array], people: Path, tmp_path: Path
) -> None:
    model, crops = network(weights), calibration_crops(open_dataset(people))
    first = calibrated_ranges(model, CARD, crops, folder=tmp_path, threads=1)
    (kept,) = tmp_path.iterdir()
    content = json.loads(kept.read_text())
    content["ranges"]["normal"] = 123.0
    kept.write_text(json.dumps(content))
    again = calibrated_ranges(model, CARD, crops, folder=tmp_path, threads=1)
    assert again == {**first, "normal": 123.0}, "the kept ranges were not read"

    other = network({**weights, "model.fc.0.bias": weights["model.fc.0.bias"] + 1e-3})
    copies = [Crop(tmp_path / "copy.jpg", crop.pid, crop.camid) for crop in crops[:1]]
    copies[0].path.write_bytes(crops[0].path.read_bytes())
    for changed in (
        calibrated_ranges(other, CARD, crops, folder=tmp_path, threads=1),
        calibrated_ranges(model, CARD.with_(resize="pillow-bilinear"), crops, folder=tmp_path, threads=1),
        calibrated_ranges(model, CARD, crops, "minmax", folder=tmp_path, threads=1),
        calibrated_ranges(model, CARD, crops[1:], folder=tmp_path, threads=1),
    ):
        assert changed["normal"] != 123.0
    moved = calibrated_ranges(model, CARD, [*copies, *crops[1:]], folder=tmp_path, threads=1)
    assert moved["normal"] == 123.0, "a crop is known by its bytes, not by its path"


@pytest.mark.parametrize("damage", ["", "{}", '{"ranges": {"normal": 1}}', '{"ranges": null}'])
def test_a_damaged_cache_is_measured_anew(weights: dict[str, Array], people: Path, tmp_path: Path, damage: str) -> None:
    first = calibration_ranges(network(weights), people, tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text(damage)
    assert calibration_ranges(network(weights), people, tmp_path) == first


def test_sensitivity_finds_a_planted_bad_layer(weights: dict[str, Array]) -> None:
    """One channel 300 times as large as the others, where the next weights are as much smaller: FP32 does not mind."""
    weights["model.trunk.block.0.depthwise.weight"][0] *= 300
    weights["model.trunk.block.1.conv.weight"][:, 0] /= 300
    model, images = network(weights), images_of(16)
    result = sensitivity(model, ranges_over(model, images, "minmax", 1), images, target=0.9999, threads=1)
    assert result.alone[0].name == "trunk.block.1.conv"
    assert [one.cosine_mean for one in result.alone] == sorted(one.cosine_mean for one in result.alone)
    assert result.keep[:1] == ("trunk.block.1.conv",)
    assert {one.name: one.kind for one in result.alone}["trunk.block.0.gate.fc"] == "gate"


def test_sensitivity_keeps_nothing_when_nothing_is_lost(weights: dict[str, Array]) -> None:
    model, images = network(weights), images_of(8)
    ranges = ranges_over(model, images, "minmax", 1)
    result = sensitivity(model, ranges, images, target=0.9, always=["fc"], threads=1)
    assert (result.keep, result.always, result.reached) == ((), ("fc.0",), True)
    assert "fc.0" not in {one.name for one in result.alone}
    assert "none needs to be kept" in result.why()


def test_sensitivity_says_when_the_target_is_missed(weights: dict[str, Array]) -> None:
    model, images = network(weights), images_of(8)
    result = sensitivity(model, ranges_over(model, images, "minmax", 1), images, target=1.1, threads=1)
    assert not result.reached
    assert [step.kept for step in result.ladder] == [0, 1, 2]
    assert "which still misses it: try --qat" in result.why()


def test_blocks_are_measured_together(weights: dict[str, Array]) -> None:
    model, images = network(weights), images_of(8)
    result = sensitivity(model, ranges_over(model, images, "minmax", 1), images, by="block", threads=1)
    assert {one.name for one in result.alone} == {"trunk.conv1", "trunk.block.0", "trunk.block.1", "fc.0"}
    with pytest.raises(InputError, match="sensitivity by 'channel' is unknown: give one of layer, block"):
        sensitivity(model, {}, images, by="channel")


def test_what_sensitivity_writes_can_be_fed_back(weights: dict[str, Array], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the report extra")
    model, images = network(weights), images_of(8)
    ranges = ranges_over(model, images, "minmax", 1)
    result = sensitivity(model, ranges, images, target=1.1, always=["fc.0"], threads=1)
    (tmp_path / "s.json").write_text(result.to_json())
    keep = keep_from_json(tmp_path / "s.json")
    assert keep == ["fc.0", *result.keep]
    quantized(model, ranges, keep)
    draw_sensitivity(result, tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "bad.json").write_text('{"keep": "fc"}')
    with pytest.raises(InputError, match=r'bad\.json has no "keep": \[names\]'):
        keep_from_json(tmp_path / "bad.json")


def test_a_file_says_how_it_was_calibrated_and_is_read_back(
    weights: dict[str, Array], people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    model = network(weights)
    crops = calibration_crops(open_dataset(people), 20, 3)
    graph, card = int8_from_fp32(model, CARD, Int8Options(people, count=20, seed=3, threads=1))
    assert card.precision == "int8"
    assert card.calibration.startswith("tensorrt: mse on 20 training crops of 6 people, 3 cameras, people, seed 3")
    assert calibration_note(crops, "mse", "people", 3) in card.calibration
    assert card.calibration.endswith("the rest in fp16, with 2 layers: trunk.block.0.depthwise, trunk.block.0.gate.fc")
    write_onnx(graph, card, tmp_path / "int8.onnx")
    with OnnxEngine(tmp_path / "int8.onnx", threads=1) as engine:
        assert engine.card == card
        np.testing.assert_allclose(engine.run(images_of()), run(graph, images_of()), atol=1e-6)
    with pytest.raises(ModelError, match=r"int8\.onnx is int8, and other precisions are made from FP32"):
        read_fp32(tmp_path / "int8.onnx")


def test_only_our_fp32_files_are_read(weights: dict[str, Array], tmp_path: Path) -> None:
    write_onnx(network(weights), CARD, tmp_path / "fp32.onnx")
    model, card = read_fp32(tmp_path / "fp32.onnx")
    assert card == CARD and list(layers(model)) == list(layers(network(weights)))
    onnx.save(network(weights), str(tmp_path / "theirs.onnx"))
    with pytest.raises(ModelError, match=r"theirs\.onnx was not written by reid-edge export"):
        read_fp32(tmp_path / "theirs.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"\x0b\x0c\x0d")
    with pytest.raises(ModelError, match=r"damaged\.onnx is no ONNX file"):
        read_fp32(tmp_path / "damaged.onnx")


def test_calibration_on_noise_does_not_pass_the_gate(weights: dict[str, Array], tmp_path: Path) -> None:
    """Noise of a tenth of the light: the ranges fit it, and clip everything in real crops."""
    model, images = network(weights), images_of(32)
    reference = run(model, images)
    dark = ranges_over(model, images_of(16, high=26), "mse", 1)
    true = ranges_over(model, images, "mse", 1)
    for name, ranges in (("dark", dark), ("true", true)):
        write_onnx(quantized(model, ranges), CARD.with_(precision="int8"), tmp_path / f"{name}.onnx")
    # The embeddings of noise are all alike, so that any rounding is large beside their spread.
    limits = THRESHOLDS["int8"].but(relative_error=1)
    with OnnxEngine(tmp_path / "true.onnx") as engine:
        check_parity(reference, engine, images, "int8", limits=limits)
    with (
        OnnxEngine(tmp_path / "dark.onnx") as engine,
        pytest.raises(GateError, match=r"int8 differs from the reference on 32 crops: cosine_min"),
    ):
        check_parity(reference, engine, images, "int8", limits=limits)


def test_the_cpus_graph_rounds_outputs_and_biases_too(weights: dict[str, Array]) -> None:
    model, images = network(weights), images_of(8)
    for_cpu = quantized_for_cpu(model, images)
    zeros = {array.dtype for name, array in constants(for_cpu.graph).items() if name.endswith("_zero_point")}
    assert np.dtype(np.uint8) in zeros
    assert any(array.dtype == np.int32 for array in constants(for_cpu.graph).values()), "no bias was rounded"
    inputs = {node.input[0] for node in for_cpu.graph.node if node.op_type == "QuantizeLinear"}
    assert inputs > set(quantized_values(model))
    assert not inputs & {"images", "float", "nchw", "norm", "embeddings"}
    assert compare(run(model, images), run(for_cpu, images)).cosine_min > 0.99


def test_the_cpus_graph_keeps_layers_too(weights: dict[str, Array]) -> None:
    model = network(weights)
    for_cpu = quantized_for_cpu(model, images_of(8), keep=["trunk.conv1"])
    held = constants(for_cpu.graph)
    assert held["model.trunk.conv1.weight"].dtype == np.float32
    assert held["model.fc.0.weight_quantized"].dtype == np.int8
    with pytest.raises(InputError, match="no crops were given"):
        quantized_for_cpu(model, images_of(0))


def test_a_cpu_file_that_is_slower_is_refused(weights: dict[str, Array]) -> None:
    slower = CpuTimes(fp32_ms=10, int8_ms=12.5, batch=1, threads=1)
    assert slower.speedup == 0.8
    with pytest.raises(GateError, match=r"INT8 does not pay on this CPU \(INT8 12\.5 ms, FP32 10\.0 ms.*0\.80 x\)"):
        require_faster(slower)
    require_faster(CpuTimes(fp32_ms=30, int8_ms=10, batch=1, threads=1))
    measured = time_on_cpu(network(weights), network(weights), images_of(2), runs=3, threads=1)
    assert measured.fp32_ms > 0 and measured.int8_ms > 0 and measured.batch == 2


@pytest.mark.slow
def test_int8_costs_a_real_model_under_one_point(
    dev_crops: Path, dev_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    from reid_edge.evaluation import evaluate
    from reid_edge.export.onnx import onnx_from_model
    from reid_edge.training.checkpoint import load_model

    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path))
    model, card = load_model(dev_weights, "osnet_x0_25")
    fp32 = onnx_from_model(model, card)
    int8, int8_card = int8_from_fp32(fp32, card, Int8Options(dev_crops))
    write_onnx(fp32, card, tmp_path / "fp32.onnx")
    write_onnx(int8, int8_card, tmp_path / "int8.onnx")
    exact, rounded = (evaluate(tmp_path / f"{name}.onnx", dev_crops).metrics for name in ("fp32", "int8"))
    assert exact.mAP > 0.40
    assert exact.mAP - rounded.mAP < 0.010
