"""Quantisation-aware fine-tuning: what it rounds is what export rounds, and it brings a model back."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from helpers.networks import settled_model  # noqa: E402
from helpers.streams_network import STREAMS_CARD, streams_network  # noqa: E402

from reid_edge.api.export_model import export_model  # noqa: E402
from reid_edge.card import ModelCard  # noqa: E402
from reid_edge.cli import main  # noqa: E402
from reid_edge.data.datasets import open_dataset  # noqa: E402
from reid_edge.data.synthetic.dataset import synthesize  # noqa: E402
from reid_edge.engines.onnxruntime import OnnxEngine  # noqa: E402
from reid_edge.errors import InputError, ModelError  # noqa: E402
from reid_edge.export.graph.from_torch import onnx_from_model  # noqa: E402
from reid_edge.export.graph.graph import Graph  # noqa: E402
from reid_edge.export.graph.io import read_graph, write_onnx  # noqa: E402
from reid_edge.export.graph.merge_streams import FORMS, merge_streams  # noqa: E402
from reid_edge.export.int8.bias import mean_errors  # noqa: E402
from reid_edge.export.int8.calibrate import ranges_over  # noqa: E402
from reid_edge.export.int8.convert import int8_from_fp32, trained_ranges  # noqa: E402
from reid_edge.export.int8.plan import Int8Options, plan_int8  # noqa: E402
from reid_edge.export.int8.qdq import quantized  # noqa: E402
from reid_edge.export.int8.residuals import residual_adds  # noqa: E402
from reid_edge.export.parity.crops import parity_crops  # noqa: E402
from reid_edge.export.parity.limits import Checks  # noqa: E402
from reid_edge.training.batches.augment import normalised  # noqa: E402
from reid_edge.training.loop import train_step  # noqa: E402
from reid_edge.training.models.checkpoint import card_of, load_checkpoint, load_model  # noqa: E402
from reid_edge.training.models.registry import build_model  # noqa: E402
from reid_edge.training.models.reid_model import ReidModel  # noqa: E402
from reid_edge.training.models.torch_engine import TorchEngine  # noqa: E402
from reid_edge.training.options import StartFrom  # noqa: E402
from reid_edge.training.qat import activation_ranges, add_fake_quantisation, residual_ranges  # noqa: E402
from reid_edge.training.qat_bias import correct_biases  # noqa: E402
from reid_edge.training.recipe.recipes import recipe_for  # noqa: E402
from reid_edge.training.run_folder import RunFolder  # noqa: E402
from reid_edge.training.trainer import Trainer  # noqa: E402


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(
        tmp_path_factory.mktemp("qat") / "people", identities=8, test_identities=4, cameras=3, progress=False
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REID_EDGE_CACHE", str(tmp_path / "cache"))


def embedded(model: ReidModel, card: ModelCard, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    with TorchEngine(model, card) as engine:
        return engine.run(crops)


def plainly(graph: Graph, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A graph node by node: what ONNX Runtime fuses it sums in another order, and a last digit can flip a rounding."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    embeddings: NDArray[np.float32] = session.run(["embeddings"], {"images": crops})[0]
    return embeddings


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["osnet_x0_25", "mobilenetv3_large", pytest.param("resnet50_bot", marks=pytest.mark.long)]
)
def test_training_rounds_where_export_rounds(name: str, people: Path) -> None:
    """The rounded PyTorch model follows the INT8 graph away from FP32.

    Not to the last digit: one that differs flips a rounding, and through fifty layers of random weights flips breed.
    Two models that round elsewhere are twice as far apart as either is from FP32.
    """
    model = settled_model(name).eval()
    card = card_of(model, input_hw=(128, 64))
    fp32 = onnx_from_model(model, card)
    plan = plan_int8(fp32, card, Int8Options(calibrate=people, count=16, quantize_residuals=True))
    ranges = trained_ranges(fp32, plan)
    crops = parity_crops(card, people, count=16)
    exact = embedded(model, card, crops)
    trained = card.with_(quantization=ranges)
    int8, int8_card = int8_from_fp32(fp32, trained, plan_int8(fp32, trained, Int8Options(unquantized="fp32")))
    assert f"then trained for it; fp32 around INT8, with {len(plan.kept)} layers" in int8_card.calibration
    assert int8_card.calibration.endswith("; residual adds rounded")
    graph = plainly(int8, crops)
    assert len(residual_ranges(ranges)) == len(plan.residuals) == {"osnet": 6, "mobil": 10, "resne": 16}[name[:5]]
    add_fake_quantisation(model, activation_ranges(ranges), residual_ranges(ranges))
    away = 1 - (exact * graph).sum(axis=1).mean()
    apart = 1 - (embedded(model, card, crops) * graph).sum(axis=1).mean()
    assert away > 1e-5, "the test cannot tell INT8 from FP32"
    assert apart < 0.6 * away


@pytest.fixture(scope="module")
def osnet() -> tuple[ReidModel, ModelCard, Graph]:
    model = settled_model("osnet_x0_25").eval()
    card = card_of(model, input_hw=(64, 32))
    return model, card, onnx_from_model(model, card)


@pytest.mark.slow
def test_each_kind_of_layer_alone_is_rounded_as_export_rounds_it(
    osnet: tuple[ReidModel, ModelCard, Graph], people: Path
) -> None:
    """The first, a pointwise, a depthwise, a gate that is called four times, and the last: equal up to last digits."""
    model, card, fp32 = osnet
    crops = parity_crops(card, people, count=8)
    exact = embedded(model, card, crops)
    every = fp32.layers
    ranges = ranges_over(fp32, crops, "minmax")
    block = "backbone.conv2.0"
    for name in ("backbone.conv1.conv", f"{block}.conv2a.conv1", f"{block}.conv2a.conv2", f"{block}.gate.fc1", "fc.0"):
        graph = plainly(quantized(fp32, ranges, [other for other in every if other != name]), crops)
        rounded = copy.deepcopy(model)
        add_fake_quantisation(rounded, {name: [ranges[node.input[0]] for node in every[name]]})
        away = np.abs(exact - graph).max()
        assert np.abs(embedded(rounded, card, crops) - graph).max() < away / 20, name
    assert len(every[f"{block}.gate.fc1"]) == 4
    # What is added: a downsampling convolution's output in the first block, the block's input in the second.
    for add in residual_adds(fp32)[:2]:
        kept = [other for other in every if other != add.layer]
        graph = plainly(quantized(fp32, ranges, kept, [add.layer]), crops)
        without = plainly(quantized(fp32, ranges, kept), crops)
        rounded = copy.deepcopy(model)
        (node,) = every[add.layer]
        add_fake_quantisation(rounded, {add.layer: [ranges[node.input[0]]]}, {add.layer: [ranges[add.skip]]})
        away = np.abs(without - graph).max()
        assert np.abs(embedded(rounded, card, crops) - graph).max() < away / 5, add.layer


def test_what_a_block_adds_is_rounded_by_hand() -> None:
    """The range 2.54 is 0.02 a step: 0.991 becomes 1.00, and 5.0 is clipped to 2.54."""
    model = build_model("osnet_x0_25")
    block = model.backbone.conv2[1]
    add_fake_quantisation(model, {}, {"backbone.conv2.1.conv3.conv": [2.54]})
    x = torch.tensor([0.991, 5.0], requires_grad=True)
    output = block.skip(x)
    assert output.tolist() == pytest.approx([1.0, 2.54])
    output.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0, 0.0]
    assert model.backbone.conv2[0].skip(x) is x, "another block rounds too"


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_merged_streams_are_rounded_as_export_rounds_them(
    form: str, osnet: tuple[ReidModel, ModelCard, Graph], people: Path
) -> None:
    """The first level, which four streams share, the last, and the convolution that sums them, with its gates."""
    model, card, fp32 = osnet
    crops = parity_crops(card, people, count=8)
    exact = embedded(model, card, crops)
    merged = merge_streams(fp32, form)
    assert merged is not None
    every, ranges = merged.layers, ranges_over(merged, crops, "minmax")
    block = "backbone.conv3.1"
    for name in (f"{block}.streams.0", f"{block}.streams.1", f"{block}.streams.3", f"{block}.conv3.conv"):
        needed = {name, f"{block}.streams.0"}  # which says that the streams are merged
        graph = plainly(quantized(merged, ranges, [other for other in every if other not in needed]), crops)
        rounded = copy.deepcopy(model)
        add_fake_quantisation(rounded, {each: [ranges[node.input[0]] for node in every[each]] for each in needed})
        away = np.abs(exact - graph).max()
        assert np.abs(embedded(rounded, card, crops) - graph).max() < away / 20, name


def test_a_model_trained_with_merged_streams_is_exported_with_them(people: Path, tmp_path: Path) -> None:
    """Its ranges fit both merged forms and no other, and auto finds them."""
    crops = np.random.default_rng(0).integers(0, 256, (16, 64, 32, 3), dtype=np.uint8)
    plain = streams_network(crops, gate_units=1)
    merged = merge_streams(plain, "gpu-latency")
    assert merged is not None
    options = Int8Options(calibrate=people, count=8, keep=())
    ranges = trained_ranges(merged, plan_int8(merged, STREAMS_CARD.with_(optimized_for="gpu-latency"), options))
    card = STREAMS_CARD.with_(quantization=ranges)
    write_onnx(plain, card, tmp_path / "plain_fp32.onnx")
    loose = Checks(gates={f"int8.{name}": 0 for name in ("cosine_min", "cosine_p1", "ranking")} | {"int8.tie": 1})
    for optimize_for, form in (("auto", "gpu-latency"), ("gpu", "gpu")):
        report = export_model(
            tmp_path / "plain_fp32.onnx",
            tmp_path / optimize_for,
            precisions=("int8",),
            optimize_for=optimize_for,
            checks=replace(loose, gates={**loose.gates, "int8.max_error": 2, "int8.relative_error": 9}),
        )
        (file,) = report.files
        assert not file.refused and file.note.startswith(f"streams merged for {form}, ")
        assert read_graph(file.path)[1].optimized_for == form
    with pytest.raises(InputError, match="trained for INT8 in another form, with a layer 'backbone.conv2.0.streams.0'"):
        export_model(tmp_path / "plain_fp32.onnx", tmp_path / "none", precisions=("int8",), optimize_for="none")


def test_a_rounded_layer_by_hand() -> None:
    """The range 2.54 is 0.02 a step; weights up to 1.27 have steps of 0.01, of 0.635 of 0.005."""
    model = build_model("osnet_x0_25")
    layer = model.fc[0]
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, :2] = torch.tensor([1.27, -0.504])
        layer.weight[1, :2] = torch.tensor([0.635, -0.0126])
        layer.bias.zero_()
    add_fake_quantisation(model, {"fc.0": [2.54]})
    x = torch.zeros(1, layer.in_features, requires_grad=True)
    with torch.no_grad():
        x[0, :2] = torch.tensor([0.991, 5.0])  # 0.991 is rounded to 1.00, 5.0 is clipped to 2.54
    output = layer(x)
    assert output[0, :2].tolist() == pytest.approx([1.27 - 0.5 * 2.54, 0.635 - 0.015 * 2.54], abs=1e-5)
    output[0, 0].backward()
    assert x.grad is not None and x.grad[0, :2].tolist() == pytest.approx([1.27, 0.0]), "clipped values have a gradient"
    assert layer.weight.grad is not None and layer.weight.grad[0, 0].item() == pytest.approx(1.0)


def test_the_state_dict_stays_what_it_was() -> None:
    model = build_model("osnet_x0_25")
    names = list(model.state_dict())
    add_fake_quantisation(model, {"backbone.conv1.conv": [1.0], "fc.0": [1.0]})
    assert list(model.state_dict()) == names
    with pytest.raises(ModelError, match="'backbone.nowhere' is not a layer of this osnet_x0_25"):
        add_fake_quantisation(model, {"backbone.nowhere": [1.0]})
    for wrong in ("backbone.conv1.conv", "backbone.conv2.9.conv3.conv", "fc.0"):
        with pytest.raises(ModelError, match="is in no block of this osnet_x0_25 that adds its input"):
            add_fake_quantisation(model, {}, {wrong: [1.0]})
    assert residual_ranges({"layers": {}}) == {}
    with pytest.raises(ModelError, match="no INT8 activation ranges that can be read"):
        residual_ranges({"residuals": {"fc.0": ["x"]}})
    for bad in ({}, {"layers": 3}, {"layers": {"fc.0": ["x"]}}):
        with pytest.raises(ModelError, match="no INT8 activation ranges that can be read"):
            activation_ranges(bad)


def test_batch_norm_keeps_its_statistics() -> None:
    trainer = Trainer(recipe_for("osnet_x0_25", recipe="qat"), identities=4, device="cpu")
    before = {name: value.clone() for name, value in trainer.model.named_buffers()}
    trainer.begin_epoch()
    assert trainer.model.training
    trainer.set_learning_rate(1.0)
    losses = train_step(trainer, torch.randn(4, 3, 64, 32), torch.arange(4), torch.randn(4, 512))
    assert set(losses) == {"embedding"}
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.named_buffers())


def test_training_starts_with_the_biases_that_calibration_corrects(
    osnet: tuple[ReidModel, ModelCard, Graph], people: Path
) -> None:
    """What leaves a batch norm is shifted as `export.int8.bias` measures it on the graph, where the two are folded."""
    model, card, fp32 = osnet
    crops = parity_crops(card, people, count=12)  # a whole batch and a part of one
    ranges = {name: 0.5 * amax for name, amax in ranges_over(fp32, crops, "minmax").items()}
    names = ("backbone.conv1.conv", "backbone.conv2.0.conv1.conv", "backbone.conv2.0.downsample.conv", "fc.0")
    errors = mean_errors(fp32, quantized(fp32, ranges, set(fp32.layers) - set(names)), crops)
    nodes = {name: fp32.layers[name][0] for name in names}
    rounded = copy.deepcopy(model)
    add_fake_quantisation(rounded, {name: [ranges[node.input[0]]] for name, node in nodes.items()})
    before = {
        name: norm.bias.detach().clone() for name, norm in rounded.named_modules() if hasattr(norm, "running_mean")
    }
    correct_biases(rounded, model, normalised(torch.from_numpy(crops)))
    norms = [f"{name.removesuffix('.conv')}.bn" for name in names[:3]] + ["fc.1"]
    for name, norm in zip(names, norms, strict=True):
        moved = before[norm] - rounded.get_submodule(norm).bias.detach()
        assert moved.abs().max() > 1e-3, "nothing to correct"
        np.testing.assert_allclose(moved, errors[nodes[name].input[2]], atol=1e-4)
    others = set(before) - set(norms)
    assert all(torch.equal(rounded.get_submodule(name).bias, before[name]) for name in others), "a shift was passed on"
    assert embedded(model, card, crops[:1]).shape == (1, 512), "the exact model keeps a hook"


def test_batch_norm_stays_frozen_where_a_run_saves_within_an_epoch(people: Path, tmp_path: Path) -> None:
    """A checkpoint's card counts multiply-accumulates, for which the model embeds a crop in evaluation mode."""
    trainer = Trainer(recipe_for("osnet_x0_25", recipe="qat"), identities=4, device="cpu")
    trainer.begin_epoch()
    before = {name: module.training for name, module in trainer.model.named_modules()}
    assert len(set(before.values())) == 2
    RunFolder(tmp_path / "run", trainer, open_dataset(people)).save()
    assert {name: module.training for name, module in trainer.model.named_modules()} == before


@pytest.mark.long
def test_the_command_fine_tunes_and_export_needs_no_second_calibration(people: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return int(ended.value.code or 0)

    first, tuned, files = tmp_path / "first", tmp_path / "tuned", tmp_path / "files"
    small = ("--epochs", 1, "--threads", 1)
    assert (
        run("train", "--arch", "osnet_x0_25", "--data", people, "--out", first, "-P", 4, "--size", 64, 32, *small) == 0
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
    trainer = Trainer(replace(recipe_for("osnet_x0_25", recipe="qat"), ema_decay=0.9), identities=4, device="cpu")
    with pytest.raises(InputError, match="leave ema_decay 0"):
        trainer.fake_quantize({"layers": {"fc.0": [1.0]}})


def test_rounded_adds_are_asked_for_with_qat_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--quantize-residuals \(quantize_residuals=\) is for --qat FILE"):
        StartFrom(finetune="model.pth", quantize_residuals=True)
    start = StartFrom(qat=tmp_path / "model.pth", quantize_residuals=True).absolute()
    assert start.quantize_residuals and start.file == (tmp_path / "model.pth").resolve()
