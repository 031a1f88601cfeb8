"""The architectures: published counts, torchvision's names and outputs, heads that train what they should."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from torch import Tensor  # noqa: E402

from reid_edge.card import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from reid_edge.errors import ModelError  # noqa: E402
from reid_edge.training.models.deploy import DeployModel  # noqa: E402
from reid_edge.training.models.macs import count_macs, count_parameters  # noqa: E402
from reid_edge.training.models.names import ARCHITECTURE_NAMES, check_architecture, osnet_width  # noqa: E402
from reid_edge.training.models.registry import ARCHITECTURES, build_model  # noqa: E402
from reid_edge.training.models.reid_model import Features, GeM, ReidModel  # noqa: E402
from reid_edge.training.models.weights import import_weights  # noqa: E402
from reid_edge.training.pretrained.rows import WEIGHTS  # noqa: E402

MAIN = ("resnet50_bot", "osnet_x0_25", "mobilenetv3_large")


def _build(name: str, num_classes: int = 0, **options: Any) -> ReidModel:
    torch.manual_seed(0)
    return build_model(name, num_classes, **options)


def _settled(model: ReidModel) -> ReidModel:
    """Evaluate with batch norms that know their inputs: with those of a new model no image gets through to the end."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = 1.0
    with torch.no_grad():
        model.train().neck(model.fc(model.backbone(torch.randn(8, 3, 64, 32)).mean((2, 3))))
    return model.eval()


@pytest.mark.parametrize(
    ("name", "backbone", "deployable"),
    [
        ("resnet50_bot", 23_508_032, 23_508_032 + 4_096),
        ("osnet_x0_25", 134_792, 201_864),
        ("osnet_ain_x1_0", 2_169_508 - 263_680, 2_169_508),
        ("osnet_ibn_x1_0", 2_170_532 - 263_680, 2_170_532),
        ("osnet_x1_0", 2_169_508 - 263_680, 2_169_508),  # fc: 512 x 512 + 512, and 2 x 512 of its batch norm
        ("mobilenetv3_large", 2_971_952, 2_971_952 + 1_920),
    ],
)
def test_deployable_parameters(name: str, backbone: int, deployable: int) -> None:
    model = _build(name, num_classes=10)
    assert sum(value.numel() for value in model.backbone.parameters()) == backbone
    assert count_parameters(model) == count_parameters(_build(name)) == deployable


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet50_seed", 25_050_927),
        ("osnet_x0_25_seed", 1_017_543),
        ("mobilenetv3_large_seed", 6_206_663),
    ],
)
def test_the_papers_own_counts(name: str, published: int) -> None:
    assert count_parameters(_build(name, num_classes=751), deployable=False) == published


def test_the_unused_classifier_of_the_seed_is_neither_deployed_nor_trained() -> None:
    model = _build("mobilenetv3_large_seed", num_classes=2)
    assert model.unused is not None
    assert sum(value.numel() for value in model.unused.parameters()) == 2_511_080
    assert count_parameters(model) == 2_971_952 + 1_920
    model(torch.randn(2, 3, 64, 32)).logits.sum().backward()
    assert all(value.grad is None for value in model.unused.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [("osnet_x0_25", 82.3), ("osnet_x1_0", 978.9), ("resnet50_bot", 4053.3), ("mobilenetv3_large", 140.3)],
)
def test_macs_of_one_crop(name: str, millions: float) -> None:
    assert round(count_macs(_build(name, num_classes=751)) / 1e6, 1) == millions


def test_counting_macs_leaves_the_model_as_it_was() -> None:
    model = _build("osnet_x0_25", num_classes=2)
    count_macs(model)
    assert model.training and isinstance(model(torch.zeros(2, 3, 64, 32)), Features)
    assert not any(module._forward_hooks for module in model.modules())
    # All maps are four times larger, all but the 24 gates' two layers and the fc, which see means.
    vectors = sum(p.numel() for n, p in model.named_parameters() if ".gate." in n and n.endswith("weight"))
    calls = 4 * vectors + model.fc[0].weight.numel()  # one gate serves four streams
    small, large = count_macs(model, (128, 64)), count_macs(model, (256, 128))
    assert large - calls == 4 * (small - calls)


