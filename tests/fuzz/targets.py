"""The kinds of files that reid-edge reads: a valid one of each to damage, and what reading it gives.

A kind is *sealed* where a damaged file must be refused or give what the intact one gives: models, checkpoints,
galleries, heads and cards. Any other kind may be accepted when it is valid; then it must be read as an independent
``reference`` reads it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from helpers.tiny_onnx import write_tiny_model

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """How to make a valid file in a folder (and what lies beside it), and how to read it: a comparable value.

    ``reference`` reads a file that was accepted independently; None for a sealed kind. ``needs`` is a module that not
    every installation has.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    reference: Callable[[Path], Any] | None = None
    needs: str = ""

    @property
    def sealed(self) -> bool:
        """Whether a damaged file must be refused, or give what the intact one gives."""
        return self.reference is None


def _digest(array: Any) -> tuple[Any, ...]:
    values = np.asarray(array)
    return values.shape, values.dtype.str, values.tobytes()


# --- images -----------------------------------------------------------------------------------------------------------


def _image(suffix: str, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from PIL import Image

        rng = np.random.default_rng(0)
        rough = Image.fromarray(rng.integers(0, 256, (6, 3, 3), np.uint8)).resize((24, 48), Image.Resampling.BICUBIC)
        rough.save(folder / f"crop{suffix}", **options)
        return folder / f"crop{suffix}"

    return make


def _read_image(path: Path) -> Any:
    from reid_edge.data.decoding import read

    return _digest(read(path))


def _pillow(path: Path) -> Any:
    """Pillow's pixels; it warns of damage that is not in them."""
    import warnings

    from PIL import Image

    with warnings.catch_warnings(), Image.open(path) as image:
        warnings.simplefilter("ignore")
        if image.mode.startswith("I"):
            return _digest(np.repeat((np.asarray(image, np.int64) >> 8).astype(np.uint8)[:, :, None], 3, axis=2))
        image.info.pop("transparency", None)
        return _digest(image.convert("RGB"))


# --- models -----------------------------------------------------------------------------------------------------------


def _crops(card: Any) -> Any:
    return np.random.default_rng(1).integers(0, 256, (2, *card.input_hw, 3), np.uint8)


def _tiny_model(folder: Path) -> Path:
    return write_tiny_model(folder / "model.onnx", input_hw=(32, 16), embedding_dim=48)


def _embeddings(path: Path) -> Any:
    """What a user sees of a model: its embeddings and its card."""
    from reid_edge.engines.onnxruntime import OnnxEngine

    with OnnxEngine(path, threads=1) as engine:
        return _digest(engine.run(_crops(engine.card))), engine.card


def _read_graph(path: Path) -> Any:
    """What a tool that makes other files of a model sees."""
    from reid_edge.export.graph.io import read_graph

    graph, card = read_graph(path)
    return graph.model.graph.SerializeToString(deterministic=True), card


def _tensors() -> dict[str, Any]:
    """A few tensors: what of a file is tested twice, its bytes and its structure, a small one has as well."""
    import torch

    torch.manual_seed(0)
    return {
        "backbone.conv1.weight": torch.randn(8, 3, 3, 3),
        "neck.bias": torch.randn(8),
        "neck.steps": torch.tensor(7),
    }


def _checkpoint(folder: Path) -> Path:
    import torch

    from reid_edge.card import ModelCard
    from reid_edge.training.models.checkpoint import Checkpoint, save_checkpoint

    training = {"epoch": 3, "seed": 1, "optimizer": {"state": {0: {"step": 3.0, "mean": torch.ones(4)}}}}
    path = folder / "checkpoint.pth"
    save_checkpoint(Checkpoint(ModelCard("osnet_x0_25", 512), _tensors(), training), path)
    return path


def _read_checkpoint(path: Path) -> Any:
    from reid_edge.training.models.checkpoint import load_checkpoint

    found = load_checkpoint(path)
    tensors = tuple((name, _digest(value.numpy())) for name, value in sorted(found.model.items()))
    return found.card, tensors, repr(found.training)


def _bare_weights(folder: Path) -> Path:
    import torch

    torch.save(_tensors(), folder / "weights.pth")
    return folder / "weights.pth"


def _read_weights(path: Path) -> Any:
    from reid_edge.training.models.weights import read_state_dict

    return tuple((name, _digest(value.numpy())) for name, value in sorted(read_state_dict(path).items()))


# --- galleries, heads and cards ---------------------------------------------------------------------------------------


def _gallery(folder: Path) -> Path:
    from reid_edge.gallery.memory import Gallery

    gallery = Gallery()
    rows = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gallery.enrol(rows, [f"person {n % 5} \N{SNOWMAN} {n}" for n in range(12)])
    gallery.save(folder / "gallery.npz")
    return folder / "gallery.npz"


def _read_gallery(path: Path) -> Any:
    from reid_edge.gallery.memory import Gallery

    gallery = Gallery.load(path)
    return gallery.dim, gallery.model, gallery.labels, [_digest(block) for block in gallery.blocks()]


def _head(folder: Path) -> Path:
    from reid_edge.pair_head import PairHead

    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    knots = np.array([[-2, 0, 1.5], [-1, 0.25, 3]], np.float32)
    PairHead(weight, bias, 7.0, -2.0, knots, "0" * 63 + "1", {"people": 40, "note": "drawn"}).save(folder / "head.npz")
    return folder / "head.npz"


def _read_head(path: Path) -> Any:
    from reid_edge.pair_head import PairHead

    head = PairHead.load(path)
    arrays = [_digest(array) for array in (head.weight, head.bias, head.knots)]
    return arrays, head.scale, head.offset, head.model, json.dumps(head.facts, sort_keys=True)


def _engine_card(folder: Path) -> Path:
    from reid_edge.card import ModelCard
    from reid_edge.engines.engine_card import EngineCard

    model = ModelCard("osnet_x0_25", 512, weights_sha256="ab" * 32)
    options = {"batches": [1, 8, 32], "workspace_mib": 512}
    card = EngineCard(model, "cd" * 32, "tensorrt", "10.3.0", engine_sha256="ef" * 32, options=options)
    path = EngineCard.path_for(folder / "model.engine")
    path.write_text(card.to_json(), encoding="utf-8")
    return path


def _read_engine_card(path: Path) -> Any:
    from reid_edge.engines.engine_card import EngineCard

    return EngineCard.read(path.with_suffix(""))


def _card_text(folder: Path) -> Path:
    from reid_edge.card import ModelCard

    recipe = {"epochs": 2, "milestones": [1, 2], "arch": "osnet_x0_25"}
    ranges = {"layers": {"conv1": [1.5, 2.0]}, "note": "trained"}
    card = ModelCard(
        "osnet_x0_25", 512, recipe=recipe, quantization=ranges, parameters=201_864, weights_sha256="ab" * 32
    )
    (folder / "card.json").write_text(card.to_json(), encoding="utf-8")
    return folder / "card.json"


def _read_card_text(path: Path) -> Any:
    """A card alone, as a hostile file may hold it under an intact seal; its bytes reach it as text."""
    from reid_edge.card import ModelCard

    card = ModelCard.from_json(path.read_bytes().decode("utf-8", "surrogateescape"), str(path))
    return {name: _plain(value) for name, value in vars(card).items()}


def _plain_json(path: Path) -> Any:
    """The json module's reading over the defaults."""
    from reid_edge.card import ModelCard

    given = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    known = vars(ModelCard("", 1))
    given = {"input_format" if name == "layout" else name: value for name, value in given.items()}
    return {name: _plain(given.get(name, default)) for name, default in known.items()}


# --- manifests and recipes --------------------------------------------------------------------------------------------


def _manifest(folder: Path) -> Path:
    rows = []
    for pid in range(4):
        for camera in range(3):
            name = f"crops/{pid}_c{camera}.jpg"
            (folder / "crops").mkdir(exist_ok=True)
            (folder / name).write_bytes(b"x")
            rows.append(f"{name},{pid},{camera},{('train', 'query', 'gallery')[camera]}")
    (folder / "crops" / "a, b.jpg").write_bytes(b"x")
    text = "\n".join(["path,pid,camid,split", *rows, '"crops/a, b.jpg", 7 ,1,train', ""])
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return folder / "manifest.csv"


def _read_manifest(path: Path) -> Any:
    from reid_edge.data.readers.manifest import read_manifest

    listing = read_manifest(path)
    parts = (listing.split.train, listing.split.query, listing.split.gallery)
    return [[(str(crop.path), listing.names.get(crop.pid, crop.pid), crop.camid) for crop in part] for part in parts]


def _plain_csv(path: Path) -> Any:
    """The same table by the csv module alone: a row is as many texts as the header has, stripped of spaces."""
    text = path.read_bytes().decode("utf-8-sig")
    header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if row]
    parts: dict[str, list[Any]] = {"train": [], "query": [], "gallery": []}
    for values in rows:
        row = dict(zip(header, values, strict=True))
        pid = row["pid"].strip()
        person = pid if any(map(str.isalpha, pid)) else int(pid)
        if isinstance(person, str) or person >= 0:
            parts[row["split"]].append((str(path.parent / row["path"]), person, int(row["camid"])))
    return list(parts.values())


