"""Damaged checkpoints: some hundred mutations of one, each refused in one line or read as the very same content."""

from __future__ import annotations

import io
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training tests need the train extra")

from helpers.log import logged  # noqa: E402

from reid_edge.errors import ModelError  # noqa: E402
from reid_edge.training.models.backbone import Backbone  # noqa: E402
from reid_edge.training.models.checkpoint import (  # noqa: E402
    Checkpoint,
    card_of,
    load_checkpoint,
    load_model,
    save_checkpoint,
)
from reid_edge.training.models.registry import build_model  # noqa: E402
from reid_edge.training.models.reid_model import ReidModel  # noqa: E402
from reid_edge.training.models.untrusted import content_hash  # noqa: E402
from reid_edge.training.models.weights import read_state_dict  # noqa: E402


class _Small(Backbone):
    channels = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 3, stride=4)
        self.bn1 = torch.nn.BatchNorm2d(8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.bn1(self.conv1(images))
        return output


def _checkpoint() -> Checkpoint:
    """A small network with a classifier, after one step of an optimiser."""
    torch.manual_seed(0)
    options = {"feature_dim": 0, "neck": True, "neck_bias": False, "pooling": "mean"}
    model = ReidModel("osnet_x0_25", _Small(), options, num_classes=5)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 3, 32, 16)).logits.sum().backward()
    optimizer.step()
    training = {"optimizer": optimizer.state_dict(), "history": [{"epoch": 1, "losses": {"id": 0.5}}]}
    return Checkpoint(card_of(model), model.state_dict(), training)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "checkpoint.pth"
    save_checkpoint(_checkpoint(), path)
    return path.read_bytes()