@pytest.mark.parametrize("name", [*MAIN, "osnet_x0_375", "osnet_x0_25_seed", "mobilenetv3_large_seed"])
def test_features_in_training_and_an_embedding_in_evaluation(name: str) -> None:
    model = _build(name, num_classes=5)
    images = torch.randn(3, 3, 64, 32)
    features = model(images)
    assert isinstance(features, Features)
    assert features.feature.shape == (3, model.embedding_dim) and features.logits.shape == (3, 5)
    assert model.classifier is not None
    torch.testing.assert_close(features.logits, model.classifier(model.neck(features.feature)))
    with torch.no_grad():
        embedding = model.eval()(images)
        pooled = model.backbone(images).mean((2, 3))
        torch.testing.assert_close(embedding, model.neck(model.fc(pooled)))
    assert embedding.shape == (3, model.embedding_dim)


def test_gem_pooling_is_the_mean_at_1_and_nears_the_maximum() -> None:
    pool = GeM()
    x = torch.tensor([1.0, 2.0, 3.0, 6.0]).view(1, 1, 2, 2)
    # p = 3: ((1 + 8 + 27 + 216) / 4) ** (1 / 3)
    assert float(pool(x).detach()) == pytest.approx(63 ** (1 / 3), rel=1e-6)
    for p, expected, rel in ((1.0, 3.0, 1e-6), (30.0, 6.0 * 4 ** (-1 / 30), 1e-4)):
        pool.p.data.fill_(p)
        assert float(pool(x).detach()) == pytest.approx(expected, rel=rel)


def test_gem_is_an_option_that_trains_its_exponent() -> None:
    model = _build("mobilenetv3_large", num_classes=3, pooling="gem")
    features = model(torch.randn(4, 3, 64, 32))
    features.logits.square().sum().backward()
    assert isinstance(model.pool, GeM) and model.pool.p.grad is not None and model.pool.p.grad.abs() > 0
    assert "pool.p" in model.state_dict() and "pool.p" not in _build("mobilenetv3_large").state_dict()


def test_last_stride_1_keeps_mobilenets_last_map_at_a_sixteenth() -> None:
    for stride, side in ((2, 2), (1, 4)):
        backbone = _build("mobilenetv3_large", last_stride=stride).eval().backbone
        assert backbone(torch.randn(1, 3, 64, 64)).shape == (1, 960, side, side)


def test_embedding_sizes() -> None:
    sizes = {name: _build(name).embedding_dim for name in ARCHITECTURES}
    assert [sizes[name] for name in MAIN] == [2048, 512, 960]
    assert sizes["osnet_x0_25_seed"] == 1000
    assert _build("osnet_x0_25", feature_dim=0).embedding_dim == 128


@pytest.mark.parametrize(("stride", "expected"), [(1, (16, 8)), (2, (8, 4))])
def test_the_last_stride_decides_the_map(stride: int, expected: tuple[int, int]) -> None:
    backbone = _build("resnet50_bot", last_stride=stride).backbone.eval()
    with torch.no_grad():
        last_map = backbone(torch.zeros(1, 3, 256, 128))
    assert last_map.shape == (1, 2048, *expected)


@pytest.mark.parametrize(("name", "expected"), [("osnet_x0_25", (128, 16, 8)), ("mobilenetv3_large", (960, 8, 4))])
def test_the_maps_of_the_light_backbones(name: str, expected: tuple[int, ...]) -> None:
    backbone = _build(name).backbone.eval()
    with torch.no_grad():
        last_map = backbone(torch.zeros(1, 3, 256, 128))
    assert last_map.shape == (1, *expected)


@pytest.mark.parametrize("stem_relu", [True, False])
def test_stem_relu_is_the_relu_after_the_first_batch_norm(stem_relu: bool) -> None:
    backbone = _settled(_build("resnet50_bot", stem_relu=stem_relu)).backbone
    images = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        stem = backbone.bn1(backbone.conv1(images))
        stem = stem.clamp(min=0) if stem_relu else stem
        expected = backbone.layer4(backbone.layer3(backbone.layer2(backbone.layer1(backbone.maxpool(stem)))))
        torch.testing.assert_close(backbone(images), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mobilenetv3_large", "resnet50_bot"])
def test_a_bnneck_has_a_frozen_bias_and_no_classifier_bias(name: str) -> None:
    model = _build(name, num_classes=751)
    assert model.classifier is not None and model.classifier.bias is None
    assert model.neck.weight.requires_grad and not model.neck.bias.requires_grad
    assert 0.0009 < model.classifier.weight.detach().std() < 0.0011
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=0.1)
    features = model(torch.randn(4, 3, 32, 32))
    (features.logits.sum() + features.feature.sum()).backward()
    optimizer.step()
    assert not model.neck.bias.any() and not (model.neck.weight == 1).all()


