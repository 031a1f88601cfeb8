"""Quantisation-aware fine-tuning: what it rounds is what export rounds, and it brings a model back."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from test_export import lived_in  # noqa: E402

from reid_edge.card import ModelCard  # noqa: E402
from reid_edge.cli import main  # noqa: E402
from reid_edge.engine_onnx import OnnxEngine  # noqa: E402
from reid_edge.errors import InputError, ModelError  # noqa: E402
from reid_edge.export.calibrate import ranges_over  # noqa: E402
from reid_edge.export.crops import parity_crops  # noqa: E402
from reid_edge.export.int8 import Int8Options, int8_from_fp32, trained_ranges  # noqa: E402
from reid_edge.export.int8_layers import layers  # noqa: E402
from reid_edge.export.onnx import onnx_from_model  # noqa: E402
from reid_edge.export.quantize import quantized  # noqa: E402
from reid_edge.synthetic import synthesize  # noqa: E402
from reid_edge.training.checkpoint import card_of, load_checkpoint, load_model  # noqa: E402
from reid_edge.training.inference import TorchEngine  # noqa: E402
from reid_edge.training.models import ReidModel, build_model  # noqa: E402
from reid_edge.training.qat import prepare, quantized_layers  # noqa: E402
from reid_edge.training.recipes import recipe_for  # noqa: E402
from reid_edge.training.run import Run  # noqa: E402


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("qat") / "people", people=8, test_people=4, cameras=3, progress=False)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))


def embedded(model: ReidModel, card: ModelCard, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    with TorchEngine(model, card) as engine:
        return engine.run(crops)


def plainly(model: ModelProto, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A graph node by node: what ONNX Runtime fuses it sums in another order, and a last digit can flip a rounding."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    embeddings: NDArray[np.float32] = session.run(["embeddings"], {"images": crops})[0]
    return embeddings


@pytest.mark.slow
@pytest.mark.parametrize("name", ["osnet_x0_25", "mobilenetv3_large", "resnet50_bot"])
def test_training_rounds_where_export_rounds(name: str, people: Path) -> None:
    """The rounded PyTorch model follows the INT8 graph away from FP32.

    Not to the last digit: one that differs flips a rounding, and through fifty layers of random weights flips breed.
    Two models that round elsewhere are twice as far apart as either is from FP32.
    """
    model = lived_in(name).eval()
    card = card_of(model, input_hw=(128, 64))
    fp32 = onnx_from_model(model, card)
    options = Int8Options(people, count=16)
    ranges = trained_ranges(fp32, card, options)
    crops = parity_crops(card, people, count=16)
    exact = embedded(model, card, crops)
    int8, int8_card = int8_from_fp32(fp32, card.with_(quantization=ranges), Int8Options(rest="fp32"))
    assert f"then trained for it; the rest in fp32, with {len(options.kept(fp32))} layers" in int8_card.calibration
    graph = plainly(int8, crops)
    prepare(model, quantized_layers(ranges))
    away = 1 - (exact * graph).sum(axis=1).mean()
    apart = 1 - (embedded(model, card, crops) * graph).sum(axis=1).mean()
    assert away > 1e-5, "the test cannot tell INT8 from FP32"
    assert apart < 0.6 * away


@pytest.mark.slow
def test_each_kind_of_layer_alone_is_rounded_as_export_rounds_it(people: Path) -> None:
    """The first, a pointwise, a depthwise, a gate that is called four times, and the last: equal up to last digits."""
    model = lived_in("osnet_x0_25").eval()
    card = card_of(model, input_hw=(64, 32))
    fp32 = onnx_from_model(model, card)
    crops = parity_crops(card, people, count=8)
    exact = embedded(model, card, crops)
    every = layers(fp32)
    ranges = ranges_over(fp32, crops, "minmax")
    block = "trunk.conv2.0"
    for name in ("trunk.conv1.conv", f"{block}.conv2a.conv1", f"{block}.conv2a.conv2", f"{block}.gate.fc1", "fc.0"):
        graph = plainly(quantized(fp32, ranges, [other for other in every if other != name]), crops)
        rounded = copy.deepcopy(model)
        prepare(rounded, {name: [ranges[node.input[0]] for node in every[name]]})
        away = np.abs(exact - graph).max()
        assert np.abs(embedded(rounded, card, crops) - graph).max() < away / 20, name
    assert len(every[f"{block}.gate.fc1"]) == 4


def test_a_rounded_layer_by_hand() -> None:
    """The range 2.54 is 0.02 a step; weights up to 1.27 have steps of 0.01, of 0.635 of 0.005."""
    model = build_model("osnet_x0_25")
    layer = model.fc[0]
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, :2] = torch.tensor([1.27, -0.504])
        layer.weight[1, :2] = torch.tensor([0.635, -0.0126])
        layer.bias.zero_()
    prepare(model, {"fc.0": [2.54]})
    x = torch.zeros(1, layer.in_features, requires_grad=True)
    with torch.no_grad():
        x[0, :2] = torch.tensor([0.991, 5.0])  # 0.991 is rounded to 1.00, 5.0 is clipped to 2.54
    answer = layer(x)
    assert answer[0, :2].tolist() == pytest.approx([1.27 - 0.5 * 2.54, 0.635 - 0.015 * 2.54], abs=1e-5)
    answer[0, 0].backward()
    assert x.grad is not None and x.grad[0, :2].tolist() == pytest.approx([1.27, 0.0]), "clipped values have a gradient"
    assert layer.weight.grad is not None and layer.weight.grad[0, 0].item() == pytest.approx(1.0)


def test_the_state_dict_stays_what_it_was() -> None:
    model = build_model("osnet_x0_25")
    names = list(model.state_dict())
    prepare(model, {"trunk.conv1.conv": [1.0], "fc.0": [1.0]})
    assert list(model.state_dict()) == names
    with pytest.raises(ModelError, match="'trunk.nowhere' is no layer of this osnet_x0_25"):
        prepare(model, {"trunk.nowhere": [1.0]})
    for bad in ({}, {"layers": 3}, {"layers": {"fc.0": ["x"]}}):
        with pytest.raises(ModelError, match="no ranges of INT8 that can be read"):
            quantized_layers(bad)


def test_batch_norm_keeps_its_statistics() -> None:
    run = Run(recipe_for("osnet_x0_25", recipe="qat"), people=4, device="cpu")
    before = {name: value.clone() for name, value in run.model.named_buffers()}
    run.begin_epoch()
    assert run.model.training
    run.set_learning_rate(1.0)
    losses = run.step(torch.randn(4, 3, 64, 32), torch.arange(4), torch.randn(4, 8))
    assert set(losses) == {"distill"}
    assert all(torch.equal(value, before[name]) for name, value in run.model.named_buffers())


def test_the_command_fine_tunes_and_export_needs_no_second_calibration(people: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return int(ended.value.code or 0)

    first, tuned, files = tmp_path / "first", tmp_path / "tuned", tmp_path / "files"
    small = ("--epochs", 1, "--threads", 1)
    assert (
        run("train", "--model", "osnet_x0_25", "--data", people, "--out", first, "-P", 4, "--size", 64, 32, *small) == 0
    )
    assert run("train", "--qat", first / "model.pth", "--data", people, "--out", tuned, "-P", 8, *small) == 0
    checkpoint = load_checkpoint(tuned / "model.pth")
    assert checkpoint.card.input_hw == (64, 32) and "then trained for it" in checkpoint.card.quantization["note"]
    before, after = (load_model(folder / "model.pth")[0].state_dict() for folder in (first, tuned))
    assert any(not torch.equal(before[name], after[name]) for name in before if name.endswith("weight"))
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)
    loose = ("--gate", "int8.cosine_min=-1", "--gate", "int8.cosine_p1=-1", "--gate", "int8.ranking=0")
    assert run("export", tuned / "model.pth", "--int8", "--out", files, *loose, "--gate", "int8.max_error=2") == 0
    with OnnxEngine(files / "osnet_x0_25_int8.onnx") as engine:
        assert "then trained for it" in engine.card.calibration
    # The FP32 file carries the ranges too: a device needs no crops.
    assert run("export", files / "osnet_x0_25_fp32.onnx", "--int8", "--out", tmp_path / "device", *loose) == 0
    assert run("export", first / "model.pth", "--int8", "--out", files) == 2


def test_a_moving_average_cannot_be_rounded() -> None:
    run = Run(replace(recipe_for("osnet_x0_25", recipe="qat"), ema_decay=0.9), people=4, device="cpu")
    with pytest.raises(InputError, match="leave ema_decay 0"):
        run.round_to_int8({"layers": {"fc.0": [1.0]}})
