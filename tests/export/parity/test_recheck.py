"""Files and engines against a reference: which limits hold for them, and what a card cannot claim."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_network import CARD, SIDE, network, random_weights, run
from numpy.typing import NDArray

from reid_edge.card import ModelCard
from reid_edge.core.files import sha256_of
from reid_edge.engines.engine_card import EngineCard
from reid_edge.engines.onnxruntime import OnnxEngine
from reid_edge.errors import GateError
from reid_edge.export.graph.fp16 import fp16_from_fp32
from reid_edge.export.graph.graph import Graph
from reid_edge.export.graph.io import write_onnx
from reid_edge.export.int8.calibrate import ranges_over
from reid_edge.export.int8.qdq import quantized
from reid_edge.export.parity.recheck import Reference, Verified, check_engine, verify_file


def coloured() -> NDArray[np.uint8]:
    """24 crops uint8 [24, 16, 16, 3], each with an upper and a lower half of its own colours."""
    rng = np.random.default_rng(0)
    halves = rng.integers(0, 256, (24, 2, 1, 3)).repeat(SIDE // 2, axis=1)
    return np.clip(halves + rng.integers(-20, 20, (24, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


FP32 = network(random_weights())
IMAGES = coloured()
RANGES = ranges_over(FP32, IMAGES, "mse", 1)
INT8 = quantized(FP32, RANGES)
REFERENCE = Reference(
    embeddings=run(FP32, IMAGES),
    crops=IMAGES,
    weights=lambda form: FP32.constants,
    facts={"architecture": "tiny", "resize": CARD.resize, "mean": CARD.mean},
)


def written(path: Path, graph: Graph, card: ModelCard | None = None) -> Path:
    write_onnx(graph, card or CARD.with_(precision=graph.precision), path)
    return path


def verified(path: Path, engine: Path | None = None, reference: Reference = REFERENCE) -> Verified:
    """``engine`` is an ONNX file that answers for the engine ``path``."""
    return verify_file(path, OnnxEngine(engine or path, threads=1), reference)


@pytest.mark.parametrize("graph", [FP32, fp16_from_fp32(FP32), INT8], ids=["fp32", "fp16", "int8"])
def test_right_files_pass_in_every_precision(graph: Graph, tmp_path: Path) -> None:
    row = verified(written(tmp_path / "small.onnx", graph))
    assert not row.refused and row.parity and (row.precision, row.note) == (graph.precision, "")


def test_the_float_weights_are_asked_for_only_where_they_were_rounded(tmp_path: Path) -> None:
    def unknown(form: str) -> dict[str, NDArray[Any]]:
        raise GateError("asked for")

    reference = replace(REFERENCE, weights=unknown)
    assert not verified(written(tmp_path / "fp32.onnx", FP32), reference=reference).refused
    assert str(verified(written(tmp_path / "int8.onnx", INT8), reference=reference).refused) == "asked for"


def test_a_file_of_other_weights_is_refused_beneath_its_rounding(tmp_path: Path) -> None:
    """One bias off by 0.02 is less than INT8 rounds away."""
    weights = random_weights()
    weights["model.fc.0.bias"][0] += 0.02
    row = verified(written(tmp_path / "small.onnx", quantized(network(weights), RANGES)))
    assert "int8 without its rounding differs from the reference on 24 crops" in str(row.refused)


@pytest.mark.parametrize(
    "graph, card, said",
    [
        (FP32, CARD.with_(resize="pillow-bilinear"), "has resize pillow-bilinear on its card and the reference opencv"),
        (FP32, CARD.with_(mean=(0.5, 0.5, 0.5)), r"has mean \(0.5, 0.5, 0.5\) on its card and the reference"),
        (FP32, CARD.with_(architecture="other"), "has architecture other on its card and the reference tiny"),
    ],
)
def test_a_card_that_is_not_its_models_is_refused(graph: Graph, card: ModelCard, said: str, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=said):
        refused = verified(written(tmp_path / "small.onnx", graph, card)).refused
        assert refused is not None
        raise refused


def engine_card_of(file: Path, engine: Path, precision: str) -> None:
    """Write the card of an engine, as if one was built of ``file``."""
    model, options = CARD.with_(precision=precision), {"batches": [1, 4, 8]}
    card = EngineCard(model, sha256_of(file), "tensorrt", "10.3.0", engine_sha256="ab" * 32, options=options)
    EngineCard.path_for(engine).write_text(card.to_json())


def test_an_engine_is_held_to_its_own_file_too(tmp_path: Path) -> None:
    """Another rounding of the same model is near enough to FP32 for INT8, and not the engine of this file."""
    own = written(tmp_path / "small.onnx", INT8)
    wider = {name: 2 * amax for name, amax in RANGES.items()}
    other = written(tmp_path / "other.onnx", quantized(FP32, wider))
    engine = tmp_path / "small.engine"
    engine_card_of(own, engine, "int8")
    row = verified(engine, own)
    assert not row.refused and row.note == "" and row.parity and row.parity.batches == (1, 4, 8)
    assert str(verified(engine, other).refused).startswith("beside ONNX Runtime on small.onnx, engine differs from")
    assert not verified(other).refused
    engine_card_of(other, engine, "int8")
    row = verified(engine, own)
    assert not row.refused and "was not compared with its own ONNX file" in row.note and "small.onnx" in row.note


def test_an_engines_precision_is_that_of_its_file(tmp_path: Path) -> None:
    """An engine with INT8 on its card, built of an FP32 file."""
    own, engine = written(tmp_path / "small.onnx", FP32), tmp_path / "small.engine"
    engine_card_of(own, engine, "fp32")
    other = written(tmp_path / "other.onnx", INT8)
    assert "says int8 on its card and computes in fp32" in str(verified(engine, other).refused)


def test_an_engine_beside_its_own_file_by_limits_of_its_own(tmp_path: Path) -> None:
    file = written(tmp_path / "small.onnx", INT8)
    with OnnxEngine(file) as engine:
        assert check_engine(engine, file, IMAGES).max_error == 0
    weights = random_weights()
    weights["model.fc.0.bias"][0] += 0.5
    with (
        OnnxEngine(written(tmp_path / "other.onnx", quantized(network(weights), RANGES))) as engine,
        pytest.raises(GateError, match=r"beside ONNX Runtime on small\.onnx, engine differs .*: build it again"),
    ):
        check_engine(engine, file, IMAGES)


def test_a_row_is_plain_json(tmp_path: Path) -> None:
    row = verified(written(tmp_path / "small.onnx", FP32))
    assert json.loads(json.dumps(row.to_dict()))["crops"] == 24
