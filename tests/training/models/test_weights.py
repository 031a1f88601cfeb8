"""Imported weights: nothing trusted, everything accounted for."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.card import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from reid_edge.errors import InputError, ModelError  # noqa: E402
from reid_edge.training.models import untrusted  # noqa: E402
from reid_edge.training.models.registry import build_model  # noqa: E402
from reid_edge.training.models.reid_model import ReidModel  # noqa: E402
from reid_edge.training.models.weights import import_weights, read_state_dict  # noqa: E402


def _model(seed: int = 0, name: str = "osnet_x0_25", num_classes: int = 0, **options: Any) -> ReidModel:
    torch.manual_seed(seed)
    return build_model(name, num_classes, **options)


def _torchreid(seed: int = 1, name: str = "osnet_x0_25") -> dict[str, Any]:
    """A state dict with torchreid's names: no "backbone.", and a classifier of 1041."""
    state = _model(seed, name, num_classes=1041).state_dict()
    return OrderedDict((key.removeprefix("backbone."), value) for key, value in state.items())


def _assert_loaded(model: ReidModel, state: dict[str, Any]) -> None:
    for key, value in model.state_dict().items():
        if not key.startswith("classifier."):
            assert torch.equal(value, state[key.removeprefix("backbone.")]), key


def _one_line(caught: pytest.ExceptionInfo[InputError]) -> str:
    message = str(caught.value)
    assert "\n" not in message and ": " in message
    return message


# --- real weights ---


def test_torchreids_own_file_fits_whole_and_its_classifier_is_left_behind(dev_weights: Path) -> None:
    report = import_weights(_model(num_classes=601), read_state_dict(dev_weights))
    assert report.backbone_share == 1.0 and len(report.matched) == 485
    assert report.missing == report.mismatched == report.unexpected == report.notes == ()
    assert report.dropped_heads == ("classifier.weight", "classifier.bias")
    assert report.summary().startswith("485 of 485 tensors loaded, 100.0% of the backbone.")


def test_the_embeddings_are_those_of_another_programs_onnx_file(
    dev_weights: Path, dev_onnx: Path, dev_crops: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="runs the reference file")
    from reid_edge.data.images import read_crops

    model = _model()
    import_weights(model, read_state_dict(dev_weights))
    paths = sorted((dev_crops / "query").glob("*.jpg"))[:6]
    crops = (read_crops(paths) / np.float32(255) - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    noise = np.random.default_rng(0).normal(size=(2, 3, 256, 128))
    images = np.concatenate([crops.transpose(0, 3, 1, 2), noise]).astype(np.float32)
    session = runtime.InferenceSession(dev_onnx, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"input": images})
    with torch.inference_mode():
        ours = model.eval()(torch.from_numpy(images)).numpy()
    assert theirs.max() > 1  # un-normalised, so that an absolute error means something
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


# --- names and shapes ---


@pytest.mark.parametrize("wrapper", ["bare", "state_dict", "model", "module."])
def test_the_usual_wrappings_are_taken_off(tmp_path: Path, wrapper: str) -> None:
    state = _torchreid()
    content: Any = {"module." + key: value for key, value in state.items()} if wrapper == "module." else state
    torch.save({wrapper: content, "epoch": 3} if wrapper in {"state_dict", "model"} else content, tmp_path / "w.pth")
    model = _model()
    report = import_weights(model, read_state_dict(tmp_path / "w.pth"))
    assert report.missing == ()
    _assert_loaded(model, state)