def _recipe(folder: Path) -> Path:
    from reid_edge.training.recipe.recipes import recipe_for

    (folder / "recipe.toml").write_text(recipe_for("osnet_x0_25").to_toml(), encoding="utf-8")
    return folder / "recipe.toml"


def _read_recipe(path: Path) -> Any:
    from reid_edge.training.recipe.config import TrainConfig

    return {name: _plain(value) for name, value in TrainConfig.from_toml(path).to_dict().items()}


def _plain_toml(path: Path) -> Any:
    """The standard library's reading over the defaults."""
    import tomllib

    from reid_edge.training.recipe.config import TrainConfig

    defaults = TrainConfig(arch="osnet_x0_25").to_dict()
    given = tomllib.loads(path.read_bytes().decode("utf-8").replace("\r\n", "\n"))
    assert set(given) <= {field.name for field in fields(TrainConfig)}
    return {name: _plain(given.get(name, default)) for name, default in defaults.items()}


def _plain(value: Any) -> Any:
    return [*value] if isinstance(value, tuple | list) else value


KINDS: dict[str, Kind] = {
    "jpeg": Kind(_image(".jpg", quality=80), _read_image, _pillow),
    "png": Kind(_image(".png"), _read_image, _pillow),
    "bmp": Kind(_image(".bmp"), _read_image, _pillow),
    "webp": Kind(_image(".webp"), _read_image, _pillow),
    "model": Kind(_tiny_model, _embeddings, needs="onnx"),
    "graph": Kind(_tiny_model, _read_graph, needs="onnx"),
    "checkpoint": Kind(_checkpoint, _read_checkpoint, needs="torch"),
    "weights": Kind(_bare_weights, _read_weights, needs="torch"),
    "gallery": Kind(_gallery, _read_gallery),
    "head": Kind(_head, _read_head),
    "engine card": Kind(_engine_card, _read_engine_card),
    "card text": Kind(_card_text, _read_card_text, _plain_json),
    "manifest": Kind(_manifest, _read_manifest, _plain_csv),
    "recipe": Kind(_recipe, _read_recipe, _plain_toml, needs="tomlkit"),
}
"""By the name that the table gives them."""