@pytest.mark.parametrize("name", ["mobilenetv3_large_seed", "resnet50_seed"])
def test_the_seeds_batch_norm_and_classifier_have_trainable_biases(name: str) -> None:
    model = _build(name, num_classes=3)
    assert model.neck.bias.requires_grad
    assert model.classifier is not None and model.classifier.bias is not None


def test_osnet_has_no_neck_and_a_biased_classifier_unless_asked() -> None:
    plain, necked = _build("osnet_x0_25", num_classes=3), _build("osnet_x0_25", num_classes=3, neck=True)
    assert isinstance(plain.neck, torch.nn.Identity)
    assert plain.classifier is not None and plain.classifier.bias is not None
    assert isinstance(necked.neck, torch.nn.BatchNorm1d) and not necked.neck.bias.requires_grad
    assert necked.classifier is not None and necked.classifier.bias is None
    assert (plain.eval()(torch.randn(2, 3, 64, 32)) >= 0).all()  # the ReLU of the fc is the last layer


@pytest.mark.parametrize("name", ["resnet50_seed", "mobilenetv3_large"])
def test_backbones_compute_what_torchvision_computes_from_the_same_weights(name: str) -> None:
    models = pytest.importorskip("torchvision.models", reason="compares with torchvision")
    torch.manual_seed(0)
    theirs = (models.resnet50() if "resnet" in name else models.mobilenet_v3_large()).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith(("fc.", "classifier."))}
    backbone = _settled(_build(name)).backbone
    assert list(backbone.state_dict()) == list(state)
    theirs.load_state_dict(backbone.state_dict(), strict=False)
    pooled: dict[str, Tensor] = {}
    theirs.avgpool.register_forward_hook(lambda *call: pooled.update(out=call[2].flatten(1)))
    images = torch.randn(2, 3, 128, 64)
    with torch.no_grad():
        theirs(images)
        ours = backbone(images).mean((2, 3))
    assert (ours[0] - ours[1]).abs().mean() > 0.01  # the images are told apart, so that layers matter
    torch.testing.assert_close(ours, pooled["out"], rtol=1e-4, atol=1e-5)


def _drawn_state(model: ReidModel) -> dict[str, Tensor]:
    """torchreid's names for the tensors of a model, each with values that its name alone decides."""
    state = {name.removeprefix("backbone."): value for name, value in model.state_dict().items()}
    for name, value in state.items():
        rng = np.random.RandomState(zlib.crc32(name.encode()))
        if value.ndim > 1:
            value = torch.from_numpy(rng.normal(0, (2 / value[0].numel()) ** 0.5, value.shape))
        elif value.is_floating_point():
            low = 0.5 if name.endswith(("weight", "running_var")) else -0.25
            value = torch.from_numpy(rng.uniform(low, low + 0.5, value.shape))
        state[name] = value.to(torch.float32) if value.is_floating_point() else value
    return state


@pytest.mark.parametrize(
    ("name", "first", "total"),
    [  # of torchreid's models at commit f8cd150, with these weights and this image
        ("osnet_x0_25", [92.759125, 7.906693, 2.344893, 0.0], 12475.3818),
        ("osnet_ibn_x1_0", [7.286137, 0.0, 2.991435, 0.0], 1851.29),
        ("osnet_ain_x0_25", [4.898956, 0.13425, 1.887401, 3.287086], 779.1215),
    ],
)
def test_osnets_compute_what_torchreid_computes_from_the_same_weights(
    name: str, first: list[float], total: float
) -> None:
    model = _build(name)
    report = import_weights(model, _drawn_state(model))
    assert report.backbone_share == 1 and not (report.missing or report.unexpected or report.mismatched)
    image = torch.from_numpy(np.random.RandomState(0).normal(size=(1, 3, 128, 64)).astype(np.float32))
    with torch.no_grad():
        embedding = model.eval()(image)[0]
    torch.testing.assert_close(embedding[:4], torch.tensor(first), rtol=1e-4, atol=1e-5)
    assert float(embedding.sum()) == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("name", ["osnet_ibn_x1_0", "osnet_ain_x0_25"])
def test_instance_norm_takes_a_cameras_contrast_out_of_the_stem(name: str) -> None:
    """Its own gain and offset for each image and channel: the same scene, darker and with less contrast."""
    stem = _build(name).eval().backbone.conv1
    images = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        plain, dimmed = stem(images), stem(0.3 * images)
    torch.testing.assert_close(dimmed, plain, rtol=0, atol=0.01)
    assert plain.amax() > 1


