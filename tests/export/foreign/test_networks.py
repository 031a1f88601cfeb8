"""Networks of other libraries, exported as their users do: imported, and then made in every precision."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reid_edge.api.evaluate import evaluate
from reid_edge.api.export_model import export_model
from reid_edge.card import IMAGENET_MEAN, IMAGENET_STD
from reid_edge.data.images import read_crops
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.export.graph.body import body_values
from reid_edge.export.graph.io import read_graph
from reid_edge.export.int8.plan import Int8Options
from reid_edge.export.parity.limits import Checks

torch = pytest.importorskip("torch", reason="the networks are PyTorch's")
torchvision = pytest.importorskip("torchvision", reason="the networks are torchvision's")
pytest.importorskip("onnxscript", reason="torch.onnx needs the export extra")

HW = (64, 32)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("drawn") / "set", identities=8, test_identities=2, cameras=2, size_hw=HW)


def resnet() -> Any:
    """The first half of one."""
    blocks = torchvision.models.resnet
    made = blocks.ResNet(blocks.BasicBlock, [1, 1, 1, 1])
    made.layer3 = made.layer4 = torch.nn.Identity()
    made.fc = torch.nn.Linear(128, 16)
    return made


def mobilenet() -> Any:
    return torchvision.models.mobilenet_v3_small(num_classes=16, width_mult=0.5)


def transformer() -> Any:
    made = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=16
    )
    torch.nn.init.normal_(made.heads.head.weight, std=0.1)
    return made


def timm_transformer() -> Any:
    timm = pytest.importorskip("timm", reason="pip install timm, to import a network of timm too")
    made = timm.models.vision_transformer.VisionTransformer(
        img_size=HW, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=16, global_pool="avg"
    )
    torch.nn.init.normal_(made.cls_token, std=0.02)  # timm's own, 1e-6, vanishes in FP16
    return made


def settled(build: Callable[[], Any], people: Path) -> Any:
    """Random weights, and batch norms with the statistics of crops, as after training."""
    torch.manual_seed(0)
    model = build()
    crops = read_crops(sorted((people / "bounding_box_train").glob("*.jpg"))[:32], side_of(build))
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.8, 1.4)
                module.momentum = None  # the mean over all batches
        with torch.no_grad():
            model(normalised(crops))
    return model.eval()


def side_of(build: Callable[[], Any]) -> tuple[int, int]:
    return (32, 32) if build is transformer else HW


def normalised(crops: NDArray[np.uint8]) -> Any:
    mean, std = (torch.tensor(value)[:, None, None] for value in (IMAGENET_MEAN, IMAGENET_STD))
    return (torch.from_numpy(crops).permute(0, 3, 1, 2) / 255 - mean) / std


def exported(model: Any, path: Path, hw: tuple[int, int] = HW, *, dynamo: bool = False) -> Path:
    example = torch.zeros(2, 3, *hw)
    free: dict[str, Any] = {"opset_version": 16, "dynamic_axes": {"images": {0: "batch"}}}
    if dynamo:
        free = {"dynamic_shapes": ({0: torch.export.Dim("N")},), "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the older exporter, which most files in the field are from
        torch.onnx.export(
            model, (example,), path, dynamo=dynamo, input_names=["images"], output_names=["logits"], **free
        )
    return path


def by_torch(model: Any, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.asarray(torch.nn.functional.normalize(model(normalised(crops))).numpy())


@pytest.mark.parametrize("build", [resnet, mobilenet, transformer, timm_transformer])
def test_a_network_goes_through_every_precision(build: Any, people: Path, tmp_path: Path, imported: Any) -> None:
    """FP32 is what PyTorch gives; FP16 and INT8 pass every gate, but for depthwise convolutions of random weights."""
    hw = side_of(build)
    model = settled(build, people)
    report = imported(exported(model, tmp_path / "net.onnx", hw))
    crops = read_crops(sorted((people / "query").glob("*.jpg")), hw)
    with OnnxEngine(report.path, threads=1) as engine:
        np.testing.assert_allclose(engine.run(crops), by_torch(model, crops), atol=1e-4)
    options = Int8Options(calibrate=people, count=8, method="minmax", threads=1)
    made = export_model(
        report.path,
        tmp_path / "out",
        precisions=("fp16", "int8"),
        int8=options,
        checks=Checks(crops=8, gates={"int8.ranking": 0.6}),  # of seven neighbours
        threads=1,
    )
    passed = [file.precision for file in made.files if not file.refused]
    assert passed == ["fp16", "int8"][: 1 + (build != mobilenet)], made.refused


def test_the_matmuls_of_a_transformer_are_rounded_and_those_of_attention_are_not(
    people: Path, tmp_path: Path, imported: Any
) -> None:
    fp32, _ = read_graph(imported(exported(settled(transformer, people), tmp_path / "vit.onnx", (32, 32))).path)
    block = "encoder.layers.encoder_layer_1"
    names = [name.removeprefix(f"{block}.") for name in fp32.layers if name.startswith(block)]
    assert names == ["self_attention", "self_attention.out_proj", "mlp.0", "mlp.3"]
    types = {producer.op_type for name, producer in fp32.producers.items() if name in body_values(fp32)}
    assert {"Conv", "MatMul", "Gemm", "Softmax", "Erf"} <= types and not {"Shape", "ReduceL2"} & types
    squares = [node for node in fp32.nodes if node.op_type == "Pow"]
    assert squares and not {node.output[0] for node in squares} & body_values(fp32), "layer norms square in FP16"

    options = Int8Options(calibrate=people, count=8, method="minmax", threads=1, unquantized="fp32")
    made = export_model(
        tmp_path / "out" / "vit_fp32.onnx",
        tmp_path / "out",
        precisions=("int8",),
        int8=options,
        checks=Checks(crops=8, gates={"int8.ranking": 0.6}),
        threads=1,
    )
    int8, _ = read_graph(made.files[0].path)
    for node in (node for node in int8.nodes if node.op_type == "MatMul"):
        makers = [int8.producers[name].op_type for name in node.input]
        assert makers == ["DequantizeLinear"] * 2 or "DequantizeLinear" not in makers
    scale = int8.constants[f"model.{block}.mlp.0.weight.scale"]
    weights = fp32.constants[f"model.{block}.mlp.0.weight"]  # [32 in, 64 out]
    np.testing.assert_allclose(scale, np.abs(weights).max(axis=0) / 127, rtol=1e-6)


@pytest.mark.long
def test_a_transformer_by_the_newer_exporter(people: Path, tmp_path: Path, imported: Any) -> None:
    """It writes LayerNormalization, weights beside the file, and modules' names in metadata alone."""
    model = settled(transformer, people)
    report = imported(exported(model, tmp_path / "vit.onnx", (32, 32), dynamo=True))
    graph, _ = read_graph(report.path)
    assert "encoder.layers.encoder_layer_0.mlp.3" in graph.layers
    assert {"LayerNormalization", "Softmax"} <= {graph.producers[name].op_type for name in body_values(graph)}
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    with OnnxEngine(report.path, threads=1) as engine:
        np.testing.assert_allclose(engine.run(crops), by_torch(model, crops), atol=1e-4)


