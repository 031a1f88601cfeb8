"""The built-in model: the same bytes everywhere, sound ONNX, and the embeddings of its definition."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from reid_edge.api.doctor.builtin_model import BUILTIN_NAME, builtin_model, write_builtin_model
from reid_edge.card import IMAGENET_MEAN, IMAGENET_STD
from reid_edge.engines.onnx_file import check_content
from reid_edge.engines.registry import open_engine
from reid_edge.errors import ModelError
from reid_edge.export.graph.io import read_graph

SHA256 = "dfda4ffc46a5b56f86b7529bc88a7420b7974f0a6c3a9f2833d482ed1bdbe50f"


def test_its_bytes_are_the_same_on_every_machine_and_python() -> None:
    """Change it on purpose only: figures of two machines would no longer be of one model."""
    assert hashlib.sha256(builtin_model()).hexdigest() == SHA256
    assert len(builtin_model()) < 100_000


def test_it_is_sound_onnx_in_the_form_of_an_export(tmp_path: Path) -> None:
    onnx.checker.check_model(onnx.load_from_string(builtin_model()), full_check=True)
    graph, card = read_graph(write_builtin_model(tmp_path))
    assert card.architecture == BUILTIN_NAME and card.sealed and card.precision == "fp32"
    assert [node.op_type for node in graph.model.graph.node][:3] == ["Cast", "Transpose", "Sub"]


def test_damage_to_it_is_seen() -> None:
    content = bytearray(builtin_model())
    content[5000] ^= 1
    with pytest.raises(ModelError, match="damaged"):
        check_content(bytes(content), "built-in")


def _by_definition(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Its formula in NumPy: blocks of 8x8 pixels against each kernel, stripes, a product, a norm."""
    weights = {
        each.name: numpy_helper.to_array(each) for each in onnx.load_from_string(builtin_model()).graph.initializer
    }
    pixels = (images / 255 - IMAGENET_MEAN) / IMAGENET_STD  # [N, 256, 128, 3]
    blocks = pixels.reshape(len(images), 32, 8, 16, 8, 3)  # [N, rows, 8, columns, 8, 3]
    maps = np.maximum(np.einsum("nrycxb,kbyx->nkrc", blocks, weights["kernel"].astype(np.float64)), 0)
    stripes = maps.reshape(len(images), 32, 8, 4, 16).mean(axis=(3, 4))  # [N, 32, 8]
    projected = stripes.reshape(len(images), -1) @ weights["projection"].astype(np.float64)
    return np.asarray(projected / np.linalg.norm(projected, axis=1, keepdims=True), np.float64)


def test_its_embeddings_are_those_of_its_definition(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 256, 128, 3), np.uint8)
    images[0] = 255
    with open_engine(write_builtin_model(tmp_path), threads=1) as engine:
        np.testing.assert_allclose(engine.run(images), _by_definition(images), atol=2e-6)
