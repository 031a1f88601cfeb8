"""Checkpoints: whole or not at all, untrusted when read, and rebuilt into the model they describe."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from reid_edge.errors import ModelError  # noqa: E402
from reid_edge.training.models.checkpoint import (  # noqa: E402
    Checkpoint,
    card_of,
    load_checkpoint,
    load_model,
    save_checkpoint,
    start_from,
    weights_hash,
)
from reid_edge.training.models.registry import build_model  # noqa: E402


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = build_model("osnet_x0_25", num_classes=7)
    path = tmp_path / "model.pth"
    save_checkpoint(Checkpoint(card_of(model, trained_on="nothing"), model.state_dict()), path)
    return path


def test_a_checkpoint_gives_back_its_model_without_the_classifier(saved: Path) -> None:
    torch.manual_seed(0)
    original = build_model("osnet_x0_25", num_classes=7).eval()
    model, card = load_model(saved)
    assert model.name == card.architecture == "osnet_x0_25"
    assert card.trained_on == "nothing" and card.parameters == 201_864
    images = torch.randn(2, 3, 64, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), original(images), rtol=0, atol=0)
    assert weights_hash(model) == weights_hash(original) == card.weights_sha256


def test_the_weights_hash_sees_one_changed_weight() -> None:
    model = build_model("osnet_x0_25")
    before = weights_hash(model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    assert weights_hash(model) != before


def test_the_weights_hash_is_that_of_every_version() -> None:
    """Galleries and pair heads that are in use hold it: computed by the version that called the backbone a trunk."""
    model = build_model("osnet_x0_25", num_classes=3)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.arange(value.numel()).reshape(value.shape) % 7)
    assert weights_hash(model) == "7716dc49d20ef5a3c65716307ae7168adeab90556e2642420d2f35abb4d84931"


def test_options_travel_with_the_card(tmp_path: Path) -> None:
    model = build_model("resnet50_bot", last_stride=2, stem_relu=False)
    save_checkpoint(Checkpoint(card_of(model), model.state_dict()), tmp_path / "m.pth")
    rebuilt, card = load_model(tmp_path / "m.pth")
    assert rebuilt.options == model.options
    assert card.options["stem_relu"] is False and card.options["last_stride"] == 2


def test_a_stem_without_relu_survives_a_restart_from_our_own_file(tmp_path: Path) -> None:
    """Published BoT weights turn the ReLU off when they are imported; a run started from such a model keeps it off."""
    trained = build_model("resnet50_bot", stem_relu=False)
    save_checkpoint(Checkpoint(card_of(trained), trained.state_dict()), tmp_path / "m.pth")
    fresh = build_model("resnet50_bot")
    report = start_from(fresh, tmp_path / "m.pth")
    assert not report.missing and fresh.options["stem_relu"] is False
    assert weights_hash(fresh) == weights_hash(trained)


def test_a_checkpoint_of_before_the_renaming_is_read(saved: Path) -> None:
    """Made from a present one by its former names: ``trunk`` for the backbone, also in the INT8 activation ranges."""
    now = load_checkpoint(saved)
    ranges = {"note": "n", "layers": {"backbone.conv1.conv": [1.0, 2.0], "fc.0": [3.0]}}
    card = json.loads(now.card.with_(quantization=ranges).to_json().replace("backbone.", "trunk."))
    card["layout"] = card.pop("input_format")
    averaged = {f"module.{name}": value for name, value in now.model.items()}
    former: dict[str, Any] = {
        "format": "reid-edge checkpoint 1",
        "card": json.dumps(card),
        "model": _formerly(now.model),
        "training": {"people": 7, "model": _formerly(now.model), "averaged": _formerly(averaged), "history": []},
    }
    assert (
        "trunk.conv1.conv.weight" in former["model"]
        and "module.trunk.conv1.conv.weight" in (former["training"]["averaged"])
    )
    torch.save(former, saved)

    read = load_checkpoint(saved)
    assert read.card == now.card.with_(quantization=ranges)
    assert read.model.keys() == now.model.keys() == read.training["model"].keys()
    assert read.training["averaged"].keys() == averaged.keys()
    assert read.training["identities"] == 7 and "people" not in read.training
    model, card = load_model(saved)
    assert weights_hash(model) == now.card.weights_sha256 and card.quantization == ranges
    assert not start_from(build_model("osnet_x0_25"), saved).missing


def _formerly(state: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("backbone.", "trunk."): value for name, value in state.items()}


def test_another_architecture_is_refused(saved: Path) -> None:
    with pytest.raises(ModelError, match="holds a osnet_x0_25, not a resnet50_bot"):
        load_model(saved, "resnet50_bot")


def test_a_bare_state_dict_needs_its_architecture(tmp_path: Path) -> None:
    path = tmp_path / "bare.pth"
    torch.save(build_model("osnet_x0_25").state_dict(), path)
    with pytest.raises(ModelError, match="--arch osnet_x0_25"):
        load_model(path)
    with pytest.raises(ModelError, match="was not written by reid-edge train"):
        load_checkpoint(path)


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("through_torch", [True, False])
def test_a_pickle_bomb_does_not_go_off(tmp_path: Path, through_torch: bool) -> None:
    crater, path = tmp_path / "crater", tmp_path / "bomb.pth"
    if through_torch:
        torch.save({"format": _Bomb(crater)}, path)
    else:
        path.write_bytes(pickle.dumps(_Bomb(crater)))
    with pytest.raises(ModelError) as caught:
        load_model(path, "osnet_x0_25")
    assert not crater.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match="model.pth"):
        load_model(saved)


def test_a_checkpoint_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "part.pth"
    torch.save({"format": "reid-edge checkpoint 1", "model": {}}, path)
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)
    torch.save({"format": "reid-edge checkpoint 9"}, path)
    with pytest.raises(ModelError, match="upgrade reid-edge"):
        load_model(path)


def test_weights_that_do_not_fit_their_card_are_refused(tmp_path: Path) -> None:
    osnet, wider = build_model("osnet_x0_25"), build_model("osnet_x0_5")
    path = tmp_path / "lie.pth"
    save_checkpoint(Checkpoint(card_of(osnet), wider.state_dict()), path)
    with pytest.raises(ModelError, match="does not fit its own card"):
        load_model(path)


def test_a_full_disk_keeps_the_old_checkpoint(saved: Path) -> None:
    """A file size limit stands in for the full disk: the operating system itself refuses the write."""
    before = saved.read_bytes()
    code = f"""
import resource, sys, torch
from pathlib import Path
from reid_edge.training.models.checkpoint import Checkpoint, card_of, save_checkpoint
from reid_edge.training.models.registry import build_model
model = build_model("osnet_x0_25")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(Checkpoint(card_of(model), model.state_dict()), Path({str(saved)!r}))
except OSError as error:
    sys.exit(7)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 7, child.stderr
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["model.pth"]
