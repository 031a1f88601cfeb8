"""INT8 graphs with their cards, as files that pass the gate or do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.small_network import CARD, Array, images_of, network, run

from reid_edge.data.datasets import open_dataset
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import GateError, ModelError
from reid_edge.export.graph.io import read_fp32, write_onnx
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.convert import int8_from_fp32
from reid_edge.export.int8.crops import CalibrationCrops, calibration_crops
from reid_edge.export.int8.plan import Int8Options, plan_int8
from reid_edge.export.int8.qdq import quantized
from reid_edge.export.parity.gate import check_parity
from reid_edge.export.parity.limits import THRESHOLDS


def test_a_file_says_how_it_was_calibrated_and_is_read_back(
    weights: dict[str, Array], people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))
    model = network(weights)
    crops = calibration_crops(open_dataset(people), 20, 3)
    options = Int8Options(calibrate=people, count=20, seed=3, threads=1)
    graph, card = int8_from_fp32(model, CARD, plan_int8(model, CARD, options))
    assert card.precision == "int8"
    assert card.calibration.startswith("tensorrt: mse on 20 training crops of 6 identities, 3 cameras, people, seed 3")
    assert CalibrationCrops(crops, "people", 3, CARD.input_hw, CARD.resize).note("mse") in card.calibration
    assert card.calibration.endswith(
        "fp16 around INT8, with 2 layers: backbone.block.0.depthwise, backbone.block.0.gate.fc"
    )
    write_onnx(graph, card, tmp_path / "int8.onnx")
    with OnnxEngine(tmp_path / "int8.onnx", threads=1) as engine:
        assert engine.card == card
        np.testing.assert_allclose(engine.run(images_of()), run(graph, images_of()), atol=1e-6)
    with pytest.raises(ModelError, match=r"int8\.onnx is int8, and other precisions are made from FP32"):
        read_fp32(tmp_path / "int8.onnx")


def test_only_our_fp32_files_are_read(weights: dict[str, Array], tmp_path: Path) -> None:
    write_onnx(network(weights), CARD, tmp_path / "fp32.onnx")
    model, card = read_fp32(tmp_path / "fp32.onnx")
    assert card == CARD and list(model.layers) == list(network(weights).layers)
    onnx.save(network(weights).model, str(tmp_path / "theirs.onnx"))
    with pytest.raises(ModelError, match=r"theirs\.onnx was not written by reid-edge export"):
        read_fp32(tmp_path / "theirs.onnx")
    (tmp_path / "damaged.onnx").write_bytes(b"\x0b\x0c\x0d")
    with pytest.raises(ModelError, match=r"damaged\.onnx is damaged, or not an ONNX file"):
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


@pytest.mark.slow
def test_int8_costs_a_real_model_under_one_point(
    dev_crops: Path, dev_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    from reid_edge.export.graph.from_torch import onnx_from_model
    from reid_edge.scoring.evaluation import evaluate
    from reid_edge.training.models.checkpoint import load_model

    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path))
    model, card = load_model(dev_weights, "osnet_x0_25")
    fp32 = onnx_from_model(model, card)
    int8, int8_card = int8_from_fp32(fp32, card, plan_int8(fp32, card, Int8Options(calibrate=dev_crops)))
    write_onnx(fp32, card, tmp_path / "fp32.onnx")
    write_onnx(int8, int8_card, tmp_path / "int8.onnx")
    exact, rounded = (evaluate(tmp_path / f"{name}.onnx", dev_crops).metrics for name in ("fp32", "int8"))
    assert exact.mAP > 0.40
    assert exact.mAP - rounded.mAP < 0.010