def test_the_old_file_format_is_read(tmp_path: Path) -> None:
    torch.save(_torchreid(), tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert read_state_dict(tmp_path / "w.pth").keys() == _torchreid().keys()


def test_our_own_names_are_known_and_other_peoples_classifier_is_not_taken() -> None:
    source, model = _model(1, num_classes=4), _model(0, num_classes=4)
    before = model.classifier.weight.clone() if model.classifier else None
    report = import_weights(model, source.state_dict())
    assert report.missing == () and len(report.dropped_heads) == 2
    assert model.classifier is not None and torch.equal(model.classifier.weight, before)
    _assert_loaded(model, {k.removeprefix("backbone."): v for k, v in source.state_dict().items()})


@pytest.mark.parametrize(("name", "heads"), [("resnet50_bot", 2), ("mobilenetv3_large", 4)])
def test_torchvisions_heads_are_dropped_and_reported_as_such(name: str, heads: int) -> None:
    models = pytest.importorskip("torchvision.models", reason="uses torchvision's state dict")
    state = (models.resnet50() if "resnet" in name else models.mobilenet_v3_large()).state_dict()
    report = import_weights(_model(name=name, num_classes=7), state)
    assert report.backbone_share == 1.0 and report.unexpected == report.mismatched == ()
    assert len(report.dropped_heads) == heads
    assert set(report.missing) == {f"neck.{part}" for part in ("weight", "bias", "running_mean", "running_var")}
    assert "neck.weight" in report.summary() and "as it should be" in report.summary()


def test_weights_of_the_bot_program_bring_their_neck_and_turn_off_the_stems_relu() -> None:
    source = _model(1, "resnet50_bot", num_classes=9)
    torch.nn.init.constant_(source.neck.running_mean, 0.25)
    renamed = {"backbone": "base", "neck": "bottleneck", "classifier": "classifier"}
    state = {}
    for key, value in source.state_dict().items():
        part, _, rest = key.partition(".")
        state[f"{renamed[part]}.{rest}"] = value
    model = _model(0, "resnet50_bot")
    report = import_weights(model, state)
    assert report.missing == report.unexpected == () and report.dropped_heads == ("classifier.weight",)
    assert (model.neck.running_mean == 0.25).all()
    assert model.options["stem_relu"] is False and model.backbone.stem_relu is False
    assert "stem_relu" in report.summary()


def test_counters_may_be_absent() -> None:
    state = {key: value for key, value in _torchreid().items() if not key.endswith("num_batches_tracked")}
    report = import_weights(_model(), state)
    assert report.missing == () and report.backbone_share == 1.0


def test_another_shape_is_not_loaded_and_is_told_with_both_shapes() -> None:
    state = _torchreid()
    model = _model(feature_dim=100)
    before = model.fc[0].weight.clone()
    report = import_weights(model, state)
    assert torch.equal(model.fc[0].weight, before)
    assert "fc.0.weight (float32 [512, 128], here float32 [100, 128])" in report.mismatched
    assert "fc.0.weight" in report.missing and report.backbone_share == 1.0
    assert "train before you use" in report.summary()


def test_what_has_no_place_is_unexpected() -> None:
    report = import_weights(_model(), {**_torchreid(), "attention.weight": torch.ones(3)})
    assert report.unexpected == ("attention.weight",)
    assert "attention.weight" in report.summary()


# --- the gate ---


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("mobilenetv3_large", "osnet_x0_25"), ("osnet_x0_5", "osnet_x0_25"), ("osnet_x0_25", "osnet_x0_5")],
)
def test_another_models_weights_fail_and_name_the_model_they_are_of(name: str, theirs: str) -> None:
    model = _model(0, name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ModelError, match=f"--arch {theirs}$") as caught:
        import_weights(model, _torchreid(1, theirs))
    assert f"the backbone of {name}, and 95% are needed" in _one_line(caught)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_weights_of_nothing_we_know_fail_in_one_line() -> None:
    with pytest.raises(ModelError, match="or name theirs with --arch") as caught:
        import_weights(_model(), {"a\nb": torch.ones(1)})
    assert "0.0%" in _one_line(caught)


def _backbone_keys(state: dict[str, Any]) -> list[str]:
    outside = ("fc.", "classifier.")
    return [k for k in state if not k.startswith(outside) and not k.endswith("num_batches_tracked")]


