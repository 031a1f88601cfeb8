"""The doors of the top level: lazy, keyword-only, typed, and not replaced by a sub-package of the same name."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.tiny_onnx import write_tiny_model

import reid_edge
from reid_edge.data.synthetic.dataset import synthesize
from reid_edge.errors import InputError, MissingExtraError, ModelError

PACKAGE = Path(reid_edge.__file__).parent
DOORS = (
    "bench",
    "cross_domain",
    "doctor",
    "evaluate",
    "export_model",
    "import_model",
    "inspect_model",
    "open_engine",
    "train_model",
    "verify_export",
)
HW = (64, 32)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(tmp_path_factory.mktemp("drawn") / "set", identities=2, test_identities=3, cameras=2, size_hw=HW)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx", input_hw=HW)


@pytest.fixture(autouse=True, scope="module")
def _every_sub_package_is_imported() -> None:
    """An import of ``reid_edge.export`` puts the package into ``reid_edge`` under its name: no door may have it."""
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        if "__init__.py" in files:
            parts = Path(folder).relative_to(PACKAGE).parts
            importlib.import_module(".".join(("reid_edge", *parts)))
    for module in PACKAGE.glob("*.py"):
        if module.stem not in ("__init__", "__main__"):
            importlib.import_module(f"reid_edge.{module.stem}")


def test_no_door_has_the_name_of_a_module() -> None:
    taken = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert {"export", "training", "benchmarks", "embedder", "gallery", "cli", "errors"} <= taken
    assert not taken & set(reid_edge.__all__)


def test_every_public_name_has_a_home_and_comes_from_it() -> None:
    assert set(reid_edge._HOMES) == set(reid_edge.__all__) - {"__version__"}
    for name, home in reid_edge._HOMES.items():
        assert getattr(reid_edge, name) is getattr(importlib.import_module(f"reid_edge.{home}"), name)
    assert set(dir(reid_edge)) == set(reid_edge.__all__)
    with pytest.raises(AttributeError, match="nonesuch"):
        reid_edge.nonesuch  # noqa: B018


def test_the_types_that_a_checker_sees_are_the_ones_that_run() -> None:
    """The imports under TYPE_CHECKING name the same homes as the lazy table."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    seen = {alias.name: str(node.module) for node in imports for alias in node.names}
    for name, home in reid_edge._HOMES.items():
        assert seen[name] == f"reid_edge.{home}"


@pytest.mark.parametrize("name", DOORS)
def test_a_door_is_keyword_only_typed_and_explained(name: str) -> None:
    door = getattr(reid_edge, name)
    assert inspect.isfunction(door)
    signature = inspect.signature(door)
    places = [each for each in signature.parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert 1 <= len(places) <= 2, f"after {[each.name for each in places][:2]}, options go by keyword"
    assert signature.return_annotation not in (signature.empty, "None", "Any", "dict[str, Any]")
    assert all(each.annotation is not each.empty for each in signature.parameters.values())
    assert ">>> " in (door.__doc__ or "") and "Raises" in (door.__doc__ or "")


@pytest.mark.parametrize("name", [name for name in reid_edge.__all__ if name.endswith("Options")])
def test_options_are_frozen_and_keyword_only(name: str) -> None:
    record = getattr(reid_edge, name)
    assert dataclasses.is_dataclass(record) and record.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in dataclasses.fields(record))


def test_evaluate_from_the_top(model: Path, people: Path) -> None:
    from_file = reid_edge.evaluate(model, people, threads=1)
    assert isinstance(from_file, reid_edge.Evaluation)
    assert (from_file.model, from_file.metrics.queries) == ("tiny.onnx", 6)
    with reid_edge.open_engine(model, threads=1) as engine:
        from_engine = reid_edge.evaluate(engine, people)
    with reid_edge.Embedder(model, threads=1) as embedder:
        from_embedder = reid_edge.evaluate(embedder, reid_edge.open_dataset(people))
    assert from_engine.metrics.to_dict() == from_embedder.metrics.to_dict() == from_file.metrics.to_dict()


def test_evaluate_takes_the_options_of_the_command(model: Path, people: Path) -> None:
    result = reid_edge.evaluate(model, people, distance="euclidean", resize="pillow-bilinear", layout="market1501")
    assert (result.distance, result.resize, result.part) == ("euclidean", "pillow-bilinear", "test")


def test_evaluate_refuses_what_an_open_or_self_describing_model_knows(model: Path, people: Path) -> None:
    with pytest.raises(InputError, match=r"leave --arch osnet_x0_25 \(arch=\) out"):
        reid_edge.evaluate(model, people, arch="osnet_x0_25")
    with reid_edge.open_engine(model) as engine, pytest.raises(InputError, match="leave arch, threads and backend out"):
        reid_edge.evaluate(engine, people, threads=1)