def test_the_foreign_osnet_is_the_one_of_the_checkpoint(
    dev_onnx: Path, dev_weights: Path, people: Path, imported: Any
) -> None:
    """The same weights by two ways: another project's ONNX file, and its checkpoint read by us."""
    from reid_edge.api.models import open_model

    report = imported(dev_onnx, preset="torchreid")
    crops = read_crops(sorted((people / "query").glob("*.jpg")), (256, 128))
    with OnnxEngine(report.path, threads=1) as ours, open_model(dev_weights, "osnet_x0_25") as theirs:
        np.testing.assert_allclose(ours.run(crops), theirs.run(crops), atol=1e-4)
    graph, _ = read_graph(report.path)
    assert {"conv2.0.conv2d.0.conv1", "conv1.conv", "conv2.0.conv1.conv"} <= set(graph.layers)


@pytest.mark.long
def test_the_foreign_osnet_scores_as_the_checkpoint(
    dev_onnx: Path, dev_weights: Path, dev_crops: Path, imported: Any
) -> None:
    report = imported(dev_onnx, preset="torchreid")
    found = evaluate(report.path, dev_crops).metrics
    expected = evaluate(dev_weights, dev_crops, arch="osnet_x0_25", resize="pillow-bilinear").metrics
    assert (found.rank(1), round(found.mAP, 5)) == (expected.rank(1), round(expected.mAP, 5))
    assert (round(100 * found.rank(1), 2), round(100 * found.mAP, 1)) == (62.23, 40.5)