def _flipped(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _swapped(content: bytes, rng: random.Random) -> bytes:
    size = rng.choice([16, 64, 512])
    first, second = sorted(rng.sample(range(0, len(content) - size, size), 2))
    a, b = content[first : first + size], content[second : second + size]
    return content[:first] + b + content[first + size : second] + a + content[second + size :]


def _zeroed(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes(64) + content[place + 64 :]


def _zipped_again(content: bytes, rng: random.Random) -> bytes:
    """A flipped bit in one entry, with a checksum that matches it: as memory that failed before the write."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(buffer, "w") as after:
        chosen = rng.choice([name for name in before.namelist() if "/data/" in name])
        for name in before.namelist():
            data = before.read(name)
            after.writestr(name, _flipped(data, rng) if name == chosen else data)
    return buffer.getvalue()


def _same(path: Path) -> bool:
    """Whether a checkpoint is read as the one that was written, card, classifier and optimiser too."""
    read, written = load_checkpoint(path), _checkpoint()
    parts = [(each.card.to_json(), each.model, each.training) for each in (read, written)]
    return content_hash(parts[0]) == content_hash(parts[1])


@pytest.mark.parametrize("mutate", [_flipped, _truncated, _swapped, _zeroed, _zipped_again])
def test_a_mutated_checkpoint_is_refused_or_read_as_it_was(
    mutate: Callable[[bytes, random.Random], bytes], content: bytes, tmp_path: Path
) -> None:
    rng, path, refused = random.Random(0), tmp_path / "checkpoint.pth", 0
    for number in range(120):
        path.write_bytes(mutate(content, rng))
        try:
            with logged() as said:
                assert _same(path) and not said, f"mutation {number} was read as another checkpoint"
        except ModelError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            refused += 1
    assert refused > 60, "the mutations of this test must do damage"


def _with_entry(content: bytes, name: str) -> bytes:
    buffer = io.BytesIO(content)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore")  # zipfile's own, about a name that is there twice
        archive.writestr(name, b"\0" * 16)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["{root}/data/0", "{root}/DATA/0", "other/data/0"])
def test_a_zip_with_an_entry_twice_or_in_another_folder_is_refused(content: bytes, tmp_path: Path, name: str) -> None:
    root = zipfile.ZipFile(io.BytesIO(content)).namelist()[0].split("/")[0]
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(_with_entry(content, name.format(root=root)))
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(path)


def test_a_flipped_bit_in_a_bare_state_dict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.full((1000,), 3.0)}, path)
    content = path.read_bytes()
    place = content.index(torch.full((4,), 3.0).numpy().tobytes()) + 400
    path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
    assert torch.load(path, weights_only=True)["weight"].ne(3).sum() == 1, "torch itself must not see it"
    with pytest.raises(ModelError, match="damaged"):
        read_state_dict(path)


def _resaved(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    written = torch.load(path, weights_only=True)
    change(written)
    torch.save(written, path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = build_model("osnet_x0_25", num_classes=3)
    save_checkpoint(Checkpoint(card_of(model), model.state_dict()), tmp_path / "model.pth")
    return tmp_path / "model.pth"


def test_a_changed_classifier_is_seen_although_no_embedding_depends_on_it(saved: Path) -> None:
    _resaved(saved, lambda written: written["model"]["classifier.bias"].add_(1))
    with pytest.raises(ModelError, match="does not match its seal"):
        load_model(saved)


def test_a_checkpoint_of_before_opens_with_a_note_and_its_weights_are_checked(saved: Path) -> None:
    _resaved(saved, lambda written: written.pop("sha256"))
    with logged() as said:
        load_model(saved)
    assert len(said) == 1 and "no seal" in said[0]
    _resaved(saved, lambda written: written["model"]["fc.0.bias"].add_(1))
    with pytest.raises(ModelError, match="weights are not those that it names"):
        load_model(saved)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weights_sha256": "0" * 64}, "weights_sha256 is not a hash"),
        ({"weights_sha256": "ab" * 32}, "weights are not those that it names"),
        ({"embedding_dim": 128}, "512 numbers, and its card says 128"),
        ({"options": {"feature_dim": 100}}, "100 numbers, and its card says 512"),
        ({"options": {"num_classes": 7}}, "has no option 'num_classes'"),
        ({"options": {"name": "resnet50_bot"}}, "has no option 'name'"),
        ({"options": {"pooling": ["gem"]}}, "pooling cannot be"),
        ({"architecture": "resnet50_bot", "options": {}}, "does not fit its own card|2048 numbers"),
        ({"architecture": "vit", "options": {}}, "unknown architecture 'vit'"),
    ],
)
def test_a_card_that_lies_is_one_line(saved: Path, changes: dict[str, Any], says: str) -> None:
    honest = load_checkpoint(saved)
    save_checkpoint(Checkpoint(honest.card.with_(**changes), honest.model), saved)
    with pytest.raises(ModelError, match=says) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = build_model("osnet_x0_25")
    torch.nn.init.constant_(model.fc[1].running_var, float("inf"))
    save_checkpoint(Checkpoint(card_of(model), model.state_dict()), tmp_path / "model.pth")
    with pytest.raises(ModelError, match="not finite"):
        load_model(tmp_path / "model.pth")


def test_a_tensor_marked_as_a_folder_is_read_all_the_same(tmp_path: Path) -> None:
    """Where torch reads nothing, and gives what is in memory."""
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.full((8,), 3.0)}, path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"weights/data/0") - 46  # its record in the zip's directory: attributes are bytes 38 to 41
    assert content[entry : entry + 4] == b"PK\1\2" and not any(content[entry + 38 : entry + 42])
    content[entry + 38] ^= 0x10
    path.write_bytes(content)
    assert torch.equal(read_state_dict(path)["weight"], torch.full((8,), 3.0))


def test_a_zip_that_zipfile_takes_for_none_is_refused(tmp_path: Path) -> None:
    """A part of its end is there twice: torch finds the whole one, and compares no checksums."""
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.full((1000,), 3.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((4,), 3.0).numpy().tobytes()) + 400] ^= 4
    path.write_bytes(content + content[-22:-7])
    assert not zipfile.is_zipfile(path)
    assert not torch.equal(torch.load(path, weights_only=True)["weight"], torch.full((1000,), 3.0))
    with pytest.raises(ModelError, match="damaged"):
        read_state_dict(path)