def test_evaluate_reads_a_checkpoint(people: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the train extra")
    from reid_edge.training.models.checkpoint import Checkpoint, card_of, save_checkpoint
    from reid_edge.training.models.registry import build_model

    torch.manual_seed(0)
    network = build_model("osnet_x0_25")
    save_checkpoint(Checkpoint(card_of(network, input_hw=HW), network.state_dict()), tmp_path / "model.pth")
    result = reid_edge.evaluate(tmp_path / "model.pth", people)
    assert (result.model, result.card.architecture) == ("model.pth", "osnet_x0_25")
    assert 0 < result.metrics.mAP <= 1
    same = reid_edge.evaluate(tmp_path / "model.pth", people, arch="osnet_x0_25")
    assert (same.metrics.mAP, same.metrics.rank(1)) == (result.metrics.mAP, result.metrics.rank(1))
    with pytest.raises(ModelError, match="leave --arch out"):
        reid_edge.evaluate(tmp_path / "model.pth", people, arch="resnet50_bot")


def test_evaluate_reads_foreign_weights_by_their_architecture(dev_weights: Path, people: Path) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    result = reid_edge.evaluate(dev_weights, people, arch="osnet_x0_25")
    assert (result.model, result.card.architecture) == (dev_weights.name, "osnet_x0_25")
    with pytest.raises(ModelError, match="--arch"):
        reid_edge.evaluate(dev_weights, people)


def test_a_checkpoint_without_torch_names_the_extra(people: Path, tmp_path: Path) -> None:
    """An environment without torch, made by hiding it from the import system of a child."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    (tmp_path / "model.pth").write_bytes(b"weights")
    code = (
        "import sys, reid_edge\n"
        "from reid_edge.errors import MissingExtraError\n"
        "try:\n"
        "    reid_edge.evaluate(sys.argv[1], sys.argv[2])\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", code, str(tmp_path / "model.pth"), str(people)]
    child = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert child.stdout == f"{MissingExtraError('torch', 'reading checkpoints')}\n", child.stderr


@pytest.fixture(scope="module")
def trained(people: Path, tmp_path_factory: pytest.TempPathFactory) -> reid_edge.TrainReport:
    pytest.importorskip("torch", reason="needs the train extra")
    small = {"input_hw": HW, "identities_per_batch": 2, "crops_per_identity": 2}
    out = tmp_path_factory.mktemp("run")
    return reid_edge.train_model(people, out, arch="osnet_x0_25", epochs=1, settings=small)


def test_train_from_the_top(trained: reid_edge.TrainReport, people: Path) -> None:
    assert isinstance(trained, reid_edge.TrainReport)
    assert trained.model.is_file() and trained.card.input_hw == HW and len(trained.history) == 1
    scored = reid_edge.evaluate(trained.model, people)
    assert trained.metrics is not None and trained.metrics["mAP"] == pytest.approx(scored.metrics.mAP, abs=1e-6)


def test_export_from_the_top(trained: reid_edge.TrainReport, people: Path, tmp_path: Path) -> None:
    report = reid_edge.export_model(trained.model, tmp_path, precisions=("fp32", "fp16"), data=people)
    files = [file.path for file in report.files]
    assert [path.name for path in files] == ["osnet_x0_25_fp32.onnx", "osnet_x0_25_fp16.onnx"]
    expected = reid_edge.evaluate(trained.model, people).metrics
    assert reid_edge.evaluate(files[0], people).metrics.mAP == pytest.approx(expected.mAP, abs=1e-6)


def test_bench_from_the_top(model: Path) -> None:
    options = reid_edge.BenchOptions(batches=(1, 2), repeats=1, min_seconds=0, threads=1)
    report = reid_edge.bench(model, options=options)
    assert isinstance(report, reid_edge.BenchReport)
    assert [(row.model, row.batch) for row in report.rows] == [("tiny", 1), ("tiny", 2)]


def test_embed_and_search_from_the_top(model: Path, people: Path) -> None:
    crops = sorted((people / "query").glob("*.jpg"))
    with reid_edge.Embedder(model) as embedder:
        gallery = reid_edge.Gallery()
        embeddings = embedder.embed(crops)
        gallery.enrol(embeddings, labels=[path.stem for path in crops])
        ranking = gallery.search(embeddings[:1], k=1)
    assert ranking.named(0)[0][0] == crops[0].stem
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(len(crops)))


@pytest.mark.parametrize("name", DOORS)
def test_a_door_is_still_a_function_after_its_siblings_were_imported(name: str) -> None:
    """In a fresh interpreter, the packages first and the doors after them, then the other way round."""
    packages = ", ".join(f"reid_edge.{each}" for each in ("api", "benchmarks", "embedder", "export", "gallery"))
    for code in (
        f"import {packages}; import reid_edge; assert callable(reid_edge.{name})",
        f"import reid_edge; reid_edge.{name}; import {packages}; assert callable(reid_edge.{name})",
    ):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