def test_options_and_name_rebuild_the_model() -> None:
    model = _build("resnet50_bot", last_stride=2, neck=False)
    options = json.loads(json.dumps(model.options))
    rebuilt = build_model(model.name, **options)
    assert rebuilt.options == model.options and options["last_stride"] == 2 and options["stem_relu"] is True
    rebuilt.load_state_dict(model.state_dict())
    assert "last_stride" in ARCHITECTURES["resnet50_bot"].options
    assert ARCHITECTURES["resnet50_bot"].options["last_stride"] == 1  # the table is not written into


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("resnet51", {}, "resnet50_bot"),
        ("osnet_x0_1", {}, "osnet_x0_25"),  # 6.4 channels in the stem
        ("osnet_x9_0", {}, "osnet_x0_25"),
        ("osnet_x0_25_seed2", {}, "osnet_x0_25_seed"),
        ("osnet_x0_25", {"last_stride": 1}, "feature_dim, neck, neck_bias"),
        ("resnet50_bot", {"last_strid": 1}, "last_stride"),
        ("resnet50_bot", {"last_stride": 3}, "1..2"),
        ("resnet50_bot", {"last_stride": True}, "1..2"),
        ("resnet50_bot", {"stem_relu": 0}, "true or false"),
        ("osnet_x0_25", {"feature_dim": -1}, "0..65536"),
        ("osnet_x0_25", {"feature_dim": "512"}, "0..65536"),
    ],
)
def test_unknown_names_and_options_are_one_line_that_lists_the_known(
    name: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelError) as caught:
        build_model(name, **options)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_names_known_without_torch_are_those_of_the_registry() -> None:
    assert tuple(ARCHITECTURES) == ARCHITECTURE_NAMES
    for name in (*ARCHITECTURE_NAMES, "osnet_x0_375", "osnet_x4_0"):
        check_architecture(name)
    assert osnet_width("osnet_x0_375") == 0.375 and osnet_width("osnet_x4_5") is None


def test_listing_the_names_loads_no_torch() -> None:
    code = (
        "import sys; from reid_edge.training.recipe import recipes; print('torch' in sys.modules, recipes.RECIPES[0])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False default\n"


def _crops(count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 64, 32, 3), np.uint8))


def test_the_deployed_model_normalises_rgb_and_gives_unit_rows() -> None:
    model = _settled(_build("osnet_x0_25"))
    crops = _crops(3)
    pixels = (crops.numpy().astype(np.float64) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    with torch.no_grad():
        raw = model(torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32)))
        embeddings = DeployModel(model, IMAGENET_MEAN, IMAGENET_STD)(crops)
    assert embeddings.dtype == torch.float32 and embeddings.shape == (3, 512)
    expected = raw.numpy() / np.linalg.norm(raw.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(embeddings.numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(embeddings.numpy(), axis=1), 1, atol=1e-6)


def test_a_zero_embedding_stays_zero_and_finite() -> None:
    model = _build("osnet_x0_25")
    torch.nn.init.constant_(model.fc[1].bias, -1e6)  # the last ReLU lets nothing through
    embeddings = DeployModel(model, IMAGENET_MEAN, IMAGENET_STD)(_crops(2))
    assert torch.equal(embeddings, torch.zeros(2, 512))


def test_deploying_puts_the_model_into_evaluation_mode_and_a_row_does_not_depend_on_its_batch() -> None:
    model = _settled(_build("mobilenetv3_large")).train()
    deploy = DeployModel(model, IMAGENET_MEAN, IMAGENET_STD)
    assert not model.training
    crops = _crops(4)
    with torch.no_grad():
        torch.testing.assert_close(deploy(crops)[2:3], deploy(crops[2:3]), rtol=1e-4, atol=1e-6)


def test_torchvisions_rows_are_torchvisions_own() -> None:
    models = pytest.importorskip("torchvision.models", reason="compares with torchvision's table")
    theirs = [*models.ResNet50_Weights, *models.MobileNet_V3_Large_Weights]
    published = {each.url: (each.name, each.meta["_file_size"]) for each in theirs}
    rows = [row for row in WEIGHTS.own.values() if row.source.startswith("torchvision")]
    assert len(rows) == 4
    for row in rows:
        name, mib = published[row.url]
        assert row.source == f"torchvision, {name}" and mib * 2**20 < row.most_bytes < 1.2 * mib * 2**20