@pytest.mark.parametrize(("lost", "passes"), [(0.04, True), (0.06, False)])
def test_ninety_five_percent_of_the_tensors_decide(lost: float, passes: bool) -> None:
    state = _torchreid()
    backbone = _backbone_keys(state)
    smallest = sorted(backbone, key=lambda key: state[key].numel())[: int(lost * len(backbone))]
    for key in smallest:
        del state[key]
    if passes:
        assert import_weights(_model(), state).backbone_share == 1 - len(smallest) / len(backbone)
    else:
        with pytest.raises(ModelError, match="95% are needed"):
            import_weights(_model(), state)


def test_ninety_five_percent_of_the_values_decide_too() -> None:
    state = _torchreid()
    largest = sorted(_backbone_keys(state), key=lambda key: state[key].numel())[-3:]  # 1 % of the tensors
    for key in largest:
        del state[key]
    with pytest.raises(ModelError, match="95% are needed"):
        import_weights(_model(), state)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    state = _torchreid()
    state["conv5.conv.weight"][0, 0] = bad
    model = _model()
    before = model.backbone.conv1.conv.weight.clone()
    with pytest.raises(ModelError, match="conv5.conv.weight") as caught:
        import_weights(model, state)
    _one_line(caught)
    assert torch.equal(model.backbone.conv1.conv.weight, before)


# --- files that are not what they say ---


class _Bomb:
    """Runs a command when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_pickle_bomb_does_nothing_and_is_refused(tmp_path: Path, form: str) -> None:
    target, path = tmp_path / "boom", tmp_path / "w.pth"
    content = {"state_dict": _Bomb(target)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelError) as caught:
        read_state_dict(path)
    assert not target.exists()
    assert "state_dict()" in _one_line(caught)
    pickle.loads(pickle.dumps(content))
    assert target.exists(), "the bomb of this test must be live"


def _saved(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"weights go here\n", id="text"),
        pytest.param(b"<!DOCTYPE html><html>404</html>", id="a failed download"),
        pytest.param(_saved({"a": torch.ones(1000)})[:-200], id="truncated"),
        pytest.param(_saved({"a": torch.ones(1000)})[:300], id="truncated early"),
        pytest.param(
            _saved({"a": torch.ones(1000)}, legacy=True)[:-200],
            id="truncated legacy",
        ),
        pytest.param(b"\x80\x02", id="two bytes of a pickle"),
        pytest.param(b"\x93NUMPY\x01\x00", id="numpy"),
    ],
)
def test_damaged_files_and_other_formats_are_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged, or not a PyTorch checkpoint") as caught:
        read_state_dict(path)
    assert str(path) in _one_line(caught)


def test_a_zip_of_something_else_is_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(ModelError, match="damaged, or not a PyTorch checkpoint"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"a": 1.5}, "'a' is a float"),
        ({"a": [torch.ones(1)]}, "'a' is a list"),
        ({3: torch.ones(1)}, "'3' is a Tensor"),
        ({"state_dict": {"a": "b"}}, "'a' is a str"),
        ({"a": torch.ones(1).expand(1 << 20, 1 << 20)}, "far above any model"),
        ({"a": torch.ones(3).to_sparse()}, "dense"),
        ({"a": torch.empty(3, device="meta")}, "dense"),
        (torch.ones(3), "holds no state dict"),
        ([torch.ones(3)], "holds no state dict"),
        ({}, "holds no state dict"),
    ],
)
def test_what_is_no_state_dict_is_one_line(tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=says) as caught:
        read_state_dict(tmp_path / "w.pth")
    _one_line(caught)


def test_a_file_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untrusted, "_MAX_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(1 << 21))
    assert (tmp_path / "w.pth").stat().st_size < 1 << 14
    with pytest.raises(ModelError, match="far above any model") as caught:
        read_state_dict(tmp_path / "w.pth")
    _one_line(caught)


def test_a_missing_file_and_a_folder_are_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(InputError) as caught:
            read_state_dict(path)
        _one_line(caught)
