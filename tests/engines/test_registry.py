"""The registry: which backend opens which file, and what one more backend takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest
from helpers.tiny_onnx import tiny_embeddings, write_tiny_model
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.embedder.embedder import Embedder
from reid_edge.engines.base import Engine, check_batch, check_embeddings, not_open
from reid_edge.engines.facts import EngineFacts
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.engines.registry import ENGINE_BACKENDS, EngineBackend, open_engine
from reid_edge.engines.tensorrt import TensorRTEngine
from reid_edge.errors import InputError, ModelError

HW = (32, 16)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx", input_hw=HW, embedding_dim=10)


def _crops(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (number, *HW, 3), np.uint8)


def test_the_suffix_chooses_the_backend(model: Path, tmp_path: Path) -> None:
    assert isinstance(open_engine(model), OnnxEngine)
    for name in ("m.engine", "M.PLAN"):
        (tmp_path / name).write_bytes(b"")
        assert isinstance(open_engine(tmp_path / name), TensorRTEngine)


def test_an_engine_names_its_backend_and_what_really_runs_it(model: Path) -> None:
    with open_engine(model, backend="onnxruntime", max_batch=7) as engine:
        assert engine.backend == "onnxruntime" and engine.max_batch == 7
        assert engine.provider == engine.facts.provider == "CPUExecutionProvider"
    for name in ("provider", "facts"):
        with pytest.raises(ModelError, match="is not open"):
            getattr(engine, name)
    assert TensorRTEngine("m.engine").backend == "tensorrt"
    for name in ("provider", "facts"):
        with pytest.raises(ModelError, match="is not open"):
            getattr(TensorRTEngine("m.engine"), name)


def test_providers_are_onnx_runtimes(model: Path, tmp_path: Path) -> None:
    asked = ["AbacusExecutionProvider", "CPUExecutionProvider"]
    with pytest.raises(InputError, match="AbacusExecutionProvider"):
        open_engine(model, providers=asked).__enter__()
    with open_engine(model, providers=asked, allow_fallback=True) as engine:
        assert engine.provider == "CPUExecutionProvider"
    (tmp_path / "m.engine").write_bytes(b"")
    for options in ({"providers": asked}, {"allow_fallback": True}):
        with pytest.raises(InputError, match="is run by tensorrt: leave out providers and allow_fallback"):
            open_engine(tmp_path / "m.engine", **options)  # type: ignore[arg-type]


def test_what_a_backend_cannot_honour_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run by onnxruntime, which takes no contexts: .*; openvino and tensorrt can"):
        open_engine(model, contexts=2)
    with pytest.raises(InputError, match=r"run by openvino, which takes no device: leave it out"):
        open_engine(model, backend="openvino", device=0)
    with pytest.raises(InputError, match="99 contexts are not between"):
        open_engine(_engine_file(tmp_path), device=1, contexts=99)
    with pytest.raises(InputError, match=r"device -1 is no GPU: give 0 or more"):
        open_engine(_engine_file(tmp_path), device=-1)


def _engine_file(folder: Path) -> Path:
    (folder / "m.engine").write_bytes(b"")
    return folder / "m.engine"


def test_an_unknown_or_unsuited_backend_is_refused_with_the_list(model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"'onnx' is unknown: give one of onnxruntime \(.*, tensorrt \(\.engine",
    ):
        open_engine(model, backend="onnx")
    with pytest.raises(
        InputError,
        match=r"tiny\.onnx is not a file for tensorrt .*: give onnxruntime \(\.onnx; pip install onnxruntime\)",
    ):
        open_engine(model, backend="tensorrt")
    (tmp_path / "m.pth").write_bytes(b"")
    with pytest.raises(InputError, match=r"m\.pth is not a file for onnxruntime .*: give an \.onnx or \.engine"):
        open_engine(tmp_path / "m.pth", backend="onnxruntime")


def test_files_that_no_backend_runs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(b"")
    with pytest.raises(ModelError, match=r"is a checkpoint: run  reid-edge export .*m\.pth --out DIR"):
        open_engine(tmp_path / "m.pth")
    (tmp_path / "m.tflite").write_bytes(b"")
    with pytest.raises(ModelError, match=r"unknown kind of model file '\.tflite'"):
        open_engine(tmp_path / "m.tflite")


class Abacus:
    """A backend that somebody adds: it reads the same files, and computes by numpy."""

    backend = "abacus"
    provider = "ten fingers"
    facts = EngineFacts(backend, provider, {}, 10, "")

    def __init__(self, path: Path, max_batch: int) -> None:
        self.path, self.max_batch = path, max_batch
        self._card: ModelCard | None = None

    @property
    def card(self) -> ModelCard:
        if self._card is None:
            raise not_open(self.path)
        return self._card

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        check_batch(images, self.card, self.max_batch)
        embeddings = np.asarray(tiny_embeddings(images, embedding_dim=10), np.float32)
        check_embeddings(embeddings, self.path)
        return embeddings

    def __enter__(self) -> Abacus:
        self._card = ModelCard("tiny", 10, input_hw=HW)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._card = None


def test_a_further_backend_is_one_file_and_one_row(model: Path, empty_registry: None) -> None:
    def opened(path: Path, threads: int | None, max_batch: int) -> Engine:
        return Abacus(path, max_batch)

    ENGINE_BACKENDS.register("abacus", EngineBackend("abacus", (".onnx",), "abacus", opened))
    assert isinstance(open_engine(model), OnnxEngine), "the first row that knows the suffix"
    with open_engine(model, backend="onnxruntime") as usual, open_engine(model, backend="abacus") as engine:
        assert engine.provider == "ten fingers"
        np.testing.assert_allclose(engine.run(_crops(3)), usual.run(_crops(3)), atol=1e-5)
        np.testing.assert_array_equal(Embedder(engine).embed(_crops(3)), engine.run(_crops(3)))
        with pytest.raises(ModelError, match=r"outside 1\.\.256"):
            engine.run(_crops(0))
    with pytest.raises(InputError, match=r"abacus \(\.onnx; pip install abacus\)"):
        open_engine(model, backend="onnx")


def test_the_rows_are_in_the_order_in_which_they_are_tried() -> None:
    assert (
        [row.name for row in ENGINE_BACKENDS.values()]
        == list(ENGINE_BACKENDS)
        == ["onnxruntime", "openvino", "tensorrt"]
    )


def test_choosing_a_backend_imports_only_that_one(tmp_path: Path) -> None:
    (tmp_path / "m.engine").write_bytes(b"")
    code = (
        "import sys; from reid_edge import open_engine; open_engine(sys.argv[1])\n"
        "print({'onnxruntime', 'openvino', 'tensorrt', 'cuda', 'pycuda'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.engine")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_rows_that_are_not_finite_are_named() -> None:
    embeddings = np.full((8, 2), 0.5**0.5, np.float32)
    check_embeddings(embeddings, Path("m.onnx"))
    embeddings[[1, 3], 0] = np.nan, np.inf
    with pytest.raises(ModelError, match=r"^m\.onnx: 2 of 8 embeddings of a batch are not finite \(rows 1, 3\): use"):
        check_embeddings(embeddings, Path("m.onnx"))
    embeddings[:] = np.nan
    with pytest.raises(ModelError, match=r"\(rows 0, 1, 2, 3, 4, \.\.\.\)"):
        check_embeddings(embeddings, Path("m.onnx"))


def test_zero_rows_are_what_a_collapsed_training_gives() -> None:
    embeddings = np.full((8, 2), 0.5**0.5, np.float32)
    embeddings[[2, 5]] = 0
    with pytest.raises(
        ModelError, match=r"^m\.onnx: 2 of 8 .* are zero \(rows 2, 5\): use .* fp32 file; .* lower --lr"
    ):
        check_embeddings(embeddings, Path("m.onnx"))


@pytest.mark.parametrize("row", [(0.1, 0), (0.6, 0.7), (1, 0.05), (3e38, 3e38)])
def test_rows_that_are_not_of_norm_1_are_named(row: tuple[float, float]) -> None:
    embeddings = np.tile(np.array([0.6, -0.8], np.float32), (256, 1))
    check_embeddings(embeddings, Path("m.onnx"))
    check_embeddings(embeddings * np.float32(1.0001), Path("m.onnx"))
    embeddings[[0, 255]] = row
    with pytest.raises(
        ModelError, match=r"^m\.onnx: 2 of 256 embeddings of a batch are not of norm 1 \(rows 0, 255\): use"
    ):
        check_embeddings(embeddings, Path("m.onnx"))
